"""What a step begins with: whether it shall, what its arguments are, how it would be undone."""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache

from cachefs.dataflow.machine.states import BAD, FAILED
from cachefs.dataflow.records import STEP_GOOD, Run, StepRecord
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.expressions import Call, Expression, parse
from cachefs.dataflow.spec.model import Step, Value
from cachefs.dataflow.spec.names import STATUS_FUNCTIONS
from cachefs.dataflow.spec.templates import render

_TARGET_KEYS = ("dataset", "paths", "zone", "copies")


@lru_cache(maxsize=4096)
def condition(text: str) -> tuple[Expression | None, frozenset[str]]:
    """Return an ``if`` with the status functions that it calls; none of both for an empty one."""
    if not text.strip():
        return None, frozenset()
    expression = parse(text)
    calls = {node.name for node in expression.nodes() if isinstance(node, Call)}
    return expression, frozenset(calls & set(STATUS_FUNCTIONS))


def satisfies(step: Step, record: StepRecord) -> bool:
    """Say whether a step that is over lets those begin that need it."""
    if record.state in STEP_GOOD:
        return True
    return step.on_failure == "continue" and record.state in FAILED


def status_of_needs(needs: Collection[StepRecord], *, good: bool) -> dict[str, Callable[[], bool]]:
    """Return what the status functions say of a step among ``steps``."""
    return {
        "always": lambda: True,
        "succeeded": lambda: good,
        "failed": lambda: any(record.state in BAD - {"Cancelled"} for record in needs),
        "cancelled": lambda: any(record.state == "Cancelled" for record in needs),
    }


def status_of_run(run: Run) -> dict[str, Callable[[], bool]]:
    """Return what the status functions say in ``finally``: how the steps ended, all in all."""
    return {
        "always": lambda: True,
        "succeeded": lambda: run.ending == "Succeeded",
        "failed": lambda: run.ending in ("Failed", "RolledBack"),
        "cancelled": lambda: run.ending == "Cancelled",
    }


def arguments(step: Step, names: dict[str, Value], targets: Iterator[Value]) -> Mapping[str, Value]:
    """Return the ``with`` of a step, rendered and checked.

    Args:
        step: The step.
        names: What the names of its expressions mean.
        targets: What a ``wait`` or ``verify`` looks at that names nothing itself.

    Raises:
        ConfigError: An expression has no value, or the arguments do not fit.
    """
    opaque = kinds.opaque(step.kind)
    given = {
        key: value if key in opaque else render({key: value}, names)[key]
        for key, value in step.arguments.items()
    }
    kinds.check(step.kind, given)
    if step.kind in ("wait", "verify") and not {"dataset", "of", "duration"} & given.keys():
        of = list(targets)
        given |= {"of": of} if of else {}
    return given


def target_of(record: StepRecord) -> Mapping[str, Value]:
    """Return what a ``prefetch`` filled, as one that ``wait`` looks at."""
    return {key: record.arguments[key] for key in _TARGET_KEYS if key in record.arguments}


def compensation(step: Step, names: dict[str, Value]) -> Mapping[str, Value]:
    """Return the ``compensate`` of a step, rendered and checked.

    Raises:
        ConfigError: As for :func:`arguments`.
    """
    how: Mapping[str, Value] = render(dict(step.compensate or {}), names)
    kinds.check_compensation(step.kind, how)
    return how
