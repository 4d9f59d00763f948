"""A flow as values: what a document says once it is known to be well formed.

Templates (``${…}``) are still in it. A value that holds none is as its schema wants it; one that does is
checked when it is rendered, which is when its step begins.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "scale",
    "migrate",
    "prefetch",
    "wait",
    "verify",
    "process",
    "rollout",
    "backup",
    "publish",
    "evict",
    "approve",
    "notify",
    "flow",
]
OnFailure = Literal["fail", "continue", "rollback"]
Policy = Literal["queue", "cancel", "reject"]

Value = Any
"""Text, number, truth value, ``None``, or a list or mapping of these: what YAML and JSON have in common."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a document something stands, for messages; lines and columns count from 1."""

    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a step is tried again, and when."""

    max: int = 0
    """Tries after the first."""
    base_seconds: float = 5.0
    factor: float = 2.0
    max_seconds: float = 300.0
    jitter: bool = True
    when: tuple[str, ...] = ("transient",)
    """Classes of errors: ``transient`` (those that are ``retryable``), ``timeout``, ``any``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreach:
    """One instance of a step for each value."""

    name: str
    """What the value is called in templates: ``${each.NAME}``."""
    values: Value
    """A list, or a template that renders to one."""
    max_parallel: int = 0
    """0 for no limit."""
    fail_fast: bool = True
    """Whether the failure of one instance keeps the others from starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One action of a flow."""

    id: str
    kind: Kind
    needs: tuple[str, ...] = ()
    condition: str = ""
    """``if``; empty means ``succeeded()``: every step that it needs has succeeded or was skipped."""
    foreach: Foreach | None = None
    arguments: Mapping[str, Value] = field(default_factory=dict)
    """``with``."""
    retry: Retry = Retry()
    timeout_seconds: float | None = None
    """Of one attempt."""
    on_failure: OnFailure = "fail"
    compensate: Mapping[str, Value] | None = None
    """How to undo it; ``None`` if it is not to be undone."""
    placement: Mapping[str, Value] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Name → expression over what the step returned."""
    place: Place = Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What starts a run; exactly one of these is set."""

    manual: bool = False
    cron: str = ""
    """Five fields, in UTC."""
    event: Mapping[str, Value] | None = None
    """``dataset`` and ``revision`` (``published``)."""
    webhook: Mapping[str, Value] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """Runs of one group never run at once."""

    group: str
    policy: Policy = "queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a run may cost; ``None`` for no limit."""

    origin_bytes: int | None = None
    egress_usd: float | None = None
    wall_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A whole flow."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Value] = field(default_factory=dict)
    triggers: tuple[Trigger, ...] = ()
    concurrency: Concurrency | None = None
    budget: Budget = Budget()
    steps: tuple[Step, ...] = ()
    finally_: tuple[Step, ...] = ()

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"
