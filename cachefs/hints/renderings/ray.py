"""Ray's options of tasks and actors: a label selector, and others to fall back on, in order.

Ray's scheduler knows nodes by labels that are given when Ray is started there:
``ray start --labels=cachefs.io/node=$(hostname)``. Each selector names nodes that are alike, as
``in(n1, n2)``; between those Ray chooses as it always does. The last one selects nothing, so any node is
better than none; it must be ``{"label_selector": {}}``, since Ray refuses an empty dictionary.
"""

import re
from collections.abc import Sequence
from typing import Any

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Question
from cachefs.hints.renderings.marks import WORKER_NODE
from cachefs.hints.renderings.scales import TERMS_MAX, binds, groups, tells_apart

_VALUE = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?", re.ASCII)
"""What Ray takes as a label's value."""


def ray(hint: Hint, question: Question, *, label: str = WORKER_NODE) -> dict[str, Any]:
    """Return keyword arguments of Ray's ``options``; empty without an opinion.

    A gang has ``bundle_label_selector``, for a placement group with a bundle for each member. Ray has no
    way to fall back from these: whoever uses them asks again without, should the group not be ready
    in time.
    """
    if hint.gang is not None:
        names = hint.gang.assignment
        named = all(_VALUE.fullmatch(name) for name in names)
        return {"bundle_label_selector": [{label: name} for name in names]} if named else {}
    required = binds(hint, question)
    if not (tells_apart(hint) or required):
        return {}
    selectors = [
        {label: _in(group)} for names in groups(hint.nodes[:TERMS_MAX]) if (group := _values(names))
    ]
    if not selectors:
        return {}
    fallbacks: list[dict[str, Any]] = [{"label_selector": each} for each in selectors[1:]]
    if not required:
        fallbacks.append({"label_selector": {}})
    return {"label_selector": selectors[0], "fallback_strategy": fallbacks}


def _values(names: Sequence[str]) -> list[str]:
    return [name for name in names if _VALUE.fullmatch(name)]


def _in(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"in({', '.join(names)})"
