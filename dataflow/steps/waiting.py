"""``wait``: until the cache is as a condition says, or for a while."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cachefs.core.coverage import Coverage
from cachefs.dataflow.ports import Cache, Observed, StepContext, StepKind
from cachefs.dataflow.records import Progress
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import Target, Wait
from cachefs.dataflow.spec.lexer import ExpressionError
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.steps.choosing import FilesOf, choose
from cachefs.errors import ConfigError

_UNTIL = "until"
"""In the checkpoint: when a while is over, in seconds since 1970."""
_PERCENT = 100


@dataclass(frozen=True, slots=True)
class _Place:
    """Some files, everywhere or in one zone, as they are kept there now."""

    zone: str
    bytes_total: int
    bytes_resident: int
    copies: int
    workers: int

    def names(self) -> Mapping[str, Value]:
        """What the condition's names mean here.

        What is resident is verified: blocks count from the moment that their digest was computed, and
        no more once it was found wrong.
        """
        whole = self.bytes_resident / self.bytes_total if self.bytes_total else 1.0
        return {
            "cached_fraction": whole if self.workers else 0.0,
            "verified": True,
            "bytes_resident": self.bytes_resident,
            "bytes_total": self.bytes_total,
            "bytes_missing": self.bytes_total - self.bytes_resident,
            "copies": self.copies,
            "workers": self.workers,
        }


class WaitStep(StepKind):
    """Done when the condition holds, at one moment, of everything that it looks at."""

    def __init__(self, cache: Cache) -> None:
        """Look at a cache."""
        self._cache = cache

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Look once."""
        wanted: Wait = kinds.check("wait", arguments)
        if wanted.condition is None:
            return _while_observed(context, wanted)
        places = list(self._places(context, wanted))
        holds = bool(places) and all(_holds(wanted, place) for place in places)
        total = sum(place.bytes_total for place in places)
        resident = sum(place.bytes_resident for place in places)
        short = [
            place.zone
            for place in places
            if place.zone and place.bytes_resident < place.bytes_total
        ]
        note = f"not yet in {', '.join(sorted(set(short)))}" if short and not holds else ""
        outputs = {"bytes": total} if holds else {}
        return Observed(holds, Progress(done=resident, total=total, note=note), outputs)

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Look again and again."""
        wanted: Wait = kinds.check("wait", arguments)
        if wanted.condition is None and _UNTIL not in context.checkpoint():
            context.note({_UNTIL: context.runtime.wall() + wanted.duration})
        while not (observed := self.observe(context, arguments)).done:
            context.report(observed.progress)
            context.sleep(wanted.every)

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """There is nothing to undo."""

    def _places(self, context: StepContext, wanted: Wait) -> Iterator[_Place]:
        targets = wanted.of
        if wanted.dataset is not None:
            targets = (Target(dataset=wanted.dataset, paths=wanted.paths, zone=wanted.zone),)
        for target in targets:
            files = choose(self._cache, context, target.dataset, target.paths)
            residency = self._cache.residency(files.name, files.version, files.paths)
            zone = wanted.zone or target.zone
            if wanted.per == "zone" and not zone:
                # Without workers there are no zones, and nothing is everywhere.
                zones = sorted(residency.bytes_by_zone)
                yield from (self._place(files, residency, one) for one in zones)
                if not zones:
                    yield self._place(files, residency, "")
            else:
                yield self._place(files, residency, zone)

    def _place(self, files: FilesOf, residency: Coverage, zone: str) -> _Place:
        workers = sum(
            member.pool == files.resolved.pool and not member.draining and zone in ("", member.zone)
            for member in self._cache.view().members
        )
        if not zone:
            resident, copies = residency.bytes_resident, residency.copies
        else:
            resident = residency.bytes_by_zone.get(zone, 0)
            copies = residency.copies_by_zone.get(zone, 0)
        return _Place(zone, residency.bytes_total, resident, copies, workers)


def _holds(wanted: Wait, place: _Place) -> bool:
    if wanted.condition is None:
        return True
    try:
        return wanted.condition.truth(place.names())
    except ExpressionError as error:
        raise ConfigError(error.message, subject=wanted.condition.text, hint=error.hint) from error


def _while_observed(context: StepContext, wanted: Wait) -> Observed:
    until = context.checkpoint().get(_UNTIL)
    now = context.runtime.wall()
    # A calendar that jumped back does not make it wait longer than it was told.
    left = wanted.duration if until is None else min(wanted.duration, float(until) - now)
    progress = Progress(
        done=max(0.0, wanted.duration - max(0.0, left)), total=wanted.duration, unit="seconds"
    )
    return Observed(until is not None and left <= 0, progress)
