"""What outcomes teach: how fast parts really are, how long programs start and run, and how wrong we were.

Whoever asked may tell how long it really took. From that are learned

- *efficiencies*: the share of its nominal rate that a part reaches, by the part an estimate waited for;
- *start times*: what a program does before it is ready, besides reading, by dataset;
- *run times*: how long jobs on a dataset run, from which releases are expected;
- *errors*: actual over estimated seconds, which widen the ninetieth percentile and tell how far an
  estimate is to be trusted.

Means are of logarithms, so that twice and half are equally wrong. Everything here is small, bounded, and
can be stored as plain JSON.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import exp, isfinite, log
from statistics import median
from typing import Any

from cachefs.core.hints.answer import Breakdown, Seconds
from cachefs.core.hints.estimate import Link, Links
from cachefs.core.hints.fleet import Fleet

_NEWEST_SHARE = 0.3
"""Of the newest outcome in an efficiency: after ten, what was before counts for three hundredths."""
_EFFICIENCY_MIN, _EFFICIENCY_MAX = 0.05, 1.5
"""Beyond these an outcome tells of something else than of the part."""
_COLUMNS = {part: f"efficiency_{part}" for part in ("nic", "memory", "numa", "load")} | {
    "nvme": "efficiency_disk"
}
"""The fleet's column of a part, by its name in a breakdown."""
_KEPT = 64
"""Newest times that a median is of."""
KEYS_LIMIT = 10_000
"""Parts, or datasets, that something is remembered of; the one not heard of for longest is forgotten."""
_SECONDS_MIN, _SECONDS_MAX = 1e-6, 1e9
"""Beyond these a time is a mistake; so no ratio of two is beyond what a number can hold."""
_ERRORS_KEPT = 200
_ERRORS_BELIEVED = 10
"""With fewer outcomes than this the spread of the errors is a guess."""
_SPREAD_GUESSED = 1.3
"""The ninetieth percentile over the median, before there are outcomes."""


class Efficiencies:
    """The share of its nominal rate that each part reaches."""

    def __init__(self) -> None:
        """Believe every nominal rate."""
        self._logs: dict[str, float] = {}

    def of(self, part: str) -> float:
        """Return a part's efficiency, 1 if nothing was learned of it."""
        return exp(self._logs.get(part, 0.0))

    def learn(self, part: str, *, estimated: float, actual: float) -> None:
        """Take in how long a part really took; what makes no sense is ignored.

        Args:
            part: As a breakdown names it: ``nvme:n1``.
            estimated: Seconds, reckoned with the efficiency that was believed until now.
            actual: Seconds.
        """
        if not (_sensible(estimated) and _sensible(actual)):
            return
        believed = self._logs.pop(part, 0.0)
        seen = believed + log(estimated / actual)
        learned = believed + _NEWEST_SHARE * (seen - believed)
        self._logs[part] = min(max(learned, log(_EFFICIENCY_MIN)), log(_EFFICIENCY_MAX))
        _forget(self._logs)

    def known(self) -> Mapping[str, float]:
        """Return all that was learned, by part."""
        return {part: exp(value) for part, value in self._logs.items()}

    def restore(self, known: Mapping[str, float]) -> None:
        """Take over what was learned before."""
        self._logs = {part: log(value) for part, value in known.items() if _sensible(value)}


def taught(efficiencies: Efficiencies, fleet: Fleet, links: Links) -> Links:
    """Apply what was learned: write it into the fleet's columns, and return the links with it."""
    known = efficiencies.known()
    for part, value in known.items():
        kind, _, name = part.partition(":")
        row = fleet.row(name)
        if row is not None and kind in _COLUMNS:
            fleet.column(_COLUMNS[kind])[row] = value

    def slower(link: Link, part: str) -> Link:
        return replace(link, rate=link.rate * known[part]) if part in known else link

    return Links(
        racks={
            at: slower(link, f"rack:{'/'.join(filter(None, at))}")
            for at, link in links.racks.items()
        },
        zones={at: slower(link, f"zone:{at}") for at, link in links.zones.items()},
        origins={at: slower(link, f"origin:{at}") for at, link in links.origins.items()},
        peers=links.peers * known.get("peers", 1.0),
    )


class Times:
    """Medians of the newest times, by key; a key that nothing is known of gets the median of all."""

    def __init__(self, default: float) -> None:
        """Know nothing but a default, in seconds."""
        self._default = default
        self._by_key: dict[str, deque[float]] = {}
        self._all: deque[float] = deque(maxlen=_KEPT)

    def of(self, key: str) -> float:
        """Return what is expected of a key, in seconds."""
        times = self._by_key.get(key) or self._all
        return median(times) if times else self._default

    def learn(self, key: str, seconds: float) -> None:
        """Take in a time; one that makes no sense is ignored."""
        if not (isfinite(seconds) and seconds >= 0):
            return
        times = self._by_key.pop(key, None) or deque(maxlen=_KEPT)
        times.append(seconds)
        self._by_key[key] = times
        self._all.append(seconds)
        _forget(self._by_key)

    def known(self) -> Mapping[str, list[float]]:
        """Return all times that are remembered, by key."""
        return {key: list(times) for key, times in self._by_key.items()}

    def restore(self, known: Mapping[str, Iterable[float]]) -> None:
        """Take over what was learned before."""
        for key, times in known.items():
            for seconds in times:
                self.learn(key, seconds)


