"""Instances: one of a step for each value of its ``foreach``, and how they add up."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cachefs.dataflow.machine.meanings import index_of
from cachefs.dataflow.machine.states import BAD, FAILED
from cachefs.dataflow.records import Progress, StepRecord, StepState
from cachefs.dataflow.spec.model import Foreach, Value
from cachefs.dataflow.spec.problems import kind_of
from cachefs.dataflow.spec.shapes import ITEMS_MAX
from cachefs.errors import ConfigError


@dataclass(slots=True)
class Group:
    """The instances of one step, counted as they change."""

    foreach: Foreach
    ids: list[str] = field(default_factory=list)
    """In the order of the values."""
    open: int = 0
    """Not over."""
    busy: int = 0
    """Begun and not over, those that wait for a retry included."""
    bad: int = 0
    offered: int = 0
    """That may begin, and have not."""
    next: int = 0
    """The first of ``ids`` that was not offered."""
    swept: bool = False
    """Whether those that do not begin any more, because one has failed, are cancelled."""

    @classmethod
    def of(cls, foreach: Foreach, records: Iterable[StepRecord]) -> "Group":
        """Count the instances that there are."""
        known = sorted(records, key=lambda record: index_of(record.id))
        group = cls(foreach, [record.id for record in known])
        for record in known:
            group.open += not record.over
            group.busy += is_busy(record)
            group.bad += record.state in BAD
        return group

    def change(self, before: StepRecord, after: StepRecord) -> None:
        """Count a change of an instance."""
        self.open += before.over - after.over
        self.busy += is_busy(after) - is_busy(before)
        self.bad += (after.state in BAD) - (before.state in BAD)
        if before.state == "Pending" and self.offered:
            self.offered -= 1

    def room(self) -> bool:
        """Say whether another one may begin."""
        most = self.foreach.max_parallel or len(self.ids)
        return self.next < len(self.ids) and self.busy + self.offered < most

    @property
    def stopped(self) -> bool:
        """Whether none of those left begins, because one has failed."""
        return self.bad > 0 and self.foreach.fail_fast


def is_busy(record: StepRecord) -> bool:
    """Say whether an instance counts against ``max_parallel``."""
    return record.state in ("Running", "Retrying", "Blocked")


def records_of(step: str, values: Value) -> tuple[StepRecord, ...]:
    """Return new records for values.

    Raises:
        ConfigError: They are no list, or too many.
    """
    if not isinstance(values, list):
        raise ConfigError(f"foreach: {kind_of(values)}, where a list is needed")
    if len(values) > ITEMS_MAX:
        raise ConfigError(f"foreach: more than {ITEMS_MAX} values")
    return tuple(
        StepRecord(id=f"{step}[{index}]", value=value) for index, value in enumerate(values)
    )


def sum_of(record: StepRecord, instances: Iterable[StepRecord], *, now: float) -> StepRecord:
    """Return the record of a step whose instances are all over.

    Of outputs each name becomes a list, in the order of the instances, with ``null`` where one has none.
    """
    known = list(instances)
    names = dict.fromkeys(name for one in known for name in one.outputs)
    failed = [one for one in known if one.state in FAILED]
    failure = ""
    if failed:
        first = failed[0]
        failure = f"{len(failed)} of {len(known)} instances failed; {first.id}: {first.failure}"
    return replace(
        record,
        state=_state_of(one.state for one in known),
        outputs={name: [one.outputs.get(name) for one in known] for name in names},
        progress=progress_of(known),
        failure=failure,
        ended_at=now,
    )


def progress_of(instances: Iterable[StepRecord]) -> Progress:
    """Add up how far instances are."""
    known = [one.progress for one in instances]
    return Progress(
        done=sum(one.done for one in known),
        total=sum(one.total for one in known),
        unit=known[0].unit if known else "bytes",
        rate=sum(one.rate for one in known),
    )


_RANKS: Mapping[StepState, int] = {"Failed": 3, "TimedOut": 2, "Cancelled": 1}


def _state_of(states: Iterable[StepState]) -> StepState:
    worst = max(states, key=lambda state: _RANKS.get(state, 0))
    return worst if worst in _RANKS else "Succeeded"
