"""Volcano's extender plugin: ``nodeScore``, which it adds to other plugins' scores as it is.

Volcano does not scale what extenders answer, so the weight is ours to apply; it comes with the request.
An answer without ``nodeScore`` is an error to Volcano. No opinion is therefore a zero for every node.
"""

from collections.abc import Sequence
from typing import Any

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Question
from cachefs.hints.renderings.scales import in_hundredths, seconds_of


def node_scores(hint: Hint, names: Sequence[str], *, weight: float = 1.0) -> dict[str, Any]:
    """Return 0 to 100 times the weight for each name."""
    scores = in_hundredths(seconds_of(hint))
    return {
        "nodeScore": {name: round(weight * scores.get(name, 0.0), 2) for name in names},
        "errorMessage": "",
    }


def volcano(hint: Hint, question: Question) -> dict[str, Any]:
    """Return a score for each candidate, or for each node of the hint if none were named."""
    return node_scores(hint, question.candidates or tuple(seconds_of(hint)))
