"""A stand-in for the daemon: agents with tools of every kind, a guardian, and then it just lives on.

    python daemon.py ROOT [--no-guardian]

Prints its marker prefix and the guardian's pid (0 for none) when everything is up.
"""

import os
import sys

sys.path.insert(0, sys.argv[1])

import trio

from actors.guardian import keep_guardian
from actors.marker import Instance
from actors.process import Launch, open_process

AGENT = """
trap '' TERM INT HUP
setsid sleep 1000 &
(setsid sh -c 'trap "" TERM; sleep 1000; sleep 1000' &)
env -i sleep 1000 &
sleep 1000 &
echo up
sleep 1000
sleep 1000
"""


async def agent(instance: Instance, serial: int, *, task_status: trio.TaskStatus[None]) -> None:
    launch = Launch(("sh", "-c", AGENT), {"PATH": os.environ["PATH"]}, "/")
    async with open_process(launch, marker=instance.marker(serial), grace=1.0) as process:
        async for _ in process.receive_lines():
            task_status.started()
            await trio.sleep_forever()


async def main() -> None:
    instance = Instance.current()
    async with trio.open_nursery() as nursery:
        pid = 0 if "--no-guardian" in sys.argv else await nursery.start(keep_guardian, instance)
        for serial in range(2):
            await nursery.start(agent, instance, serial)
        print(instance.prefix, pid, flush=True)  # noqa: T201 - how it talks


trio.run(main)
