"""How steps begin: with their arguments rendered, as many instances as may be, or not yet."""

from collections.abc import Iterator
from dataclasses import replace

from cachefs.dataflow.machine import instances, preparing
from cachefs.dataflow.machine.deciding import Deciding
from cachefs.dataflow.machine.decisions import Begin, Expand
from cachefs.dataflow.records import StepRecord
from cachefs.dataflow.spec import units
from cachefs.dataflow.spec.model import Step, Value
from cachefs.dataflow.spec.templates import render
from cachefs.errors import ConfigError, check


class Beginning:
    """Of one run."""

    def __init__(self, deciding: Deciding) -> None:
        """Take what the machine's parts share."""
        self._deciding = deciding
        self._book = deciding.book
        self._prefetches = [
            step.id for step in self._book.steps.values() if step.kind == "prefetch"
        ]
        for group in self._book.groups:
            self.offer(group)

    def offer(self, step: str) -> None:
        """Let the next instances begin, as many as may be at once."""
        group = self._book.groups[step]
        while not group.stopped and group.room():
            one = group.ids[group.next]
            group.next += 1
            if self._book.records[one].state == "Pending":
                group.offered += 1
                self._book.ready.add(one)

    def begin(self, record: StepRecord) -> None:
        """Have a step begin whose turn it is, or go on after a wait."""
        step = self._book.step(record.id)
        if record.over:
            return
        try:
            if self._book.is_whole(record.id):
                self._expand(step, record)
                return
            if record.state == "Pending":
                names = self._deciding.meanings.of_step(self._deciding.run, step, record)
                given = preparing.arguments(step, names, self._targets(step))
                record = replace(record, arguments=given)
                if self._waits(step, record):
                    return
        except ConfigError as error:
            self._deciding.settle(record, "Failed", str(error))
            return
        begun = replace(
            record,
            state="Running",
            attempt=record.attempt + 1,
            tries=record.tries + 1,
            not_before=0.0,
            failure="",
            started_at=self._deciding.now,
        )
        self._deciding.carry_out(Begin(begun, step.timeout_seconds))

    def _waits(self, step: Step, record: StepRecord) -> bool:
        """Put a step aside that is waited for without a thread: an approval, or a time to pass."""
        until, note = 0.0, ""
        if step.kind == "approve":
            note = str(record.arguments.get("message") or "waits for an approval")
        elif step.kind == "evict":
            after = units.duration(record.arguments.get("after", 0))
            until = self._deciding.now + after if after else 0.0
            note = "waits until it is time"
        if not note or not (until or step.kind == "approve"):
            return False
        progress = replace(record.progress, note=note)
        waiting = replace(record, state="Blocked", not_before=until, progress=progress)
        self._deciding.put(replace(waiting, started_at=self._deciding.now))
        return True

    def _expand(self, step: Step, record: StepRecord) -> None:
        foreach = step.foreach
        check(foreach is not None, f"{step.id}: no foreach")
        values = render(
            foreach.values if foreach else [], self._deciding.meanings.of(self._deciding.run)
        )
        known = instances.records_of(step.id, values)
        if not known:
            self._deciding.settle(record, "Skipped", "foreach has no values")
            return
        begun = replace(
            record, state="Running", attempt=record.attempt + 1, started_at=self._deciding.now
        )
        self._book.add_instances(step.id, known)
        self._deciding.decisions.append(Expand(self._book.put(begun), known))
        self.offer(step.id)

    def _targets(self, step: Step) -> Iterator[Value]:
        """Yield what the prefetch steps filled that a step needs."""
        for one in self._prefetches:
            if not self._book.graph.is_needed(one, step.id):
                continue
            parts = list(self._book.of_group(one)) or [self._book.records[one]]
            yield from (preparing.target_of(part) for part in parts if part.state == "Succeeded")
