"""Standing: what an object's status says, as Kubernetes' conventions have it.

A condition's ``lastTransitionTime`` changes when its status does, and never else; a status that says what
it said before is not written again. Otherwise each look would be a change, and each change a look.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from cachefs.errors import CacheFSError
from cachefs.k8s.kinds import of
from cachefs.k8s.operator.actions import Action, Document, Patch, Tell

MESSAGE_CHARACTERS_MAX = 2000
"""A condition's message may have 32 768; nobody reads so much."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One aspect of how an object is."""

    kind: str
    """``Ready`` and the like."""
    status: Literal["True", "False", "Unknown"]
    reason: str
    """Why, in one word ``LikeThis``, for programs."""
    message: str = ""
    """Why, for people."""


def moment(seconds: float) -> str:
    """Return a time as Kubernetes writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def found_condition(document: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return a condition of an object; an empty one if it has none of the kind."""
    status = document.get("status") or {}
    for one in status.get("conditions") or ():
        if one.get("type") == kind:
            return dict(one)
    return {}


def conditions(
    document: Mapping[str, Any], wanted: Iterable[Condition], *, at: float
) -> list[Document]:
    """Return the conditions of an object in place of those that it has.

    Args:
        document: The object as it was read.
        wanted: What is so now.
        at: The time, in seconds since 1970.
    """
    generation = document["metadata"].get("generation", 0)
    found = []
    for one in wanted:
        before = found_condition(document, one.kind)
        same = before.get("status") == one.status
        found.append(
            {
                "type": one.kind,
                "status": one.status,
                "reason": one.reason,
                "message": one.message[:MESSAGE_CHARACTERS_MAX],
                "lastTransitionTime": before["lastTransitionTime"] if same else moment(at),
                "observedGeneration": generation,
            }
        )
    return found


def show(document: Document, status: Document) -> tuple[Action, ...]:
    """Return what makes an object's status say this; nothing if it says so.

    A condition that turns bad, or good again, is an event besides. What several conditions say in the same words
    is told once, and not again as long as one of them says so.

    Args:
        document: The object as it was read.
        status: All that its status shall say; what it says besides is removed.
    """
    before = document.get("status") or {}
    changed = {name: value for name, value in status.items() if before.get(name) != value}
    changed |= {name: None for name in before if name not in status}
    if not changed:
        return ()
    head = document["metadata"]
    patch = Patch(
        kind=of(document),
        name=head["name"],
        namespace=head.get("namespace", ""),
        patch={"status": changed},
        subresource="status",
    )
    return (patch, *_events(document, status))


def _events(document: Document, status: Document) -> Iterable[Tell]:
    said = (document.get("status") or {}).get("conditions", ())
    told = {_words(one) for one in said if _is_bad(one)}
    # What is bad comes first: it is a warning, whatever else is only unknown for the same reason.
    for one in sorted(status.get("conditions", ()), key=lambda one: not _is_bad(one)):
        before = found_condition(document, one["type"])
        if one["type"] == "Ready" or (one["status"] == "False" and one["type"] == "Synced"):
            news = (one["status"], one["reason"]) != (before.get("status"), before.get("reason"))
            news = news or (_is_bad(one) and _words(one) != _words(before))
            if news and _words(one) not in told and (before or one["status"] != "Unknown"):
                told.add(_words(one))
                yield Tell(
                    about=document,
                    reason=one["reason"],
                    message=one["message"] or one["reason"],
                    warning=_is_bad(one),
                )


def _is_bad(condition: Mapping[str, Any]) -> bool:
    """Say whether somebody should look."""
    return condition["status"] == "False" and condition["reason"] not in _HARMLESS


def _words(condition: Mapping[str, Any]) -> tuple[object, object]:
    return condition.get("reason"), condition.get("message")


_HARMLESS = ("Listing", "Starting", "Scaling")
"""Reasons for which nobody needs to look."""
_PATHS = ("/api/", "/apis/")
"""How the subject begins of what an API server did not do."""


def reason_of(error: CacheFSError) -> str:
    """Return the word for a failure, as conditions have it: ``OriginDenied``."""
    return type(error).__name__.removeprefix("_").removesuffix("Error") or "Failed"


def words_of(error: CacheFSError) -> str:
    """Return what a failure says to people; paths of the API server's, which are for logs, are left out."""
    if not error.subject.startswith(_PATHS):
        return str(error)
    return f"{error.message} ({error.hint})" if error.hint else error.message
