"""Argo Workflows: a flow as a ``Workflow``, whose pods follow a run.

One state machine decides, and it is ours: the first pod submits the flow to the coordinator, and there is
one more for each step, which waits until the step is over, shows its progress, and ends as it did. So a run
is the same run whoever started it: conditions, instances, retries, limits of time, undoing, budgets and
concurrency groups are not said a second time in another language that cannot say all of them. What Argo is
given is what it shows and what it may do:

- ``depends`` has the arrows of ``needs``;
- ``suspend`` stands before an approval: who resumes it has approved;
- ``onExit`` follows ``finally``, and cancels a run whose workflow was stopped;
- ``retryStrategy`` is about pods that were lost, never about steps;
- ``arguments.parameters`` are the flow's, and a cron trigger makes a ``CronWorkflow``.

``docs/DATAFLOW.md`` has the whole table, and ADR 32 the reason. The pods' commands are in
:mod:`cachefs.cli.flow.argo`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cachefs.dataflow.machine.preparing import condition
from cachefs.dataflow.spec.document import read_document
from cachefs.dataflow.spec.model import Flow, Step, Value
from cachefs.errors import CapacityError, ConfigError

API_VERSION = "argoproj.io/v1alpha1"
WORKFLOW_BYTES_MAX = 1024 * 1024
"""etcd takes 1.5 MiB by default, of which a workflow's status needs some; Argo's own limit is 1 MiB."""
PODS_RETRIES_MAX = 20
LOST_CODES = (3, 137, 143)
"""Exit codes of a pod that says nothing of its step: no coordinator answers, killed, ended."""

Json = dict[str, Any]  # Any: a JSON document

_NAME = "[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_LABEL_KEY = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
    re.ASCII,
)
_ADDRESS = re.compile(r"[A-Za-z0-9.-]+:[0-9]{1,5}|\[[0-9A-Fa-f:]+\]:[0-9]{1,5}", re.ASCII)
_SECRET = re.compile(f"{_NAME}/[A-Za-z0-9._-]{{1,253}}", re.ASCII)
_OVER = ("Succeeded", "Failed", "Errored", "Skipped", "Omitted")
_OPEN = "{{"
"""What Argo takes for the beginning of a template of its own."""
_FLOW_FILE = "/cachefs/flow.yaml"
_TOKEN_FOLDER = "/cachefs/token"  # noqa: S105 - a folder
_RUN_FILE = "/tmp/cachefs-run"  # noqa: S108 - in a container of its own
_STATE_FILE = "/tmp/cachefs-state"  # noqa: S108 - likewise
_BEGIN, _CLOSE, _END = "begin", "close", "end"
_KEY = "argo-{{workflow.uid}}"
"""Of the run. Pods find it by that, because an exit handler cannot rely on what another pod has put out."""
_BY = "argo {{workflow.namespace}}/{{workflow.name}}"
_STEP = "{{inputs.parameters.step}}"
_FAILURE = "{{inputs.parameters.failure}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where pods run and whom they ask."""

    image: str
    """That has ``cachefs``."""
    coordinator: str
    """``HOST:PORT`` of its HTTP API, as pods reach it."""
    token: str
    """``SECRET/KEY``: the Kubernetes secret with the cluster's token."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A workflow, and what a person should know of it."""

    document: Json
    notes: tuple[str, ...]


def export(flow: Flow, text: str, place: Place) -> Exported:
    """Return a flow as a ``Workflow``, or as a ``CronWorkflow`` if it has cron triggers.

    Args:
        flow: The flow.
        text: Its document, which the workflow carries with it.
        place: Where it runs.

    Raises:
        ConfigError: Argo cannot start it, or the place is not one.
        CapacityError: It is too large for one object of Kubernetes.
    """
    _check(place)
    export = _Export(flow, text, place)
    document = export.document()
    size = len(json.dumps(document))
    if size > WORKFLOW_BYTES_MAX:
        raise CapacityError(
            f"the workflow would have {size:,} bytes, and may have {WORKFLOW_BYTES_MAX:,}",
            subject=flow.full_name,
            hint="make several flows of it, and one with steps of the kind flow",
        )
    return Exported(document, tuple(export.notes))


def _check(place: Place) -> None:
    if not place.image or any(character.isspace() for character in place.image):
        raise ConfigError("not an image", subject=place.image)
    if not _ADDRESS.fullmatch(place.coordinator):
        raise ConfigError("not an address", subject=place.coordinator, hint="write HOST:PORT")
    if not _SECRET.fullmatch(place.token):
        raise ConfigError(
            "not a key of a Kubernetes secret", subject=place.token, hint="write SECRET/KEY"
        )