class Errors:
    """How wrong estimates were: actual over estimated seconds."""

    def __init__(self) -> None:
        """Know of no outcome."""
        self._logs: deque[float] = deque(maxlen=_ERRORS_KEPT)

    def __len__(self) -> int:
        """Return how many outcomes are remembered."""
        return len(self._logs)

    def learn(self, *, estimated: float, actual: float) -> None:
        """Take in an outcome; what makes no sense is ignored."""
        if _sensible(estimated) and _sensible(actual):
            self._logs.append(log(actual / estimated))

    @property
    def median_ratio(self) -> float:
        """Half of all jobs took longer than this times the estimate; 1 before there are outcomes."""
        return exp(median(self._logs)) if self._logs else 1.0

    @property
    def median_error(self) -> float:
        """The median of how far off estimates were, as a share: 0.25 for a quarter, either way."""
        return exp(median(abs(each) for each in self._logs)) - 1 if self._logs else 0.0

    def widened(self, seconds: float) -> Seconds:
        """Return an estimate with its ninetieth percentile."""
        if len(self._logs) < _ERRORS_BELIEVED:
            return Seconds(seconds, seconds * _SPREAD_GUESSED)
        ninth = sorted(self._logs)[len(self._logs) * 9 // 10]
        return Seconds(seconds, seconds * max(exp(ninth), 1.0))

    def confidence(self, *, age_seconds: float, fresh_seconds: float) -> float:
        """Return how far an estimate is to be trusted, 0 to 1.

        Args:
            age_seconds: Of the knowledge of a node.
            fresh_seconds: Up to this age it is as good as new; it halves with every such time after.
        """
        proven = 1 / (1 + self.median_error) if self._logs else 1 / _SPREAD_GUESSED
        late = max(age_seconds - fresh_seconds, 0.0) / fresh_seconds
        return float(proven * 0.5 ** min(late, 64.0))

    def known(self) -> list[float]:
        """Return the ratios that are remembered."""
        return [exp(each) for each in self._logs]

    def restore(self, known: Iterable[float]) -> None:
        """Take over what was learned before."""
        self._logs.extend(log(ratio) for ratio in known if _sensible(ratio))


class Lessons:
    """All that outcomes have taught."""

    def __init__(self) -> None:
        """Have learned nothing: programs start in no time, and run for ten minutes."""
        self.efficiencies = Efficiencies()
        self.starts = Times(0.0)
        self.runs = Times(600.0)
        self.errors = Errors()

    def outcome(
        self,
        dataset: str,
        estimated: Breakdown,
        actual_seconds: float,
        phases: Mapping[str, float] | None = None,
    ) -> None:
        """Take in how long a job took until it was ready.

        Args:
            dataset: The first of those that it read.
            estimated: What it had been told.
            actual_seconds: Until it was ready.
            phases: Seconds of its parts, as far as the job knows them: ``data``, ``load``, ``init``.
                Without them, the difference is put down to what the estimate waited for longest.
        """
        self.errors.learn(estimated=estimated.ready, actual=actual_seconds)
        phases = dict(phases or {})
        if "init" in phases:
            self.starts.learn(dataset, phases["init"])
        named = {"data": estimated.data, "load": estimated.load, "image": estimated.image}
        part = estimated.bottleneck
        kind = part.partition(":")[0]
        which = kind if kind in ("load", "image") else "data"
        if kind in ("slot", "init"):
            if kind == "init" and "init" not in phases:
                self.starts.learn(dataset, actual_seconds - (estimated.ready - estimated.init))
            return
        others = estimated.ready - named[which]
        actual = phases.get(which, actual_seconds - others)
        self.efficiencies.learn(part, estimated=named[which], actual=actual)

    def document(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "efficiencies": dict(self.efficiencies.known()),
            "starts": dict(self.starts.known()),
            "runs": dict(self.runs.known()),
            "errors": self.errors.known(),
        }

    def restore(self, document: Mapping[str, Any]) -> None:
        """Take over what :meth:`document` returned."""
        self.efficiencies.restore(document.get("efficiencies", {}))
        self.starts.restore(document.get("starts", {}))
        self.runs.restore(document.get("runs", {}))
        self.errors.restore(document.get("errors", ()))


def _sensible(seconds: float) -> bool:
    return _SECONDS_MIN <= seconds <= _SECONDS_MAX


def _forget(remembered: dict[str, Any]) -> None:
    """Drop the oldest; whatever is learned anew is put at the end."""
    while len(remembered) > KEYS_LIMIT:
        remembered.pop(next(iter(remembered)))
