"""Measuring: repetitions in turns, medians, spread, and what disturbed them.

Contestants run in turns, so that a slow minute of the machine hits both. The ratio of a row is the
median of the ratios of neighbouring runs, not the ratio of two medians. A repetition during which
*other* processes used more than ``DISTURBED_SHARE`` of the machine is disturbed: it is repeated, at
most as often as there are repetitions, and the row says how many were left out. When nothing
undisturbed could be had, the disturbed ones are taken, and the row says so.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

DISTURBED_SHARE = 0.10
"""Of all cores' time. A quiet machine shows 0.01; one busy process on two cores 0.5."""

FAILED = "failed"
"""How the note of a row without a result begins when the reason is not this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the results. A row is good when ``ratio`` is at least ``at_least``."""

    scenario: str
    value: float
    unit: str
    against: str
    """What the ratio compares with, and its own value."""
    ratio: float | None
    """``None`` when there is nothing to compare with. More is better, also for limits."""
    at_least: float | None
    runs: int
    spread: float
    """Highest less lowest ratio (or value, without a ratio), as a share of the median."""
    note: str = ""
    """For people: CPU seconds, disturbed repetitions, why it was skipped. Not in the file."""

    @property
    def is_good(self) -> bool | None:
        """Whether the row reaches its goal; ``None`` if it has none or was skipped."""
        if self.ratio is None or self.at_least is None:
            return None
        return self.ratio >= self.at_least

    @property
    def has_failed(self) -> bool:
        """Whether there is no result, and the reason is not this machine."""
        return self.runs == 0 and self.note.startswith(FAILED)

    def document(self) -> dict[str, Any]:
        """Return what the results file holds."""
        return {name: value for name, value in asdict(self).items() if name != "note"}


@dataclass(frozen=True, slots=True)
class Unit:
    """What a comparison counts."""

    name: str
    amount: float
    """How many bytes, or files, are one of it."""

    @property
    def rate(self) -> str:
        """Its name in a row."""
        return f"{self.name}/s"


GIGABYTES = Unit("GB", 1e9)
THOUSAND_FILES = Unit("thousand files", 1e3)


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition of one contestant."""

    size: int
    """Bytes that were moved, or files that were looked at."""
    seconds: float
    cpu_seconds: float
    """Of our processes: with two cores, what is used is as telling as how long it took."""
    other_share: float
    """Share of the machine that processes other than ours used meanwhile."""

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.size / self.seconds


@dataclass(frozen=True, slots=True)
class Contestant:
    """One of those that take turns."""

    run: Callable[[], int]
    """Moves bytes once and returns how many."""
    prepare: Callable[[], None] | None = None
    """Called before each turn, unmeasured: makes a cache cold, for example."""


@dataclass(slots=True)
class Meter:
    """Takes the time of one repetition, and that of everything else on the machine."""

    processes: list[psutil.Process] = field(default_factory=list)
    """Ours, besides this one: with them, what is left of the machine's time is a disturbance."""
    coming_and_going: Callable[[], Iterable[psutil.Process]] = tuple
    """Returns further ones; asked at the start of each repetition."""

    def take(self, body: Callable[[], int]) -> Sample:
        """Run ``body``, which returns how many bytes it moved."""
        own = [psutil.Process(), *self.processes, *self.coming_and_going()]
        own_before, all_before = cpu_seconds_of(own), _machine_seconds()
        started = time.perf_counter()
        size = body()
        seconds = time.perf_counter() - started
        cpu_seconds = cpu_seconds_of(own) - own_before
        # The kernel's own threads (write-back, soft interrupts) work for us and are not told apart
        # from a stranger; the threshold leaves room for them.
        others = _machine_seconds() - all_before - cpu_seconds
        cores = os.cpu_count() or 1
        return Sample(size, seconds, cpu_seconds, max(0.0, others) / (seconds * cores))


