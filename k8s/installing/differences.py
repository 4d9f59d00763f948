"""Differences: what applying a document would change of the object that is there."""

from collections.abc import Iterator, Mapping
from typing import Any

_SHOWN = 60
"""Characters of a value; a configuration has thousands."""


def differences(wanted: Any, there: Any, where: str = "") -> Iterator[str]:  # Any: parts of objects
    """Yield what is not as it is wanted: ``spec.replicas: 1, not 2``.

    What is not said in ``wanted`` is the server's, or somebody else's, and no difference.
    """
    if isinstance(wanted, Mapping) and isinstance(there, Mapping):
        for name, value in wanted.items():
            path = f"{where}.{name}" if where else str(name)
            if name in there:
                yield from differences(value, there[name], path)
            elif value not in ({}, [], None, ""):
                yield f"{path}: not there, but {_shown(value)} is wanted"
    elif isinstance(wanted, list | tuple) and isinstance(there, list | tuple):
        if len(wanted) != len(there):
            yield f"{where}: {len(there)} entries, not {len(wanted)}"
            return
        for at, (one, other) in enumerate(zip(wanted, there, strict=True)):
            yield from differences(one, other, f"{where}[{at}]")
    elif wanted != there:
        yield f"{where}: {_shown(there)}, not {_shown(wanted)}"


def _shown(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
