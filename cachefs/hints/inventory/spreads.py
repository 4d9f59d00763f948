"""Spreads, kept: where the bytes of everything are that somebody may ask for, sorted ahead.

Theory of operation. For each *choice* of files (a version's, some patterns', a rank's share of them) there is
a tally (:mod:`cachefs.core.hints.spreading`), and for each file in it what was counted. When a worker reports
blocks, only those files are counted anew; a dataset of a hundred thousand files is gone through once, when
it is first sorted. A spread is made of the tally when somebody asks for it and it is *stale*: the tally has
changed, workers have come or gone, or what is awaited has come nearer. That takes a fraction of a
millisecond, because files that the same workers have are one part. Where it takes long (a large dataset, each
block of which other workers have), it is made in the background, and who asks gets the last one.

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
from cachefs.ports import Condition, Runtime

NEARER_SECONDS = 0.5
"""The time until something arrives is brought up to date when it is older."""
QUICK_SECONDS = 0.002
"""A spread that took longer is made in the background from then on."""
_FILES_AT_ONCE = 200
"""Files that are counted under a lock at once: a millisecond."""
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
    """One choice, sorted. All but ``kept`` and ``asked_at`` is used with its turn alone."""

    def __init__(
        self,
        files: Mapping[FileVersionId, int],
        turn: Condition,
        *,
        block_size: int,
        origin: str,
        at: int,
    ) -> None:
        self.files = files
        self.origin = origin
        self.turn = turn
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
        self._changed = True
        self._ground = -1
        self._made_at = float("-inf")
        self._takes_seconds = 0.0

    def anew(self, at: int) -> "_Sorted":
        """Return the same choice, of which nothing is counted yet."""
        made = _Sorted(
            self.files, self.turn, block_size=self._block_size, origin=self.origin, at=at
        )
        made.kept, made.asked_at = self.kept, self.asked_at
        return made

    def count(self, names: Collection[FileVersionId], holdings: Holdings) -> None:
        """Count some of the files anew."""
        self._changed = self._changed or bool(names)
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

    def is_stale(self, ground: Ground, now: float) -> bool:
        """Whether a spread that is made now may be another one."""
        if self._changed or self._ground != ground.number:
            return True
        return bool(self._awaited) and now - self._made_at >= NEARER_SECONDS

    @property
    def is_quick(self) -> bool:
        """Whether a spread is made in no time, as far as the last one tells."""
        return self._takes_seconds <= QUICK_SECONDS

    def spread(self, ground: Ground, runtime: Runtime) -> Spread:
        """Make the spread."""
        began = runtime.monotonic()
        self._changed, self._ground, self._made_at = False, ground.number, began
        if self._tally.sizes:
            seconds = self._seconds(ground, began) if self._awaited else {}
            found = spread(self._tally, ground.places, origin=self.origin, seconds=seconds)
        else:
            found = nowhere(self._tally.total, self.origin)
        self._takes_seconds = runtime.monotonic() - began
        return found

    def _seconds(self, ground: Ground, now: float) -> dict[WorkerId, float]:
        seconds: dict[WorkerId, float] = {}
        for worker, moments in ground.arrivals.items():
            here = [at for name, at in moments.items() if name in self._awaited]
            if here:
                # What is late by a second is expected to take another one.
                seconds[worker] = abs(max(here) - now)
        return seconds


class Spreads:
    """All choices. Safe from any thread; but one alone follows."""

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
        self.ground = Ground()
        """What spreads are made on; who follows replaces it."""

    @property
    def files(self) -> int:
        """Files of all choices."""
        return self._files

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
        found.asked_at = now = self._runtime.monotonic()
        if found.kept is None or (found.is_quick and found.is_stale(self.ground, now)):
            with found.turn:
                return self._make(choice, found)
        return found.kept

    def sort(self, choice: Choice, entries: Iterable[FileEntry], *, origin: str, at: int) -> Kept:
        """Sort a choice and keep it.

        Args:
            choice: Which.
            entries: Its files.
            origin: The name of their origin.
            at: The revision of residency before this was called.
        """
        made = _Sorted(
            {entry.file_version: entry.size for entry in entries},
            self._runtime.condition(),
            block_size=self._block_size,
            origin=origin,
            at=at,
        )
        names: Collection[FileVersionId] = made.files.keys()
        while True:
            followed = self._followed
            made.count(names, self._holdings)
            with self._turn:
                # If others than we counted are awaited by now, whoever follows has told all choices
                # but this one.
                if self._followed == followed:
                    self._put(choice, made)
                    break
            names = made.unsettled(self._holdings.awaited())
        with made.turn:
            return self._make(choice, made)

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
    ) -> bool:
        """Count what has changed; return whether any tally has.

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
        touched = False
        for choice, one in everyone:
            if one.at not in changes:
                changes[one.at] = changed_since(one.at)
            changed = changes[one.at]
            if changed is None:
                self._count_anew(choice, one, revision)
                touched = True
                continue
            names = iter(one.files.keys() & (changed | awaited))
            # Little by little: who asks meanwhile gets a spread that is true of each file.
            while some := list(islice(names, _FILES_AT_ONCE)):
                with one.turn:
                    one.count(some, self._holdings)
                touched = True
            one.at = revision
        return touched

    def _count_anew(self, choice: Choice, one: _Sorted, revision: int) -> None:
        made = one.anew(revision)
        made.count(one.files.keys(), self._holdings)
        with self._turn:
            if self._sorted.get(choice) is one:
                self._sorted[choice] = made

    def make_slow_ones(self) -> bool:
        """Make the spreads that are stale and too slow for who asks; return whether there were any."""
        with self._turn:
            everyone = list(reversed(self._sorted.items()))
        made = False
        for choice, one in everyone:
            if not one.is_quick and one.is_stale(self.ground, self._runtime.monotonic()):
                with one.turn:
                    self._make(choice, one)
                made = True
        return made

    def _make(self, choice: Choice, one: _Sorted) -> Kept:
        """Make a choice's spread, with its turn; of two who want to, the second finds it made."""
        ground, now = self.ground, self._runtime.monotonic()
        before = one.kept
        if before is not None and not one.is_stale(ground, now):
            return before
        found = ground.adjusted(choice.dataset, one.spread(ground, self._runtime))
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
