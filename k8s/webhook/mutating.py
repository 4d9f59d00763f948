"""Reviews: a pod that is being created gets affinity and is injected into, in one call.

The affinity is asked for first, about the pod as its author wrote it; its patch is made to a draft, into which
is injected then. Either may fail: then the pod gets the other, and a warning that whoever created it sees.
Whatever happens, the pod is allowed. A pod that was here before carries annotations that say so, and is left
alone, each part by itself, so being called again changes nothing.
"""

import base64
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cachefs.errors import CacheFSError, ConfigError
from cachefs.hints.consumers.fields import document, objects, text, texts
from cachefs.hints.consumers.fields import field as at
from cachefs.k8s.names import HINTED
from cachefs.k8s.webhook.drafting import Draft, Operation
from cachefs.k8s.webhook.injecting import Injecting

_WARNINGS_MAX = 8
_WARNING_CHARACTERS_MAX = 256
"""API servers may cut longer ones."""
_NOT_A_REVIEW = "cachefs: what was sent is not an AdmissionReview, and nothing was changed"

_log = logging.getLogger("cachefs.webhook")

AskAffinity = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""From a review to the coordinator's answer to it."""


@dataclass(slots=True)
class Outcome:
    """What became of a review, for the metrics."""

    injected: str = ""
    """What the pod was given; empty for nothing."""
    hinted: bool = False
    failures: list[str] = field(default_factory=list)
    """What went wrong: ``hint``, ``inject``, ``request``."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """Answers reviews; safe from any thread."""

    ask: AskAffinity
    injecting: Injecting

    def answer(self, body: bytes) -> tuple[Mapping[str, Any], Outcome]:
        """Return the review that answers a request's body, and what became of it; raises nothing."""
        outcome = Outcome()
        warnings: list[str] = []
        operations: Sequence[Operation] = ()
        uid = ""
        try:
            review = document(body)
            uid = text(review, "request", "uid")
            if uid:
                operations = self._operations(review, warnings, outcome)
            else:
                outcome.failures.append("request")
                warnings.append(_NOT_A_REVIEW)
        except ConfigError:
            outcome.failures.append("request")
            warnings.append(_NOT_A_REVIEW)
        except Exception:  # noqa: BLE001 - the boundary of a request: a bug must not keep a pod from being made
            _log.exception("a review met a bug")
            outcome.failures.append("request")
            operations = ()
        return _answered(uid, operations, warnings), outcome

    def _operations(
        self, review: Mapping[str, Any], warnings: list[str], outcome: Outcome
    ) -> Sequence[Operation]:
        request = at(review, "request")
        pod = at(request, "object")
        is_new_pod = (
            text(request, "operation") == "CREATE"
            and text(request, "kind", "kind") == "Pod"
            and not text(request, "subResource")
            and bool(objects(pod, "spec", "containers"))
        )
        if not is_new_pod:
            return ()
        draft = Draft(pod)
        if texts(pod, "metadata", "labels").get(HINTED) == "true":
            self._hint(draft, review, warnings, outcome)
        before = list(draft.operations)
        try:
            namespace = text(request, "namespace") or text(pod, "metadata", "namespace")
            outcome.injected = self.injecting.change(draft, namespace, warnings)
        except CacheFSError as error:
            outcome.failures.append("inject")
            warnings.append(f"cachefs injects nothing into this pod: {error}")
            return before
        except Exception:  # noqa: BLE001 - likewise: what was found before is still of use
            _log.exception("injecting met a bug")
            outcome.failures.append("inject")
            return before
        return draft.operations

    def _hint(
        self, draft: Draft, review: Mapping[str, Any], warnings: list[str], outcome: Outcome
    ) -> None:
        try:
            answer = at(self.ask(review), "response")
            encoded = text(answer, "patch")
            patch = json.loads(base64.b64decode(encoded, validate=True)) if encoded else []
            draft.take(patch)
        except CacheFSError as error:
            outcome.failures.append("hint")
            warnings.append(f"cachefs has no hint for this pod: {error.message}")
            return
        except Exception:  # noqa: BLE001 - likewise: what the coordinator said is no patch, or we are wrong
            _log.exception("a hint met a bug")
            outcome.failures.append("hint")
            return
        outcome.hinted = bool(patch)
        told = at(answer, "warnings")
        warnings += [
            each for each in (told if isinstance(told, list) else ()) if isinstance(each, str)
        ]


def _answered(uid: str, operations: Sequence[Operation], warnings: Sequence[str]) -> dict[str, Any]:
    response: dict[str, Any] = {"uid": uid, "allowed": True}
    if operations:
        encoded = base64.b64encode(json.dumps(list(operations), separators=(",", ":")).encode())
        response |= {"patchType": "JSONPatch", "patch": encoded.decode("ascii")}
    if warnings:
        response["warnings"] = [_short(each) for each in warnings[:_WARNINGS_MAX]]
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


def _short(warning: str) -> str:
    """Return a warning in one printable line of a length that API servers take."""
    line = "".join(each if each.isprintable() else " " for each in warning)
    return (
        line if len(line) <= _WARNING_CHARACTERS_MAX else f"{line[: _WARNING_CHARACTERS_MAX - 1]}…"
    )
