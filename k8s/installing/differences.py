"""Differences: what would become of an object that is there, a line for each part that changes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SHOWN = 60
"""Characters of a value; a configuration has thousands."""
_BEFORE = 20
"""Characters before the place where two long texts begin to differ."""
_NOTHING = "nothing"
_EMPTY: tuple[Any, ...] = ({}, [], None, "")
_THE_SERVERS = frozenset({"managedFields", "resourceVersion", "generation"})
"""Of an object's metadata; with its status, what no apply is about."""


def differences(
    there: Any,  # Any: parts of objects
    wanted: Any,  # Any: the same parts
    where: str = "",
    *,
    removing: bool = False,
) -> Iterator[str]:
    """Yield what is not as it is wanted: ``spec.replicas: 1 → 2``.

    Args:
        there: What is there.
        wanted: What shall be there.
        where: Which part of an object both are; empty for all of it.
        removing: Whether what is not said in ``wanted`` goes. Else it is the server's, or somebody else's, and no
            difference.
    """
    if isinstance(wanted, Mapping) and isinstance(there, Mapping):
        names = [*wanted, *(name for name in there if removing and name not in wanted)]
        for name in names:
            path = f"{where}.{name}" if where else str(name)
            if name not in wanted:
                yield f"{path}: {_shown(there[name])} → {_NOTHING}"
            elif name in there:
                yield from differences(there[name], wanted[name], path, removing=removing)
            elif wanted[name] not in _EMPTY:
                yield f"{path}: {_NOTHING} → {_shown(wanted[name])}"
    elif isinstance(wanted, list | tuple) and isinstance(there, list | tuple):
        yield from _entries(there, wanted, where, removing=removing)
    elif wanted != there:
        yield _texts(there, wanted, where)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield how an object differs from what it was before, as the server has both."""
    yield from differences(_ours(before), _ours(after), removing=True)


def _ours(document: Mapping[str, Any]) -> dict[str, Any]:
    head = document["metadata"]
    metadata = {name: part for name, part in head.items() if name not in _THE_SERVERS}
    return {**{name: document[name] for name in document if name != "status"}, "metadata": metadata}


def _entries(
    there: Sequence[Any], wanted: Sequence[Any], where: str, *, removing: bool
) -> Iterator[str]:
    """Compare lists: by names where all entries have them, else by places, unless some come or go."""
    one, other = _named(there), _named(wanted)
    if (one is None or other is None) and len(there) != len(wanted):
        yield from (f"{where}: {_shown(each)} → {_NOTHING}" for each in there if each not in wanted)
        yield from (f"{where}: {_NOTHING} → {_shown(each)}" for each in wanted if each not in there)
        return
    if one is None or other is None:
        one, other = dict(enumerate(there)), dict(enumerate(wanted))
    for name in [*other, *(name for name in one if name not in other)]:
        path = f"{where}[{name}]"
        if name not in other:
            yield f"{path}: {_shown(one[name])} → {_NOTHING}"
        elif name not in one:
            yield f"{path}: {_NOTHING} → {_shown(other[name])}"
        else:
            yield from differences(one[name], other[name], path, removing=removing)


def _named(entries: Sequence[Any]) -> dict[Any, Any] | None:  # Any: parts of objects
    names = [one.get("name") if isinstance(one, Mapping) else None for one in entries]
    if None in names or len({*names}) != len(names):
        return None
    return dict(zip(names, entries, strict=True))


def _texts(there: Any, wanted: Any, where: str) -> str:  # Any: neither mappings nor lists, both
    """Return how two values differ; of long texts the first place, and of JSON that by its name."""
    if isinstance(there, str) and isinstance(wanted, str):
        documents = _parsed(there), _parsed(wanted)
        if None not in documents:
            first = next(differences(*documents, removing=True), "")
            if first:
                return f"{where}: {first}"
        elif max(len(there), len(wanted)) > _SHOWN:
            pairs = enumerate(zip(there, wanted, strict=False))
            short = min(len(there), len(wanted))
            begins = next((at for at, (one, other) in pairs if one != other), short)
            begins = max(0, begins - _BEFORE)
            return f"{where}: …{_shown(there[begins:])} → …{_shown(wanted[begins:])}"
    return f"{where}: {_shown(there)} → {_shown(wanted)}"


def _parsed(text: str) -> Any:  # Any: a JSON document
    """Return what a text is the JSON of, if that is a mapping or a list."""
    if not text.startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _shown(value: object) -> str:
    text = " ".join(str(value).split())
    if not text:
        return '""'
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
