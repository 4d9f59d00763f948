"""Consumers: the endpoints that schedulers call in forms of their own, and what is told to others.

Each turns what a scheduler sends into a :class:`~cachefs.core.hints.asking.Question`, asks, and answers
in the scheduler's form. All fail open: whatever goes wrong, the scheduler is told that we have no
opinion, and does what it would have done without us.
"""

from collections.abc import Callable, Sequence

from fastapi import APIRouter

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Question

Ask = Callable[[Question], Hint]


def routers(ask: Ask) -> Sequence[APIRouter]:
    """Return the routes for schedulers that ask by themselves.

    Args:
        ask: Answers a question. It is called in threads, several at once, and may raise anything.
    """
    del ask
    return ()
