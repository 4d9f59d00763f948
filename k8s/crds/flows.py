"""Flows: what ``kind: Flow`` declares. Its ``spec`` is the one of a flow's document (DATAFLOW), word for word.

The schema knows the shape of the document; what it means, the coordinator checks, and says in the status with the
path of each problem. Keys of a step are spelt as in the document (``on_failure``): what is taken to a cluster, or
from one, needs no change.
"""

from dataclasses import dataclass
from typing import Any, get_args

from cachefs.dataflow.spec.model import Kind
from cachefs.k8s.crds import forms
from cachefs.k8s.crds.forms import Column, Definition, Document, Rule, Schema
from cachefs.k8s.crds.reading import fields_of
from cachefs.k8s.names import FLOWS

CONDITIONS = ("Valid", "Registered")
STEPS_MAX = 1000
"""Of one object: it has at most 1.5 MB."""
_TRIGGERS_MAX = 64
_STEP_ID = r"^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?$"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowSpec:
    """What an object of the kind says."""

    name: str
    namespace: str
    spec: dict[str, Any]  # Any: the coordinator knows its fields
    labels: dict[str, str]

    def document(self) -> Document:
        """Return the flow's document, as `cachefs flow submit` takes it."""
        return flow_document(self.name, self.namespace, self.spec, self.labels)


def flow_document(
    name: str, namespace: str, spec: Document, labels: dict[str, str] | None = None
) -> Document:
    """Return a flow's document around its ``spec``."""
    metadata: Document = {"name": name, "namespace": namespace}
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": "cachefs/v1", "kind": "Flow", "metadata": metadata, "spec": spec}


def parse(document: Document) -> FlowSpec:
    """Return what an object of the kind says.

    Raises:
        ConfigError: It is not even shaped as a flow; its subject is the field.
    """
    metadata, spec = fields_of(document, "metadata"), fields_of(document, "spec")
    spec.listed("steps")
    return FlowSpec(
        name=metadata.needed_text("name"),
        namespace=metadata.needed_text("namespace"),
        spec=dict(document.get("spec") or {}),
        labels=metadata.texts_by_name("labels"),
    )


def definition() -> Document:
    """Return what teaches the API server the kind."""
    return Definition(
        kind=FLOWS,
        short="cflow",
        description="What shall happen with a model, step by step. A FlowRun runs it, or one of its triggers.",
        spec=flow_schema("The flow, as in a document for `cachefs flow submit`."),
        status=forms.fields(
            "What is.",
            {
                "observedGeneration": forms.generation(),
                "lastRun": forms.text("The id of the run that began last.", most=128),
                "problems": forms.listing(
                    "What is wrong with the flow, each with its path: spec.steps.ID.kind.",
                    forms.text("A problem.", most=4096),
                    most=100,
                ),
                "conditions": forms.conditions(*CONDITIONS),
            },
        ),
        columns=(
            Column("Valid", '.status.conditions[?(@.type=="Valid")].status'),
            Column("Registered", '.status.conditions[?(@.type=="Registered")].status'),
            Column("Last run", ".status.lastRun"),
            forms.AGE,
        ),
        rules=(
            Rule(
                f"self.metadata.name.size() <= {forms.NAME_LENGTH_MAX}",
                f"a flow's name has at most {forms.NAME_LENGTH_MAX} characters",
            ),
        ),
    ).document()


def flow_schema(description: str, **more: object) -> Schema:
    """Return the schema of a flow's ``spec``."""
    step = forms.free(
        "One action.",
        properties={
            "id": forms.text("Its name.", most=forms.NAME_LENGTH_MAX, pattern=_STEP_ID),
            "kind": forms.choice("What it does.", *get_args(Kind)),
            "needs": forms.listing(
                "Steps that must be over.",
                forms.text("A step's id.", most=forms.NAME_LENGTH_MAX),
                most=STEPS_MAX,
            ),
        },
        required=["id", "kind"],
    )
    return forms.fields(
        description,
        {
            "params": forms.free("Names with their values; null for one that a run must give."),
            "triggers": forms.listing(
                "What starts a run besides a FlowRun: cron, event, webhook.",
                forms.free("One trigger."),
                most=_TRIGGERS_MAX,
            ),
            "concurrency": forms.free("Which runs never run at once: group, policy."),
            "budget": forms.free("What a run may cost: origin_bytes, egress_usd, wall."),
            "defaults": forms.free(
                "What holds for steps that say nothing else: retry, timeout, on_failure."
            ),
            "steps": forms.table("What to do.", step, "id", most=STEPS_MAX, minItems=1),
            "finally": forms.table(
                "Steps that run at last, whatever happened.", step, "id", most=STEPS_MAX
            ),
        },
        required=("steps",),
        **more,
    )
