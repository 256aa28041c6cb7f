"""The program that an agent starts as an MCP server: it connects the agent's pipes with the gate, and ends with either.

The standard library alone, run by its path: it is there in 20 ms. `CLINVOKER_TOOLS` says where the gate is, and is the
key to one conversation's tools.
"""

import os
import socket
import sys
import threading

VARIABLE = "CLINVOKER_TOOLS"

_PIECE = 64 * 1024


def _pass_on_answers(link: socket.socket) -> None:
    while piece := link.recv(_PIECE):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    os._exit(0)


def main() -> None:
    """Pass everything on, both ways, until one side ends."""
    address, _, key = os.environ[VARIABLE].partition(":")
    link = socket.socket(socket.AF_UNIX)
    link.connect(f"\0{address}")
    link.sendall(f"{key}\n".encode())
    threading.Thread(target=_pass_on_answers, args=(link,), daemon=True).start()
    while piece := os.read(0, _PIECE):
        link.sendall(piece)
    os._exit(0)


if __name__ == "__main__":
    main()
