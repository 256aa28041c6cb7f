"""How much answers are alike, word by word."""

import itertools
from difflib import SequenceMatcher
from statistics import fmean

import trio

from clinvoker.fanout.results import Agreement, Similarity
from clinvoker.fanout.task import Task

MOST = 500
"""Words of an answer that are looked at: it takes time with their square."""

SHORT = 1000
"""Characters that take less time than a thread."""


async def agreement(tasks: list[Task]) -> Agreement:
    """Compare all answers that were completed, two at a time."""
    answers = [(task.backend, task.output) for task in tasks if task.status == "completed"]
    pairs: list[Similarity] = []
    for (one, this), (other, that) in itertools.combinations(answers, 2):
        if len(this) + len(that) <= SHORT:
            alike = similarity(this, that)
        else:
            # In a thread, and in steps: the event loop goes on meanwhile.
            alike = await trio.to_thread.run_sync(similarity, this, that)
        pairs.append(Similarity((one, other), alike))
    mean = round(fmean(pair.similarity for pair in pairs), 4) if pairs else None
    return Agreement(mean, pairs)


def similarity(one: str, other: str) -> float:
    """How alike two texts are: 1 for the same words, 0 for none in common."""
    if one == other:
        return 1.0
    matcher = SequenceMatcher(None, one.split()[:MOST], other.split()[:MOST], autojunk=False)
    return round(matcher.ratio(), 4)