def cpu_seconds_of(processes: Iterable[psutil.Process]) -> float:
    """Return the CPU seconds that processes have used so far, together."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _machine_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the turns of several contestants gave."""

    samples: dict[str, list[Sample]]
    """By contestant, one sample a turn; the same length for each."""
    disturbed: int
    """Turns that were left out."""
    noisy: bool
    """Whether the turns that were kept are disturbed too."""

    def rate(self, name: str) -> float:
        """Return the median rate of a contestant, in bytes a second."""
        return statistics.median(sample.rate for sample in self.samples[name])

    def ratios(self, name: str, against: str) -> list[float]:
        """Return the ratio of each turn."""
        pairs = zip(self.samples[name], self.samples[against], strict=True)
        return [ours.rate / floor.rate for ours, floor in pairs]

    def fastest(self, names: Iterable[str]) -> str:
        """Return the contestant with the highest median rate."""
        return max(names, key=self.rate)

    def row(
        self,
        scenario: str,
        name: str,
        against: str,
        *,
        at_least: float | None,
        unit: Unit = GIGABYTES,
    ) -> Row:
        """Return the row that compares two contestants."""
        ratios = self.ratios(name, against)
        return Row(
            scenario=scenario,
            value=self.rate(name) / unit.amount,
            unit=unit.rate,
            against=f"{against} ({self.rate(against) / unit.amount:.2f} {unit.rate})",
            ratio=statistics.median(ratios),
            at_least=at_least,
            runs=len(ratios),
            spread=spread(ratios),
            note=self._note(name, against, unit),
        )

    def _note(self, name: str, against: str, unit: Unit) -> str:
        cost = " / ".join(
            f"{statistics.median(s.cpu_seconds / s.size for s in self.samples[one]) * unit.amount:.2f}"
            for one in (name, against)
        )
        parts = [f"CPU s per {unit.name} {cost}"]
        if self.disturbed:
            parts.append(f"{self.disturbed} disturbed turns left out")
        if self.noisy:
            parts.append("all turns disturbed")
        return ", ".join(parts)


def take_turns(
    contestants: dict[str, Contestant], *, runs: int, meter: Meter, warm_up: bool = True
) -> Comparison:
    """Run the contestants in turns.

    Args:
        contestants: By name.
        runs: Undisturbed turns to take.
        meter: Knows our processes.
        warm_up: Run each once before, unmeasured.
    """

    def turn_of(contestant: Contestant) -> Sample:
        if contestant.prepare is not None:
            contestant.prepare()
        return meter.take(contestant.run)

    if warm_up:
        for contestant in contestants.values():
            turn_of(contestant)
    kept: list[dict[str, Sample]] = []
    rejected: list[dict[str, Sample]] = []
    while len(kept) < runs and len(kept) + len(rejected) < 2 * runs:
        turn = {name: turn_of(contestant) for name, contestant in contestants.items()}
        quiet = all(sample.other_share <= DISTURBED_SHARE for sample in turn.values())
        (kept if quiet else rejected).append(turn)
    noisy = len(kept) < runs
    if noisy:
        # The least disturbed of them make up the number, whatever they are.
        rejected.sort(key=lambda turn: max(sample.other_share for sample in turn.values()))
        missing = runs - len(kept)
        kept, rejected = kept + rejected[:missing], rejected[missing:]
    samples = {name: [turn[name] for turn in kept] for name in contestants}
    return Comparison(samples, len(rejected), noisy)


def spread(values: Sequence[float]) -> float:
    """Return the highest less the lowest value, as a share of the median."""
    median = statistics.median(values)
    return (max(values) - min(values)) / median if median else 0.0


def limit_row(
    scenario: str, values: Sequence[float], unit: str, *, limit: float, note: str = ""
) -> Row:
    """Return the row of something that must stay below a limit: its ratio is limit ÷ value."""
    value = statistics.median(values)
    return Row(
        scenario=scenario,
        value=value,
        unit=unit,
        against=f"limit {limit:g} {unit}",
        ratio=limit / value if value else None,
        at_least=1.0,
        runs=len(values),
        spread=spread(values),
        note=note,
    )


def skipped_row(scenario: str, reason: str) -> Row:
    """Return the row of a scenario that could not run here."""
    return _empty_row(scenario, f"skipped: {reason}")


def failed_row(scenario: str, reason: str) -> Row:
    """Return the row of a scenario that failed: no number, which is worse than a low one."""
    return _empty_row(scenario, f"{FAILED}: {reason}")


def _empty_row(scenario: str, note: str) -> Row:
    return Row(
        scenario=scenario,
        value=0.0,
        unit="",
        against="",
        ratio=None,
        at_least=None,
        runs=0,
        spread=0.0,
        note=note,
    )
