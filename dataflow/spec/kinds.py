"""The kinds of steps: what each takes, checked before a flow is accepted and again when a step begins.

What holds templates cannot be checked before they are rendered; everything beside them can, and is. So
:func:`faults_of` passes templates over, and :func:`check`, which makes the types that steps work with, does
not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachefs.dataflow.spec import arguments, references
from cachefs.dataflow.spec.arguments import (
    Approve,
    Backup,
    Evict,
    Migrate,
    Notify,
    Prefetch,
    Process,
    Publish,
    Rollout,
    Scale,
    SubFlow,
    Verify,
    Wait,
)
from cachefs.dataflow.spec.model import Kind, Value
from cachefs.dataflow.spec.problems import At, Fault, Misfit
from cachefs.dataflow.spec.shapes import Record
from cachefs.errors import ConfigError

Arguments = (
    Scale
    | Migrate
    | Prefetch
    | Wait
    | Verify
    | Process
    | Rollout
    | Backup
    | Publish
    | Evict
    | Approve
    | Notify
    | SubFlow
)
_ENDS = ("from", "to")


@dataclass(frozen=True, slots=True)
class KindOfStep:
    """What a kind takes."""

    arguments: Record[Any]  # Any: one of Arguments
    compensation: Record[Any] | None = None  # Any: one of the types of arguments.py
    """``None``: it cannot be undone."""
    opaque: tuple[str, ...] = ()
    """Arguments whose templates are not of this flow."""


def _check_migrate(migrate: Migrate, at: At) -> None:
    if migrate.from_ == migrate.to:
        at["to"].fault("the same as from")
    for part in ("credentials", "options"):
        for key in getattr(migrate, part):
            if key not in _ENDS:
                at[part].unknown("key", key, _ENDS)
    for end, location in (("from", migrate.from_), ("to", migrate.to)):
        if location.url:
            scheme = location.url.partition("://")[0].lower()
            given = dict(migrate.options.get(end, {}))
            references.check_origin_options(scheme, given, at["options"][end])
    if migrate.current and (migrate.to.dataset is None or migrate.to.dataset.version is None):
        at["current"].fault("only a dataset's version is current", "write to: dataset:NAME@VERSION")
    if migrate.to.url:
        references.check_destination_url(migrate.to.url, at["to"])


def _check_backup(backup: Backup, at: At) -> None:
    scheme = backup.to.partition("://")[0].lower()
    references.check_origin_options(scheme, dict(backup.options), at["options"])
    references.check_destination_url(backup.to, at["to"])


def _check_publish(publish: Publish, at: At) -> None:
    if publish.dataset.version is None:
        at["dataset"].fault("no version is named", "write NAME@VERSION")


def _check_go_back(back: arguments.GoBack, at: At) -> None:
    if back.restore == bool(back.version):
        at.fault("needs either restore: true or version")


def _check_wait(wait: Wait, at: At) -> None:
    if wait.of and wait.dataset:
        at["of"].fault("dataset and of exclude each other")
    if wait.every < 0.1:
        at["every"].fault("less than 100ms")


def _check_rollout(rollout: Rollout, at: At) -> None:
    local = rollout.target.startswith("local/")
    if local and not rollout.command:
        at.fault("a local target needs a command")
    if rollout.command and not local:
        at["command"].fault("only a local target has a command", "write image or revision")
    if list(rollout.batch) != sorted(set(rollout.batch)):
        at["batch"].fault("batches grow", "write [1, 10, 100]: replicas after each batch")


def _check_scale_back(back: arguments.ScaleBack, at: At) -> None:
    if back.restore == (back.workers is not None):
        at.fault("needs either restore: true or workers")


def _check_process(process: Process, at: At) -> None:
    for name in process.env.keys() & process.secrets.keys():
        at["secrets"][name].fault("it is in env too", at_key=True)


def _check_roll_back(back: arguments.RollBack, at: At) -> None:
    if not back.to_revision and back.replicas is None:
        at.fault("needs to_revision or replicas")


_NO_SHELL = {"script": "write command: [PROGRAM, ARGUMENT, …]", "args": "put all into command"}
KINDS: Mapping[Kind, KindOfStep] = {
    "scale": KindOfStep(
        Record(
            Scale, exactly_one=(("dataset", "pool"),), hints={"replicas": "did you mean workers?"}
        ),
        Record(arguments.ScaleBack, check=_check_scale_back),
    ),
    "migrate": KindOfStep(Record(Migrate, check=_check_migrate), Record(arguments.DeleteCopies)),
    "prefetch": KindOfStep(Record(Prefetch), Record(arguments.EvictAgain)),
    "wait": KindOfStep(Record(Wait, exactly_one=(("condition", "duration"),), check=_check_wait)),
    "verify": KindOfStep(Record(Verify)),
    "process": KindOfStep(
        Record(Process, check=_check_process, hints=_NO_SHELL), Record(arguments.RunInstead)
    ),
    "rollout": KindOfStep(
        Record(Rollout, check=_check_rollout), Record(arguments.RollBack, check=_check_roll_back)
    ),
    "backup": KindOfStep(Record(Backup, check=_check_backup), Record(arguments.DeleteCopies)),
    "publish": KindOfStep(
        Record(Publish, check=_check_publish), Record(arguments.GoBack, check=_check_go_back)
    ),
    "evict": KindOfStep(Record(Evict)),
    "approve": KindOfStep(Record(Approve)),
    "notify": KindOfStep(Record(Notify)),
    "flow": KindOfStep(
        Record(SubFlow, exactly_one=(("name", "document"),)),
        Record(arguments.CancelFlow),
        opaque=("document",),
    ),
}


def check(kind: Kind, given: Mapping[str, Value]) -> Any:  # Any: the kind's own of Arguments
    """Return what a step works with, of arguments that have been rendered.

    Raises:
        ConfigError: They do not fit; names each problem.
    """
    return _typed(KINDS[kind].arguments, given)


def check_compensation(kind: Kind, given: Mapping[str, Value]) -> Any:  # Any: as above
    """Return how a step is undone, of a ``compensate`` that has been rendered.

    Raises:
        ConfigError: It does not fit, or the kind cannot be undone.
    """
    shape = KINDS[kind].compensation
    if shape is None:
        raise ConfigError(f"{kind} steps cannot be undone")
    return _typed(shape, given)


def opaque(kind: Value) -> tuple[str, ...]:
    """Return the arguments of a kind whose templates are not of the flow itself."""
    return next((one.opaque for name, one in KINDS.items() if name == kind), ())


def note_faults(kind: Kind, given: Value, at: At) -> None:
    """Note what is wrong with a ``with``, as far as it is known before templates are rendered."""
    _note(KINDS[kind].arguments, given, at)


def note_compensation_faults(kind: Kind, given: Value, at: At) -> None:
    """Note what is wrong with a ``compensate``."""
    shape = KINDS[kind].compensation
    if shape is None:
        able = ", ".join(name for name, one in KINDS.items() if one.compensation)
        at.fault(f"{kind} steps cannot be undone", f"those that can: {able}", at_key=True)
    else:
        _note(shape, given, at)


def _note(shape: Record[Any], given: Value, at: At) -> None:
    lenient = At(at.path, lenient=True)
    lenient.faults = at.faults
    try:
        shape(given, lenient)
    except Misfit:
        return


def _typed(shape: Record[Any], given: Mapping[str, Value]) -> Any:  # Any: the record's class
    at = At()
    try:
        return shape(given, at)
    except Misfit:
        raise ConfigError("; ".join(_shown(fault) for fault in at.faults)) from None


def _shown(fault: Fault) -> str:
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in fault.path)
    text = f"{path.lstrip('.')}: {fault.message}" if path else fault.message
    return f"{text} ({fault.hint})" if fault.hint else text
