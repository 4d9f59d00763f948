"""Drafts: a pod as it will be, and the JSON patch (RFC 6902) that makes it so.

Every change is noted as an operation and made to a copy at once, so what is added later sees what was
added before: two changes that each find no list do not each make one. Nothing is removed, and nothing that is
there changes its place but for what follows a container that must be first.
"""

import copy
from collections.abc import Sequence
from typing import Any

from cachefs.errors import ConfigError

Operation = dict[str, Any]
Place = tuple[str | int, ...]
"""Keys and indices, from the whole document inwards."""

_END = "-"


class Draft:
    """A pod that is being changed."""

    def __init__(self, pod: Any) -> None:  # Any: JSON
        """Begin with the pod as it is, which stays so."""
        self.pod = copy.deepcopy(pod)
        self.operations: list[Operation] = []

    def take(self, operations: Sequence[Operation]) -> None:
        """Make the changes of somebody else's patch, in their order; all of them, or none.

        Raises:
            ConfigError: The patch does something other than to add, or to a place that is not there.
        """
        pod = copy.deepcopy(self.pod)
        for operation in operations:
            if operation.get("op") != "add":
                raise ConfigError(
                    "a patch that does not only add", subject=str(operation.get("op"))
                )
            _put(pod, _parsed(str(operation.get("path", ""))), operation.get("value"))
        self.pod = pod
        self.operations += operations

    def add(self, place: Place, value: Any) -> None:  # Any: JSON
        """Set a field that is not there; the object it is in must be."""
        self._note("add", place, value)

    def replace(self, place: Place, value: Any) -> None:  # Any: JSON
        """Set a field, or an element of a list, that is there."""
        self._note("replace", place, value)

    def append(self, place: Place, value: Any) -> None:  # Any: JSON
        """Add to the end of a list, which is made if there is none."""
        self._into(place, _END, value)

    def put_first(self, place: Place, value: Any) -> None:  # Any: JSON
        """Add to the beginning of a list, which is made if there is none."""
        self._into(place, 0, value)

    def annotate(self, key: str, value: str) -> None:
        """Give the pod an annotation."""
        if not isinstance(_find(self.pod, ("metadata",)), dict):
            self.add(("metadata",), {})
        if not isinstance(_find(self.pod, ("metadata", "annotations")), dict):
            self.add(("metadata", "annotations"), {})
        self.add(("metadata", "annotations", key), value)

    def _into(self, place: Place, at: str | int, value: Any) -> None:  # Any: JSON
        if _find(self.pod, place):
            self._note("add", (*place, at), value)
        else:
            self._note("add", place, [value])

    def _note(self, op: str, place: Place, value: Any) -> None:  # Any: JSON
        if op == "replace":
            _find(self.pod, place[:-1])[place[-1]] = copy.deepcopy(value)
        else:
            _put(self.pod, place, value)
        self.operations.append({"op": op, "path": _pointer(place), "value": value})


def _find(document: Any, place: Place) -> Any:  # Any: JSON
    """Return what is at a place; ``None`` if there is nothing."""
    for part in place:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def _put(document: Any, place: Place, value: Any) -> None:  # Any: JSON
    holder = _find(document, place[:-1])
    if not place or not isinstance(holder, dict | list):
        raise ConfigError("a patch to what is not there", subject=_pointer(place))
    value = copy.deepcopy(value)
    if isinstance(holder, dict):
        holder[place[-1]] = value
        return
    at = len(holder) if place[-1] == _END else int(place[-1])
    if at > len(holder):
        raise ConfigError("a patch beyond the end of a list", subject=_pointer(place))
    holder.insert(at, value)


def _pointer(place: Place) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in place)


def _parsed(pointer: str) -> Place:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    # In an object of Kubernetes, no key that a patch of ours names consists of digits.
    return tuple(int(part) if part.isascii() and part.isdigit() else part for part in parts)
