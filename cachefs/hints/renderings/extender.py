"""The kube-scheduler extender's ``HostPriorityList``: whole scores of 0 to 10, with Go's field names.

Ten steps are few, so they are of equal ratios of seconds. Nodes of which nothing is known, and those
that could not take the job, have 0; without an opinion all have.
"""

from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Question
from cachefs.hints.renderings.scales import in_tenths, seconds_of, tells_apart


def scores_of(hint: Hint, names: Sequence[str]) -> dict[str, int]:
    """Return the scores that are not 0, and perhaps some that are."""
    if tells_apart(hint) or _has_strangers(hint, names):
        return in_tenths(seconds_of(hint))
    return {}


def priorities(hint: Hint, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a score for each name, in their order."""
    scores = scores_of(hint, names)
    return [{"Host": name, "Score": scores.get(name, 0)} for name in names]


def encoded(scores: Mapping[str, int], names: Sequence[str]) -> bytes:
    """Return a score for each name as JSON.

    For thousands of names in each of a scheduler's cycles: five thousand dictionaries would cost more
    than all else, and the collector's time besides.
    """
    parts = [f'{{"Host":{quoted(name)},"Score":{scores.get(name, 0)}}}' for name in names]
    return f"[{','.join(parts)}]".encode("ascii")


def extender(hint: Hint, question: Question) -> list[dict[str, Any]]:
    """Return a score for each candidate, or for each node of the hint if none were named."""
    return priorities(hint, question.candidates or tuple(seconds_of(hint)))


def _has_strangers(hint: Hint, names: Sequence[str]) -> bool:
    """Return whether some of the names are worse off for not being in the hint at all."""
    known = seconds_of(hint)
    return bool(known) and any(name not in known for name in names)
