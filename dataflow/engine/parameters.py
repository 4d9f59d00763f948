"""Parameters of a run: those of the flow, and what differs from them.

A flow's own value says what a parameter is. A text that is given for something else is taken for what a
person typed, and read: as JSON, or for a list as words with commas between them. What all of the flow's
own list are, each of the other must be, too; of a list that is empty or mixed, words stay texts.
"""

import json
from collections.abc import Mapping

from cachefs.core.names import printable
from cachefs.core.nearest import did_you_mean
from cachefs.dataflow.spec.model import Flow, Value
from cachefs.errors import ConfigError

_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    ((int, float), "a number"),
    (str, "a text"),
    (list, "a list"),
    (dict, "a mapping"),
)


def merge(flow: Flow, given: Mapping[str, Value], *, may_be_open: bool = False) -> dict[str, Value]:
    """Return the parameters of a run.

    Args:
        flow: The flow.
        given: What differs from its own.
        may_be_open: Whether some may still have no value: a trigger will give it.

    Raises:
        ConfigError: The flow has no such parameter, it is something else, or one that the flow leaves
            open (``null``) was not given.
    """
    merged = dict(flow.params)
    for name, value in given.items():
        if name not in merged:
            known = ", ".join(merged)
            hint = did_you_mean(name, merged) or (f"it has {known}" if known else "it has none")
            raise ConfigError("the flow has no such parameter", subject=printable(name), hint=hint)
        merged[name] = _fitting(name, value, merged[name])
    for name, value in merged.items():
        if value is None and not may_be_open:
            raise ConfigError(
                f"params.{name} has no value", subject=flow.full_name, hint="give it one"
            )
    return merged


def _fitting(name: str, value: Value, own: Value) -> Value:
    wanted = _kind(own)
    if isinstance(value, str) and wanted not in ("", "a text"):
        value = _read(value, is_list=wanted == "a list")
    if wanted and _kind(value) != wanted:
        raise ConfigError(
            f"the parameter must be {wanted}, not {printable(json.dumps(value))[:80]}",
            subject=printable(name),
        )
    if isinstance(value, list) and len({_kind(one) for one in own or ()}) == 1:
        return [_fitting(f"{name}[{at}]", one, own[0]) for at, one in enumerate(value)]
    return value


def _kind(value: Value) -> str:
    """Return what a value is; empty for ``null``, which may become anything."""
    return next((text for kind, text in _KINDS if isinstance(value, kind)), "")


def _read(text: str, *, is_list: bool) -> Value:
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    if not is_list or isinstance(found, list):
        return found
    return [word.strip() for word in text.split(",")] if text.strip() else []
