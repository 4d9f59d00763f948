"""What the pure functions may ask for. An action done twice is as an action done once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachefs.k8s.names import Kind

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Apply:
    """Make an object as this document says; what it does not say stays others' (server-side apply)."""

    document: Document


@dataclass(frozen=True, slots=True)
class Create:
    """Make an object unless there is one of its name."""

    document: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Change fields of an object (a JSON merge patch)."""

    kind: Kind
    name: str
    namespace: str = ""
    patch: Document
    subresource: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Remove an object."""

    kind: Kind
    name: str
    namespace: str = ""
    uid: str = ""
    """Only if it is the very one; empty for any of the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Ask the coordinator for something, over its HTTP API."""

    method: str
    path: str
    body: Document | None = None
    seconds: float = 30.0
    """How long it may take; listing a large origin takes minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Tell whoever looks at an object what happened."""

    about: Document
    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """Write into the ledger what is ours."""

    namespace: str
    name: str
    line: str | None
    """What it says of a dataset; ``None``: it is not ours any more."""


Action = Apply | Create | Patch | Delete | Ask | Tell | Note


def includes(found: object, wanted: object) -> bool:
    """Say whether a document says all that another says, whatever it says besides.

    Lists are compared item by item: what a server adds, it adds to objects.
    """
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            name in found and includes(found[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(found, list | tuple)
            and len(found) == len(wanted)
            and all(includes(one, other) for one, other in zip(found, wanted, strict=True))
        )
    return found == wanted
