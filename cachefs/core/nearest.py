"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable
from itertools import islice

_COMPARED_COUNT = 10_000
"""Names that are compared at most: it takes well below a second."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the question whether the nearest known name was meant; empty if none is near."""
    nearest = difflib.get_close_matches(name, islice(known, _COMPARED_COUNT), n=1)
    return f"did you mean {nearest[0]}?" if nearest else ""
