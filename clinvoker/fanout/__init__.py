"""Runs of several turns: many at once, one after the other, or one question to many agents.

calls      what a surface asks for
fanouts    what starts them; where a task is run, with a worktree of its own if that is asked for
task       one task: its turn, its end, what it changed
lanes      many tasks at once, and all stopped when one fails
shares     how much of the daemon all fan-outs together may take
parallel, chain, compare    the three kinds: how a call becomes tasks, and tasks become a result
templates  {{previous}} and the like in a step's prompt
agreement  how much answers are alike;  judge: one agent ranks them without knowing whose they are
results    what comes of it all, as the run's last event has it
"""

from clinvoker.fanout.calls import ChainCall, CompareCall, FanoutCall, Isolation, Judge, ParallelCall, Step
from clinvoker.fanout.fanouts import Fanouts

__all__ = [
    "ChainCall",
    "CompareCall",
    "FanoutCall",
    "Fanouts",
    "Isolation",
    "Judge",
    "ParallelCall",
    "Step",
]
