"""How consumers ask: by a function from a question to a hint, whoever answers."""

from collections.abc import Callable

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Question

Ask = Callable[[Question], Hint]
"""Answers a question. It is called in threads, several at once, and may raise anything."""