@dataclass(slots=True)
class _Export:
    flow: Flow
    text: str
    place: Place
    notes: list[str] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    """Step → task."""

    def document(self) -> Json:
        self._names = _task_names((*self.flow.steps, *self.flow.finally_))
        cron = [one.cron for one in self.flow.triggers if one.cron]
        self._note_triggers()
        spec = self._spec()
        if not cron:
            head = {"generateName": f"{_kubernetes_name(self.flow.name)}-", **self._metadata()}
            return {"apiVersion": API_VERSION, "kind": "Workflow", "metadata": head, "spec": spec}
        return {
            "apiVersion": API_VERSION,
            "kind": "CronWorkflow",
            "metadata": {"name": _kubernetes_name(self.flow.name), **self._metadata()},
            "spec": {
                "schedules": cron,
                "timezone": "Etc/UTC",
                "concurrencyPolicy": "Allow",
                "workflowMetadata": self._metadata(),
                "workflowSpec": spec,
            },
        }

    def _note_triggers(self) -> None:
        if any(one.event is not None for one in self.flow.triggers):
            self.notes.append(
                "an event trigger has no counterpart: the coordinator has to start it"
            )
        if any(one.webhook is not None for one in self.flow.triggers):
            self.notes.append(
                "a webhook has no counterpart: Argo's API or Argo Events can start it"
            )

    @property
    def _run(self) -> Sequence[str]:
        """Return how pods name the run: whose it is, and by which key it was submitted."""
        return (self.flow.full_name, _KEY)

    def _metadata(self) -> Json:
        known = {
            "cachefs/namespace": self.flow.namespace,
            "cachefs/flow": self.flow.name,
            **self.flow.labels,
        }
        labels = {
            key: value
            for key, value in known.items()
            if _LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value)
        }
        rest = {key: value for key, value in known.items() if key not in labels}
        if rest:
            self._note_once(f"no labels to Kubernetes, and left out: {', '.join(rest)}")
        return {"labels": labels}

    def _note_once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _spec(self) -> Json:
        secret, _, key = self.place.token.partition("/")
        return {
            "entrypoint": "steps",
            "onExit": "exit",
            "arguments": {"parameters": [_parameter(*one) for one in self._params()]},
            "volumes": [
                {
                    "name": "token",
                    "secret": {
                        "secretName": secret,
                        "items": [{"key": key, "path": "token"}],
                        "defaultMode": 0o400,
                    },
                }
            ],
            "templates": [
                {"name": "steps", "dag": {"failFast": False, "tasks": list(self._main())}},
                {"name": "exit", "dag": {"failFast": False, "tasks": list(self._last())}},
                self._begin(),
                self._follow(),
                *self._approving(),
                self._pod(_CLOSE, ["close", *self._run]),
                self._pod(_END, ["end", *self._run]),
            ],
        }

    def _params(self) -> Iterator[tuple[str, Value]]:
        has_cron = any(one.cron for one in self.flow.triggers)
        for name, value in self.flow.params.items():
            if value is None and has_cron:
                raise ConfigError(
                    f"params.{name} has no value, and cron gives none", subject=self.flow.full_name
                )
            if _OPEN in json.dumps(value):
                raise ConfigError(
                    f"params.{name} holds {_OPEN}, which Argo takes for a template of its own",
                    subject=self.flow.full_name,
                )
            yield name, value

    # ---- tasks ---------------------------------------------------------------------------------

    def _main(self) -> Iterator[Json]:
        yield {"name": _BEGIN, "template": _BEGIN}
        for step in self.flow.steps:
            depends = self._depends(step)
            if _has_gate(step):
                yield from self._gate(step, depends)
            else:
                yield self._following(step, depends)

    def _last(self) -> Iterator[Json]:
        yield {"name": _CLOSE, "template": _CLOSE}
        ends = [_CLOSE]
        for step in self.flow.finally_:
            needs = [_over(self._names[need]) for need in step.needs] or [_CLOSE]
            yield self._following(step, " && ".join(needs))
            ends.append(_over(self._names[step.id]))
        yield {"name": _END, "template": _END, "depends": " && ".join(ends)}

    def _following(self, step: Step, depends: str) -> Json:
        given = {"step": step.id, "failure": _failure(step)}
        return {**_task(self._names[step.id], "follow", **given), "depends": depends}

    def _gate(self, step: Step, depends: str) -> Iterator[Json]:
        """Yield the three tasks of an approval: until it is asked for, for whoever resumes, after that."""
        name = self._names[step.id]
        ask, resume = self._names[f"{step.id} ask"], self._names[f"{step.id} resume"]
        yield {**_task(ask, "ask", step=step.id), "depends": depends}
        yield {
            "name": resume,
            "template": "resume",
            "depends": f"{ask}.Succeeded",
            "when": "'{{tasks." + ask + ".outputs.parameters.state}}' == 'Blocked'",
        }
        given = {"step": step.id, "failure": _failure(step)}
        after = f"{resume}.Succeeded || {resume}.Skipped"
        yield {**_task(name, "answer", **given), "depends": after}

    def _depends(self, step: Step) -> str:
        """Return what a step's pod waits for; our machine decides, whatever that is."""
        if not step.needs:
            return _BEGIN
        _, calls = condition(step.condition)
        if calls:
            return " && ".join(
                [f"{_BEGIN}.Succeeded", *(_over(self._names[n]) for n in step.needs)]
            )
        return " && ".join(self._names[need] for need in step.needs)

    # ---- templates -----------------------------------------------------------------------------

    def _begin(self) -> Json:
        params = [f"--param={name}={{{{workflow.parameters.{name}}}}}" for name in self.flow.params]
        arguments = ["begin", _FLOW_FILE, "--key", _KEY, "--by", _BY, *params, "--out", _RUN_FILE]
        template = self._pod(_BEGIN, arguments)
        template["inputs"] = {
            "artifacts": [
                {"name": "flow", "path": _FLOW_FILE, "raw": {"data": _without_templates(self.text)}}
            ]
        }
        template["outputs"] = {"parameters": [{"name": "run", "valueFrom": {"path": _RUN_FILE}}]}
        return template

    def _follow(self) -> Json:
        return self._pod("follow", ["follow", *self._run, _STEP, "--failure", _FAILURE])

    def _approving(self) -> Iterator[Json]:
        if not any(_has_gate(step) for step in self.flow.steps):
            return
        ask = self._pod("ask", ["ask", *self._run, _STEP, "--out", _STATE_FILE])
        ask["outputs"] = {"parameters": [{"name": "state", "valueFrom": {"path": _STATE_FILE}}]}
        yield ask
        yield {"name": "resume", "suspend": {}}
        answer = ["answer", *self._run, _STEP, "--failure", _FAILURE, "--by", _BY]
        yield self._pod("answer", answer)

    def _pod(self, name: str, arguments: Sequence[str]) -> Json:
        wanted = {"step": _STEP, "failure": _FAILURE}
        inputs = [one for one, text in wanted.items() if text in arguments]
        return {
            "name": name,
            **({"inputs": {"parameters": [{"name": one} for one in inputs]}} if inputs else {}),
            "retryStrategy": {
                "limit": str(PODS_RETRIES_MAX),
                "retryPolicy": "Always",
                "expression": "lastRetry.status == 'Error' || "
                f"asInt(lastRetry.exitCode) in {list(LOST_CODES)}",
                "backoff": {"duration": "30s"},
            },
            "container": {
                "image": self.place.image,
                "command": ["cachefs"],
                "args": ["flow", "argo", *arguments],
                "env": [
                    {"name": "CACHEFS_COORDINATOR", "value": self.place.coordinator},
                    {"name": "CACHEFS_TOKEN_FILE", "value": f"{_TOKEN_FOLDER}/token"},
                ],
                "volumeMounts": [{"name": "token", "mountPath": _TOKEN_FOLDER, "readOnly": True}],
                "resources": {"requests": {"cpu": "20m", "memory": "128Mi"}},
            },
        }


