"""An agent for the runner's tests: a line in, some lines out. What a turn does is its prompt's first word.

in:  open | turn CONVERSATION WHAT ... | interrupt CONVERSATION | close CONVERSATION | go
out: ready | opened CONVERSATION | word CONVERSATION TEXT | ask CONVERSATION | done CONVERSATION | idle CONVERSATION
"""

# ruff: noqa: T201, C901 - it speaks by printing, and one look at `turn` shows all it can do

import os
import signal
import subprocess
import sys
import time


def say(*words):
    print(*words, flush=True)


def turn(conversation, what, *rest):
    match what:
        case "say":
            for word in rest:
                say("word", conversation, word)
            say("done", conversation)
        case "flood":
            sys.stdout.write(f"word {conversation} {'x' * 50}\n" * int(rest[0]))
            sys.stdout.flush()
            if "end" in rest:
                say("done", conversation)
        case "ask":
            say("word", conversation, "may-I")
            say("ask", conversation)
        case "exit" | "kill":
            say("word", conversation, "last")
            print("boom: api_key=sk-verysecretvalue", file=sys.stderr, flush=True)
            if what == "exit":
                sys.exit(3)
            os.kill(os.getpid(), signal.SIGKILL)
        case "stray":
            child = subprocess.Popen(["sleep", "60"], start_new_session=True)
            say("word", conversation, child.pid)
            say("done", conversation)
        case "linger":
            say("lingering")
            say("done", conversation)
        case "nonsense":
            say("what")
            say("is this")
            say("done", conversation)
        case _:
            pass  # silence, until interrupted


def main():
    match sys.argv[1:]:
        case ["exit"]:
            print("no config", file=sys.stderr)
            sys.exit(2)
        case ["hang"]:
            time.sleep(60)
        case _:
            say("ready")
    opened = 0
    deaf = "deaf" in sys.argv
    for line in sys.stdin:
        match line.split():
            case ["open"]:
                opened += 1
                say("opened", f"c{opened}")
            case ["turn", conversation, *what]:
                turn(conversation, *what)
            case ["interrupt", conversation] if not deaf:
                say("idle", conversation)
            case ["close", conversation]:
                say("closed", conversation)
            case ["go", conversation]:
                say("done", conversation)


main()
