"""Fluid's data operations as one flow: DataLoad, DataMigrate, DataProcess and DataBackup.

A file has any number of documents. Each operation becomes a step, or one for each number of replicas that a
DataLoad asks for; ``runAfter`` becomes ``needs``; the policy of the operation that all others run after
becomes the flow's trigger. What Fluid says of its own pods and runtimes has no counterpart, and what its
operations say that a flow cannot, is refused: each with its place, all at once. The kinds are in
:mod:`.operations`.

Fluid's operations are jobs with three tries, and done when the job is. Here a ``prefetch`` is done when the
files are resident and verified, and a failed step fails what runs after it at once.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cachefs.core.cron import parse as parse_cron
from cachefs.core.names import DEFAULT_NAMESPACE
from cachefs.dataflow.importing import operations
from cachefs.dataflow.importing.operations import KINDS, Json, Operation, Sources
from cachefs.dataflow.importing.parts import Account, Part, shown
from cachefs.dataflow.spec.document import Document, read_document
from cachefs.dataflow.spec.problems import FlowDocumentError
from cachefs.dataflow.spec.reading import read_flow
from cachefs.errors import ConfigError

FILE_BYTES_MAX = 1024 * 1024
DOCUMENTS_MAX = 1000
FLUID_TRIES = 3
"""Fluid's jobs have a ``backoffLimit`` of 3."""

_API = "data.fluid.io/"
_MARK = re.compile(r"^---(?:[ \t].*)?$")
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@dataclass(frozen=True, slots=True)
class Imported:
    """A flow's document, and what of the file is not in it."""

    document: Json
    notes: tuple[str, ...]


def read_fluid(text: str, *, file: str, name: str = "") -> Imported:
    """Return a file of Fluid's as a flow.

    Args:
        text: YAML, or JSON.
        file: Its name, for messages.
        name: Of the flow; that of the first operation without it.

    Raises:
        ConfigError: A ``FlowDocumentError`` with all that a flow cannot say.
    """
    if len(text) > FILE_BYTES_MAX:
        raise ConfigError(f"more than {FILE_BYTES_MAX} bytes", subject=file)
    account = Account()
    reading = _Reading(account)
    for document in _documents(text, file):
        reading.take(document)
    if not reading.operations and not account.problems:
        raise ConfigError("there is no operation in it", subject=file, hint=_KNOWN)
    document_of = reading.flow(name)
    if account.problems:
        raise FlowDocumentError(account.problems)
    try:
        read_flow(json.dumps(document_of), name=f"the flow that {file} becomes")
    except FlowDocumentError as error:
        raise ConfigError(
            error.message, hint="change that in the file, and import it again"
        ) from error
    return Imported(document_of, tuple(account.notes))


_KNOWN = f"{', '.join(KINDS)} are known"


def _documents(text: str, file: str) -> Iterator[Document]:
    """Yield the documents of a file, each at its own lines."""
    chunk: list[str] = []
    before = count = 0
    for number, line in enumerate([*text.splitlines(), "---"], start=1):
        if not _MARK.match(line):
            chunk.append(line)
            continue
        if any(one.strip() and not one.lstrip().startswith("#") for one in chunk):
            count += 1
            if count > DOCUMENTS_MAX:
                raise ConfigError(f"more than {DOCUMENTS_MAX} documents", subject=file)
            yield read_document("\n" * before + "\n".join(chunk) + "\n", file=file)
        chunk, before = [], number


