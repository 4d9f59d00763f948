"""Spreads, kept: where the bytes of everything are that somebody may ask for, sorted ahead.

Theory of operation. For each *choice* of files (a version's, some patterns', a rank's share of them) there is
a tally (:mod:`cachefs.core.hints.spreading`), and for each file in it what was counted. When a worker reports
blocks, only those files are counted anew; a dataset of a hundred thousand files is gone through once, when
it is first sorted. The spread is made of the tally whenever that has changed, workers have come or gone, or
what is awaited has come nearer.

The index of residency tells which files have changed since a revision. When it cannot, because too much has
changed at once, choices are sorted anew, one after the other.

Choices are few thousand at most and all their files have a limit; the one that was asked for longest ago is
forgotten first.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Protocol

from cachefs.core.blocks import FileVersionId
from cachefs.core.hints.spread import Spread, nowhere
from cachefs.core.hints.spreading import AWAITED, Copy, Parts, Place, Tally, Who, parts_of, spread
from cachefs.core.manifest import FileEntry, VersionId
from cachefs.core.names import DatasetName, WorkerId
from cachefs.ports import Runtime

NEARER_SECONDS = 0.5
"""How often the time until something arrives is brought up to date."""
_FILES_AT_ONCE = 1000
"""Files that are looked up under the lock of the residency index: a millisecond."""
_CHOICES_LIMIT = 10_000
_SPARE_GROUPS = 1000


class Choice(NamedTuple):
    """Which files."""

    dataset: DatasetName
    version: VersionId
    paths: tuple[str, ...] = ()
    """Patterns; none for all."""
    rank: int = 0
    ranks: int = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """A spread that is at hand."""

    spread: Spread
    files: int
    revision: int
    made_at: float
    """A monotonic moment."""


class Holdings(Protocol):
    """Who has what of file versions. Safe from any thread."""

    def copies(self, names: Sequence[FileVersionId]) -> Sequence[Iterable[Copy]]:
        """Return who holds and awaits what of each file version."""
        ...

    def awaited(self) -> Collection[FileVersionId]:
        """Return what is awaited by anybody."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What turns a tally into a spread, besides itself."""

    places: Mapping[WorkerId, Place] = field(default_factory=dict)
    """Of the workers whose residency is known."""
    arrivals: Mapping[WorkerId, Mapping[FileVersionId, float]] = field(default_factory=dict)
    """The moments at which files that workers await are there."""
    adjusted: Callable[[DatasetName, Spread], Spread] = lambda _, found: found
    """Adds what is assigned without being known."""
    number: int = 0
    """Grows whenever all spreads are to be made anew: not with the arrivals alone."""


class _Sorted:
    """One choice, sorted. Its owner takes care that one thread at a time counts in it."""

    def __init__(
        self, files: Mapping[FileVersionId, int], *, block_size: int, origin: str, at: int
    ) -> None:
        self.files = files
        self.origin = origin
        self.at = at
        """The revision of residency that it has followed."""
        self.kept: Kept | None = None
        self.asked_at = float("-inf")
        self._block_size = block_size
        self._tally = Tally(sum(files.values()))
        self._parts: dict[FileVersionId, tuple[tuple[Who, int], ...]] = {}
        self._who: dict[Who, Who] = {}
        """Files that the same workers have share what says so."""
        self._awaited: set[FileVersionId] = set()

    def anew(self, at: int) -> "_Sorted":
        """Return the same choice, of which nothing is counted yet."""
        made = _Sorted(self.files, block_size=self._block_size, origin=self.origin, at=at)
        made.kept, made.asked_at = self.kept, self.asked_at
        return made

    def count(self, names: Collection[FileVersionId], holdings: Holdings) -> None:
        """Count some of the files anew."""
        remaining = iter(names)
        while batch := list(islice(remaining, _FILES_AT_ONCE)):
            for name, found in zip(batch, holdings.copies(batch), strict=True):
                self._replace(name, found)

    def unsettled(self, awaited: Collection[FileVersionId]) -> set[FileVersionId]:
        """Return the files of which something is awaited, or was when they were counted."""
        if len(awaited) < len(self.files):
            return self._awaited | {name for name in awaited if name in self.files}
        return self._awaited | (self.files.keys() & set(awaited))

    def _replace(self, name: FileVersionId, copies: Iterable[Copy]) -> None:
        parts: Parts = parts_of(self.files[name], self._block_size, copies)
        before = self._parts.pop(name, ())
        if before:
            self._tally.remove(dict(before))
        self._awaited.discard(name)
        if parts:
            self._tally.add(parts)
            self._parts[name] = tuple(
                (self._who.setdefault(who, who), size) for who, size in parts.items()
            )
            if any(how == AWAITED for who in parts for _, how in who):
                self._awaited.add(name)
        if len(self._who) > 2 * len(self._tally.sizes) + _SPARE_GROUPS:
            self._who = {who: who for who in self._tally.sizes}

    @property
    def awaits(self) -> bool:
        """Whether anything is on its way to anybody."""
        return bool(self._awaited)

    def spread(self, ground: Ground, now: float) -> Spread:
        """Make the spread."""
        if not self._tally.sizes:
            return nowhere(self._tally.total, self.origin)
        seconds: dict[WorkerId, float] = {}
        for worker, moments in ground.arrivals.items():
            here = [at for name, at in moments.items() if name in self.files]
            if here:
                # What is late by a second is expected to take another one.
                seconds[worker] = abs(max(here) - now)
        return spread(self._tally, ground.places, origin=self.origin, seconds=seconds)


