"""Renderings: a hint in the form that each scheduler takes.

All are pure functions of a hint and the question that it answers, and say no more than the hint: its
seconds become whatever scale, expression or order the scheduler knows. A hint without an opinion
becomes the form that changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Question

Rendering = Callable[[Hint, Question], Any]  # Any: JSON, as each scheduler wants it

RENDERINGS: Mapping[str, Rendering] = {}
"""By the name of the scheduler's form: what ``cachefs hint --format`` offers."""