def _task(name: str, template: str, **given: str) -> Json:
    parameters = [{"name": key, "value": value} for key, value in given.items()]
    return {"name": name, "template": template, "arguments": {"parameters": parameters}}


def _parameter(name: str, value: Value) -> Json:
    if value is None:
        return {"name": name}
    return {"name": name, "value": value if isinstance(value, str) else json.dumps(value)}


def _failure(step: Step) -> str:
    return "continue" if step.on_failure == "continue" else "fail"


def _has_gate(step: Step) -> bool:
    """Say whether Argo's resume can be its answer: not if names of people count, nor if it has instances."""
    return step.kind == "approve" and step.foreach is None and not step.arguments.get("approvers")


def _over(task: str) -> str:
    return "(" + " || ".join(f"{task}.{state}" for state in _OVER) + ")"


def _task_names(steps: Iterable[Step]) -> dict[str, str]:
    """Return a name for each task: letters, digits and ``-``, no two the same."""
    names: dict[str, str] = {}
    taken = {_BEGIN, _CLOSE, _END}
    for step in steps:
        for key in (
            (step.id, f"{step.id} ask", f"{step.id} resume") if _has_gate(step) else (step.id,)
        ):
            wanted = re.sub("[^A-Za-z0-9]+", "-", key).strip("-") or "step"
            name, number = wanted if wanted[0].isalpha() else f"step-{wanted}", 1
            while name in taken:
                number += 1
                name = f"{wanted}-{number}"
            taken.add(name)
            names[key] = name
    return names


def _kubernetes_name(name: str) -> str:
    """Return a flow's name as Kubernetes takes it; with what is added to it, 63 characters are few."""
    return re.sub("[^a-z0-9]+", "-", name).strip("-")[:45].strip("-")


def _without_templates(text: str) -> str:
    """Return a document that Argo finds no template of its own in; comments are lost if it would."""
    if _OPEN not in text:
        return text
    plain: Mapping[str, Value] = read_document(text, file="flow").value
    return json.dumps(plain, indent=2).replace(_OPEN, "{\\u007b") + "\n"