@dataclass(slots=True)
class _Reading:
    account: Account
    operations: list[Operation] = field(default_factory=list)
    sources: Sources = field(default_factory=Sources)

    def take(self, document: Document) -> None:
        """Take a document, or each item of a ``List``."""
        value = document.value
        items = value.get("items") if isinstance(value, Mapping) else None
        if isinstance(value, Mapping) and value.get("kind") == "List" and isinstance(items, list):
            for index, item in enumerate(items):
                self._take(document, ("items", index), item)
        else:
            self._take(document, (), value)

    def _take(self, document: Document, path: tuple[str | int, ...], value: object) -> None:
        whole = Part(self.account, document, "document", path, value)
        api, kind = whole.text("apiVersion"), whole.text("kind")
        metadata = whole.part("metadata")
        name = metadata.text("name")
        whole.subject = metadata.subject = f"{kind} {name}".strip()
        if not api.startswith(_API):
            whole.refuse("apiVersion", f"{shown(api)} is not Fluid's", f"{_API}v1alpha1 is")
        elif kind not in KINDS:
            self._pass_over(kind, name, whole)
        elif not name:
            metadata.refuse("name", "an operation without a name")
        else:
            namespace = metadata.text("namespace") or DEFAULT_NAMESPACE
            metadata.leave("runs have the flow's labels", "labels", "annotations")
            self.operations.append(
                Operation(kind=kind, name=name, namespace=namespace, spec=whole.part("spec"))
            )

    def _pass_over(self, kind: str, name: str, whole: Part) -> None:
        if kind == "Dataset":
            self.sources.add(name, whole.part("spec"))
            self.account.note(f"Dataset {name}", "declare it with `cachefs dataset add`")
        elif kind.endswith(("Runtime", "RuntimeClass")):
            self.account.note(f"{kind} {name}", "is left out: workers are not part of a flow")
        else:
            whole.refuse("kind", f"{shown(kind)} is no operation", _KNOWN)

    def flow(self, name: str) -> Json:
        """Return the flow of what was taken."""
        if not self.operations:
            return {}
        namespace = self.operations[0].namespace
        ids = _Ids()
        made: dict[tuple[str, str, str], list[str]] = {}
        steps: list[tuple[Operation, list[Json], Part]] = []
        params: dict[str, None] = {}
        for operation in self.operations:
            if operation.key in made:
                operation.spec.refuse("", "a second one of this name")
            before = operation.spec.part("runAfter")
            operation.trigger = self._trigger(operation, namespace)
            steps_of = operations.steps(operation, namespace, self.sources, params)
            made[operation.key] = [ids.take(operation.name) for _ in steps_of]
            for step, step_id in zip(steps_of, made[operation.key], strict=True):
                step["id"] = step_id
            steps.append((operation, steps_of, before))
        listed = [
            one
            for operation, steps_of, before in steps
            for one in self._with_needs(operation, steps_of, before, made)
        ]
        operations.use_versions(listed)
        for operation in self.operations:
            operation.spec.settle()
        return {
            "apiVersion": "cachefs/v1",
            "kind": "Flow",
            "metadata": {"name": name or self.operations[0].name, "namespace": namespace},
            "spec": {
                **({"params": params} if params else {}),
                **self._triggers(),
                "defaults": {"retry": {"max": FLUID_TRIES}},
                "steps": listed,
            },
        }

    def _with_needs(
        self,
        operation: Operation,
        steps: Sequence[Json],
        before: Part,
        made: Mapping[tuple[str, str, str], Sequence[str]],
    ) -> Iterator[Json]:
        needs: Sequence[str] = ()
        if before:
            operation.is_first = False
            kind, name = before.text("kind"), before.text("name")
            namespace = before.text("namespace") or operation.namespace
            before.drop("apiVersion")
            before.leave("blocks are found wherever they are", "affinityStrategy")
            needs = made.get((kind, namespace, name), ())
            if not needs:
                before.refuse(
                    "name",
                    f"{shown(f'{kind} {namespace}/{name}')} is not in this file",
                    "add it: a flow cannot wait for what is not in it",
                )
            before.settle()
        for step in steps:
            head = {"id": step.pop("id"), "kind": step.pop("kind")}
            yield {**head, **({"needs": list(needs)} if needs else {}), **step}

    def _trigger(self, operation: Operation, namespace: str) -> Json | None:
        """Return what starts an operation; ``None`` for a person."""
        spec = operation.spec
        policy, schedule = spec.text("policy"), spec.text("schedule")
        if policy == "Cron":
            cron = _MACROS.get(schedule, schedule)
            try:
                parse_cron(cron)
            except ConfigError as error:
                spec.refuse("schedule", error.message, error.hint)
            spec.note("its schedule is in UTC here")
            return {"cron": cron}
        if schedule:
            spec.note("spec.schedule is left out: the policy is not Cron")
        if policy == "OnEvent":
            return {"event": {"dataset": operations.watched(operation, namespace)}}
        if policy not in ("", "None", "Once"):
            spec.refuse("policy", f"{shown(policy)} is no policy", "there is Once, Cron, OnEvent")
        return None

    def _triggers(self) -> Json:
        first = [one for one in self.operations if one.is_first]
        for one in self.operations:
            if one.trigger is not None and not one.is_first:
                one.spec.note("its policy is left out: it begins when what it runs after is done")
        if any(one.trigger != first[0].trigger for one in first):
            first[0].spec.refuse(
                "policy",
                "operations of one flow start together, and these have several policies: "
                + ", ".join(one.name for one in first),
                "import them from a file each",
            )
        trigger = first[0].trigger if first else None
        return {"triggers": [trigger]} if trigger else {}


class _Ids:
    """Ids of steps, no two the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str) -> str:
        """Return an id like a name of Kubernetes'."""
        wanted = re.sub("[^A-Za-z0-9]+", "-", name).strip("-")[:50].strip("-") or "step"
        wanted = wanted if wanted[0].isalpha() else f"step-{wanted}"
        found, number = wanted, 1
        while found in self._taken:
            number += 1
            found = f"{wanted}-{number}"
        self._taken.add(found)
        return found