class Spreads:
    """All choices. Safe from any thread; but one alone follows and makes spreads anew."""

    def __init__(
        self, runtime: Runtime, holdings: Holdings, *, block_size: int, files_limit: int
    ) -> None:
        """Keep none.

        Args:
            runtime: For its clock and locks.
            holdings: Says who has what of file versions.
            block_size: Bytes of a block.
            files_limit: Files in all choices together.
        """
        self._runtime = runtime
        self._holdings = holdings
        self._block_size = block_size
        self._files_limit = files_limit
        # Guards what is kept, and nothing that takes long is done under it.
        self._turn = runtime.condition()
        self._sorted: OrderedDict[Choice, _Sorted] = OrderedDict()
        self._files = 0
        self._revision = 0
        self._followed = 0
        self._ground = Ground()

    @property
    def files(self) -> int:
        """Files of all choices."""
        return self._files

    @property
    def ground(self) -> int:
        """The number of the ground that spreads were last made on."""
        return self._ground.number

    def __len__(self) -> int:
        """Return how many choices are kept."""
        return len(self._sorted)

    def __contains__(self, choice: Choice) -> bool:
        """Whether a choice is sorted."""
        return choice in self._sorted

    def find(self, choice: Choice) -> Kept | None:
        """Return a choice's spread, if it is sorted; it will be forgotten later than the others."""
        with self._turn:
            found = self._sorted.get(choice)
            if found is None:
                return None
            self._sorted.move_to_end(choice)
            found.asked_at = self._runtime.monotonic()
            return found.kept

    def sort(self, choice: Choice, entries: Iterable[FileEntry], *, origin: str, at: int) -> Kept:
        """Sort a choice and keep it.

        Args:
            choice: Which.
            entries: Its files.
            origin: The name of their origin.
            at: The revision of residency before this was called.
        """
        files = {entry.file_version: entry.size for entry in entries}
        made = _Sorted(files, block_size=self._block_size, origin=origin, at=at)
        names: Collection[FileVersionId] = files.keys()
        while True:
            followed, ground = self._followed, self._ground.number
            made.count(names, self._holdings)
            kept = self._make(choice, made)
            with self._turn:
                # If others than we counted are awaited by now, or workers came or went, all choices
                # but this one have been told.
                if (self._followed, self._ground.number) == (followed, ground):
                    self._put(choice, made)
                    return kept
            names = made.unsettled(self._holdings.awaited())

    def forget(self, gone: Callable[[Choice, float], bool]) -> None:
        """Forget the choices of which a function says so, given when each was last asked for."""
        with self._turn:
            for choice, one in list(self._sorted.items()):
                if gone(choice, one.asked_at):
                    del self._sorted[choice]
                    self._files -= len(one.files)

    def follow(
        self,
        revision: int,
        changed_since: Callable[[int], frozenset[FileVersionId] | None],
        awaited: frozenset[FileVersionId],
    ) -> set[Choice]:
        """Count what has changed, and return whose tallies have.

        Args:
            revision: The newest of residency.
            changed_since: Returns the file versions of which other blocks are held since a revision;
                ``None`` for too many.
            awaited: Those of which other blocks are awaited than before.
        """
        with self._turn:
            self._followed += bool(awaited)
            everyone = list(reversed(self._sorted.items()))
        changes: dict[int, frozenset[FileVersionId] | None] = {}
        touched: set[Choice] = set()
        for choice, one in everyone:
            if one.at not in changes:
                changes[one.at] = changed_since(one.at)
            changed = changes[one.at]
            if changed is None:
                self._count_anew(choice, one, revision)
                touched.add(choice)
                continue
            names = one.files.keys() & (changed | awaited)
            if names:
                one.count(names, self._holdings)
                touched.add(choice)
            one.at = revision
        return touched

    def _count_anew(self, choice: Choice, one: _Sorted, revision: int) -> None:
        made = one.anew(revision)
        made.count(one.files.keys(), self._holdings)
        with self._turn:
            if self._sorted.get(choice) is one:
                self._sorted[choice] = made

    def make(self, ground: Ground, touched: Collection[Choice] | None) -> bool:
        """Make the spreads of choices that were touched, of all for ``None``, and of those that await.

        Returns whether any is another one now.
        """
        with self._turn:
            self._ground = ground
            everyone = list(reversed(self._sorted.items()))
        before = self._revision
        for choice, one in everyone:
            is_due = touched is None or choice in touched or one.kept is None
            if not is_due and one.kept is not None and one.awaits:
                is_due = self._runtime.monotonic() - one.kept.made_at >= NEARER_SECONDS
            if is_due:
                self._make(choice, one)
        return self._revision != before

    def _make(self, choice: Choice, one: _Sorted) -> Kept:
        ground, now = self._ground, self._runtime.monotonic()
        found = ground.adjusted(choice.dataset, one.spread(ground, now))
        before = one.kept
        if before is not None and before.spread == found:
            kept = Kept(before.spread, before.files, before.revision, now)
        else:
            with self._turn:
                self._revision += 1
                kept = Kept(found, len(one.files), self._revision, now)
        one.kept = kept
        return kept

    def _put(self, choice: Choice, made: _Sorted) -> None:
        before = self._sorted.pop(choice, None)
        self._files += len(made.files) - (0 if before is None else len(before.files))
        self._sorted[choice] = made
        while len(self._sorted) > 1 and (
            self._files > self._files_limit or len(self._sorted) > _CHOICES_LIMIT
        ):
            _, forgotten = self._sorted.popitem(last=False)
            self._files -= len(forgotten.files)
