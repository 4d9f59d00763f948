"""Runs: what ``kind: FlowRun`` declares: that a flow be run once, with these parameters.

What was submitted is what runs: the flow, its parameters and the inline document cannot be changed. ``cancel`` and
``pause`` can; both are wishes, and the status says what became of them.
"""

from dataclasses import dataclass, field
from typing import Any

from cachefs.errors import ConfigError
from cachefs.k8s.crds import forms
from cachefs.k8s.crds.flows import STEPS_MAX, flow_document, flow_schema
from cachefs.k8s.crds.forms import Column, Definition, Document, Rule, Schema
from cachefs.k8s.crds.reading import fields_of
from cachefs.k8s.names import FLOW_RUNS

CONDITIONS = ("Submitted", "Succeeded")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRunSpec:
    """What an object of the kind says."""

    name: str
    namespace: str
    flow: str | None = None
    """A Flow in the same namespace; ``None`` if the document is written here."""
    spec: dict[str, Any] | None = None  # Any: the coordinator knows its fields
    """The ``spec`` of the flow that is written here."""
    params: dict[str, Any] = field(default_factory=dict)  # Any: what JSON holds
    cancel: bool = False
    pause: bool = False

    def document(self) -> Document | None:
        """Return the document of the flow that is written here, if one is; the run's name is its name."""
        return None if self.spec is None else flow_document(self.name, self.namespace, self.spec)


def parse(document: Document) -> FlowRunSpec:
    """Return what an object of the kind says.

    Raises:
        ConfigError: It makes no sense; its subject is the field.
    """
    metadata, spec = fields_of(document, "metadata"), fields_of(document, "spec")
    flow, inline = spec.text("flow", "") or None, spec.inner("document")
    if (flow is None) == (inline is None):
        raise ConfigError("name a flow, or write one", subject=spec.where("flow"))
    return FlowRunSpec(
        name=metadata.needed_text("name"),
        namespace=metadata.needed_text("namespace"),
        flow=flow,
        spec=None if inline is None else spec.free("document"),
        params=spec.free("params"),
        cancel=spec.flag("cancel", default=False),
        pause=spec.flag("pause", default=False),
    )


def definition() -> Document:
    """Return what teaches the API server the kind."""
    return Definition(
        kind=FLOW_RUNS,
        short="crun",
        description="One execution of a flow.",
        spec=_spec(),
        status=_status(),
        columns=(
            Column("Flow", ".spec.flow"),
            Column("Phase", ".status.phase"),
            Column("Progress", ".status.progress"),
            Column("Run", ".status.run", is_wide=True),
            Column("Message", ".status.message", is_wide=True),
            forms.AGE,
        ),
    ).document()


def _spec() -> Schema:
    def unchanged(name: str) -> Rule:
        new, old = f"self.{name}", f"oldSelf.{name}"
        return Rule(
            f"has({new}) == has({old}) && (!has({new}) || {new} == {old})",
            f"a run is what was submitted: {name} stays as it is; make another FlowRun",
            field=f".{name}",
        )

    return forms.fields(
        "What is wanted.",
        {
            "flow": forms.name("A Flow in this namespace."),
            "document": flow_schema("A flow that is written here, in place of one that is named."),
            "params": forms.free("What differs from the flow's own parameters."),
            "cancel": forms.flag(
                "Stop it: transfers end, what can be undone is. It cannot be taken back.",
                default=False,
                **forms.rules(Rule("self || !oldSelf", "a cancelled run stays cancelled")),
            ),
            "pause": forms.flag("Let nothing more begin; false lets it go on.", default=False),
        },
        **forms.rules(
            Rule(
                "has(self.flow) != has(self.document)",
                "name a flow, or write a document: one of them",
            ),
            *(unchanged(name) for name in ("flow", "document", "params")),
        ),
    )


def _status() -> Schema:
    short = 256
    step = forms.fields(
        "One step.",
        {
            "id": forms.text("Its id; with foreach, of one instance.", most=short),
            "phase": forms.text("Its state.", most=64),
            "progress": forms.text("How far it is, for people.", most=short),
            "message": forms.text("What went wrong, or what it waits for.", most=4096),
        },
        required=("id", "phase"),
    )
    return forms.fields(
        "What is.",
        {
            "observedGeneration": forms.generation(),
            "phase": forms.text("The state of the run; Pending before it is submitted.", most=64),
            "run": forms.text("The run's id, for `cachefs flow status`.", most=128),
            "progress": forms.text("How far it is, for people: 3/7 steps.", most=short),
            "steps": forms.table("Its steps.", step, "id", most=STEPS_MAX),
            "startedAt": forms.moment("When it began."),
            "endedAt": forms.moment("When it was over."),
            "bytes": forms.count("Bytes that it has brought."),
            "message": forms.text("Why it is as it is.", most=4096),
            "conditions": forms.conditions(*CONDITIONS),
        },
    )
