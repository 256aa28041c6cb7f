"""What the tests of the actors share: actors under a child's roof, an observer that remembers, cancelling at a step."""

from contextlib import asynccontextmanager

import trio

from actors.supervisor import Child


class Records(list):
    """An observer that remembers what it was told."""

    def __call__(self, record):
        self.append(record)

    def of(self, kind):
        return [record for record in self if isinstance(record, kind)]


class Running:
    """One actor that runs, as a supervisor would run it."""

    def __init__(self, child):
        self.child = child
        self.ref = child.mailbox.ref
        self.ended = trio.Event()
        self.error = None

    def note_end(self, child, error):
        child.mailbox.close()
        self.error = error
        self.ended.set()


@asynccontextmanager
async def running(actor, observe=None, *, shutdown=5.0):
    """Run an actor until the block is left."""
    async with trio.open_nursery() as nursery:
        one = Running(Child(type(actor).__name__.lower(), lambda: actor, shutdown))
        one.child.start(nursery, Records() if observe is None else observe, one.note_end)
        try:
            yield one
        finally:
            await one.child.stop()


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope just before the n-th step that any task makes; `reached` tells whether there were that many."""

    def __init__(self, scope, step):
        self._scope = scope
        self._left = step
        self.reached = False

    def before_task_step(self, task):
        del task
        self._left -= 1
        if self._left == 0:
            self.reached = True
            self._scope.cancel()

    def __enter__(self):
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(self, *exc_info):
        trio.lowlevel.remove_instrument(self)


async def settle():
    """Let every task go on until all of them wait."""
    await trio.testing.wait_all_tasks_blocked()


def leaves(error):
    """The exceptions in a group of groups; of a lone exception, itself."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]
