"""What the names of expressions mean in a run, looked up when they are asked for."""

from collections.abc import Iterator, Mapping

from cachefs.dataflow.records import Run, StepRecord
from cachefs.dataflow.spec import names
from cachefs.dataflow.spec.model import Flow, Step, Value


class _Anything(Mapping[str, Value]):
    """A mapping in which what is missing is ``null``, instead of an error."""

    def __init__(self, known: Mapping[str, Value]) -> None:
        self._known = known

    def __getitem__(self, key: str) -> Value:
        return self._known.get(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class _Steps(Mapping[str, Value]):
    """``steps``: of 10,000 of them only those that are asked for are looked at."""

    def __init__(self, steps: Mapping[str, Step], records: Mapping[str, StepRecord]) -> None:
        self._steps = steps
        self._records = records

    def __getitem__(self, key: str) -> Value:
        record = self._records[self._steps[key].id]
        good = record.state == "Succeeded"
        return {
            "state": record.state,
            "outputs": record.outputs if good else _Anything(record.outputs),
            "failure": record.failure,
        }

    def __contains__(self, key: object) -> bool:
        return key in self._steps

    def __iter__(self) -> Iterator[str]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)


class Meanings:
    """Of one run."""

    def __init__(
        self, flow: Flow, steps: Mapping[str, Step], records: Mapping[str, StepRecord]
    ) -> None:
        """Look at the records as they are at each moment."""
        self._flow = flow
        self._steps = _Steps(steps, records)

    def of(self, run: Run) -> dict[str, Value]:
        """Return what the names mean outside of ``foreach``."""
        return {
            "params": {**self._flow.params, **run.params},
            "steps": self._steps,
            "run": {"id": run.id, "cause": run.cause},
            "flow": {"name": self._flow.name, "namespace": self._flow.namespace},
            "plan": {name: run.plan.get(name) for name in names.PLAN_NAMES},
            "trigger": _Anything(run.trigger),
        }

    def of_step(self, run: Run, step: Step, record: StepRecord) -> dict[str, Value]:
        """Return what the names mean for a step, or an instance of one."""
        known = self.of(run)
        if step.foreach is not None:
            known["each"] = {step.foreach.name: record.value, "index": index_of(record.id)}
        return known


def step_of(record: str) -> str:
    """Return the id of the step that a record is of: ``copy`` of ``copy[3]``."""
    return record.partition("[")[0]


def index_of(record: str) -> int:
    """Return the number of an instance; -1 of a step."""
    _, bracket, rest = record.partition("[")
    return int(rest.removesuffix("]")) if bracket else -1
