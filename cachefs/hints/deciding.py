"""Deciding: from what is asked and what is known to the nodes in order.

All of it is reckoned in columns, for every node at once, while the inventory stands still. What people
are shown of a node (:mod:`.describing`) is made for the few nodes of the answer alone.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cachefs.core.hints.asking import Affinity, Question, Reading, WantedGpu
from cachefs.core.hints.candidates import Truths, candidates
from cachefs.core.hints.estimate import KINDS, Estimate, Links, Located, estimate, locate, together
from cachefs.core.hints.fitting import Taken
from cachefs.core.hints.fleet import Column, Fleet, Rows
from cachefs.core.hints.learning import Lessons, taught
from cachefs.core.hints.scoring import hundredths, ordered
from cachefs.core.hints.slots import Openings, Slots
from cachefs.core.hints.spread import Seen, Split, Spread, nowhere
from cachefs.hints.inventory import Found

_IMAGES_LIMIT = 256
"""Container images of which is remembered who has them."""
_ORIGIN = KINDS.index("origin")
NO_ACCELERATORS = "nobody has said which accelerators there are, so they are left to the scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What is paid for."""

    egress_usd_per_gb: float = 0.0
    """For 10⁹ bytes from an origin."""
    gpu_usd_per_hour: float = 0.0
    """For an accelerator, busy or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question, with where the bytes are that it names."""

    id: str
    """Of the hint that will answer it."""
    question: Question
    found: tuple[Found | None, ...]
    """For each reading; ``None`` where there is no such dataset or version."""
    notes: tuple[str, ...] = ()
    """Why some are not known, or known by halves."""

    @property
    def subject(self) -> str:
        """The dataset that stands for what the job reads; empty if it reads none."""
        readings = self.question.readings
        return str(readings[0].dataset) if readings else ""

    @property
    def job(self) -> str:
        """The asker's id of the job; the hint's for none."""
        return self.question.job or self.id

    def files(self, loaded: Collection[int] = ()) -> int:
        """Return how many are read, but for those of some readings."""
        return sum(
            found.files
            for index, found in enumerate(self.found)
            if found is not None and index not in loaded
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The nodes, a row a node, and those that can take the job in order."""

    asked: Asked
    fleet: Fleet
    links: Links
    rows: Rows
    """Of the nodes that can take the job, now or later, the best first."""
    scores: Column
    """0 to 100, for each of :attr:`rows`."""
    weighed: Column
    """Seconds until ready as the weights of the datasets have them: what order and scores come from."""
    estimate: Estimate
    may: Truths
    """Whether a node may be chosen, accelerators aside."""
    openings: Openings
    wanted: WantedGpu | None
    """What of accelerators is reckoned with."""
    located: tuple[Located | None, ...]
    """For each reading."""
    required: tuple[Located, ...]
    taken: Mapping[str, Sequence[Taken]]
    now: float
    notes: tuple[str, ...] = ()
    """Why the answer is worth less than usual."""

    @property
    def slot(self) -> Column:
        """Seconds until a member could start."""
        return self.openings.seconds

    @property
    def ready(self) -> Column:
        """Seconds until the job would be ready."""
        return self.estimate.ready


class Decider:
    """Decides. It keeps what is costly to find out; with the inventory's turn only."""

    def __init__(self, fleet: Fleet, lessons: Lessons, prices: Prices) -> None:
        """Decide among the nodes of a fleet."""
        self.fleet = fleet
        self.slots = Slots(fleet)
        self.lessons = lessons
        self._prices = prices
        self._images: dict[str, _Image] = {}
        self._given = self._taught = Links()
        self._taught_for = (-1, -1)

    def links(self, links: Links, lessons_revision: int) -> Links:
        """Return the links with what was learned of them; the fleet's columns get it, too."""
        taught_for = (lessons_revision, self.fleet.revision)
        if self._given is not links or self._taught_for != taught_for:
            self._taught = taught(self.lessons.efficiencies, self.fleet, links)
            self._given, self._taught_for = links, taught_for
        return self._taught

    def decide(
        self,
        asked: Asked,
        links: Links,
        *,
        taken: Mapping[str, Sequence[Taken]],
        now: float,
        loaded: Collection[int] = (),
    ) -> Decided:
        """Put the nodes in order.

        Args:
            asked: The question.
            links: As :meth:`links` returns them.
            taken: What is promised to others, by node.
            now: The moment.
            loaded: Readings that are in the accelerator already, wherever the job starts.
        """
        question, fleet = asked.question, self.fleet
        located = tuple(
            None if found is None else _located(found, fleet, is_loaded=index in loaded)
            for index, found in enumerate(asked.found)
        )
        pairs = [
            (reading, one)
            for reading, one in zip(question.readings, located, strict=True)
            if one is not None
        ]
        required = tuple(one for reading, one in pairs if reading.affinity is Affinity.REQUIRED)
        may = candidates(fleet, question, required)
        wanted, notes = self._wanted(question)
        openings = self.slots.openings(wanted, now=now, taken=taken)
        shares = [(reading.weight, _share(reading, one, question)) for reading, one in pairs]
        everything = self._everything([one for _, one in shares])
        reckoning = _Reckoning(
            question, asked.subject, asked.files(loaded), links, openings.seconds
        )
        reckoned = self._estimate(reckoning, everything)
        rows = np.flatnonzero(may & np.isfinite(reckoned.ready))
        seconds = reckoned.ready
        if len({weight for weight, _ in shares}) > 1:
            mean = sum(weight for weight, _ in shares) / len(shares)
            weighted = self._everything([_weighed(one, weight / mean) for weight, one in shares])
            seconds = self._estimate(reckoning, weighted).ready
        price = self._prices.egress_usd_per_gb / 1e9
        rows = ordered(
            fleet,
            rows,
            seconds,
            fragments=openings.growth,
            cost=everything.kinds[_ORIGIN] * price if price else None,
        )
        return Decided(
            asked=asked,
            fleet=fleet,
            links=links,
            rows=rows,
            scores=hundredths(seconds[rows]),
            weighed=seconds,
            estimate=reckoned,
            may=may,
            openings=openings,
            wanted=wanted,
            located=located,
            required=required,
            taken=taken,
            now=now,
            notes=notes,
        )

    def _wanted(self, question: Question) -> tuple[WantedGpu | None, tuple[str, ...]]:
        """Return what of accelerators can be reckoned with.

        Where no node says which it has, the scheduler alone knows; to refuse every node would be
        worse than to say nothing of accelerators.
        """
        if question.gpu is None or not len(self.fleet):
            return question.gpu, ()
        alive = np.flatnonzero(self.fleet.column("alive")).tolist()
        if any(self.fleet.at(row).gpus for row in alive):
            return question.gpu, ()
        return None, (NO_ACCELERATORS,)

    def _estimate(self, reckoning: "_Reckoning", located: Located) -> Estimate:
        question = reckoning.question
        return estimate(
            self.fleet,
            located,
            reckoning.links,
            slot=reckoning.slot,
            loader=question.loader,
            image=self._image(question),
            init=self.lessons.starts.of(reckoning.subject),
            files=reckoning.files,
        )

    def _everything(self, located: list[Located]) -> Located:
        return together(located, self.fleet) if located else locate(nowhere(0.0), self.fleet)

    def _image(self, question: Question) -> Column | None:
        """Return the seconds until each node has the container image."""
        if question.image is None or not question.image_bytes:
            return None
        known = self._images.pop(question.image, None) or _Image(question.image)
        self._images[question.image] = known
        while len(self._images) > _IMAGES_LIMIT:
            del self._images[next(iter(self._images))]
        fleet = self.fleet
        rate = fleet.column("nic") * fleet.column("efficiency_nic")
        pull = question.image_bytes * (fleet.column("streams_in") + 1) / rate
        seconds: Column = np.where(known.there(fleet), 0.0, pull)
        return seconds


class _Reckoning(NamedTuple):
    """What the estimates of one question have in common."""

    question: Question
    subject: str
    files: int
    links: Links
    slot: Column


class _Image:
    """Which nodes have a container image."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._revision = -1
        self._there: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def there(self, fleet: Fleet) -> NDArray[np.bool_]:
        if self._revision != fleet.revision:
            before = self._there
            self._there = np.zeros(len(fleet), dtype=np.bool_)
            self._there[: len(before)] = before
            for row in fleet.changed_since(self._revision).tolist():
                images = fleet.at(row).images
                # Somebody has to tell which images a node has; what nobody knows delays nobody.
                self._there[row] = images is None or self._name in images
            self._revision = fleet.revision
        return self._there


def _located(found: Found, fleet: Fleet, *, is_loaded: bool) -> Located:
    """Return where a reading's bytes are."""
    if not is_loaded:
        return locate(found.spread, fleet)
    return locate(
        Spread(total=found.spread.total, elsewhere=Seen(Split(gpu=found.spread.total))), fleet
    )


def _share(reading: Reading, located: Located, question: Question) -> Located:
    """Return what one member reads."""
    if question.gang is None or not reading.by_rank:
        return located
    return located.scaled(1 / question.gang.size)


def _weighed(located: Located, factor: float) -> Located:
    """Return so many times the seconds, those of what is on its way included."""
    return replace(located.scaled(factor), arriving=located.arriving * factor)
