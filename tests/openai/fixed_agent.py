"""An ACP agent with fixed answers: the words of its command line, one a turn of a conversation, the last for the rest."""

import json
import sys


def send(**members):
    """Write a message."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **members}) + "\n")
    sys.stdout.flush()


def main(answers):
    """Serve until the input ends."""
    turns = {}
    for line in sys.stdin:
        message = json.loads(line)
        method, request, params = message.get("method"), message.get("id"), message.get("params", {})
        if method == "initialize":
            send(id=request, result={"protocolVersion": 1, "agentCapabilities": {}})
        elif method == "session/new":
            session = f"s{len(turns)}"
            turns[session] = 0
            send(id=request, result={"sessionId": session})
        elif method == "session/prompt":
            session = params["sessionId"]
            text = answers[min(turns[session], len(answers) - 1)].replace("\\n", "\n")
            turns[session] += 1
            update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
            send(method="session/update", params={"sessionId": session, "update": update})
            send(id=request, result={"stopReason": "end_turn"})
        elif request is not None:
            send(id=request, result={})


if __name__ == "__main__":
    main(sys.argv[1:])
