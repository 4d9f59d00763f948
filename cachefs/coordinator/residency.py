"""Residency: what workers report with their renewals, in the store and in memory.

Reports go to the store first, with the digests of the blocks in them; memory then follows the
store. So several coordinators on one store know the same, whichever of them a worker renews with.

The first digest that is reported of a block stands. A worker that later reports another one has
read other bytes from the same file version: one of the two is wrong, and readers will refuse the
later one's blocks. That is an event, and the reporter becomes a suspect.

What a worker held stays recorded when it leaves, for most come back with it. One that has been gone
for days is forgotten; if it returns after all, it reports everything, as whoever registers does.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from sqlalchemy import Connection

from cachefs.config.units import format_duration
from cachefs.coordinator.events import Events
from cachefs.coordinator.store import counters
from cachefs.coordinator.store import datasets as digest_rows
from cachefs.coordinator.store import members as member_rows
from cachefs.coordinator.store import residency as rows
from cachefs.coordinator.store.engine import Store
from cachefs.core.blocks import FileVersionId, block_count
from cachefs.core.jobs import Assignment, Plan, WantedFile, plan
from cachefs.core.membership import Member, View
from cachefs.core.moving import Handover, PlacedFile, when_leaving
from cachefs.core.names import WorkerId
from cachefs.core.residency import (
    Holding,
    ResidencyIndex,
    Summary,
    decode_mask,
    indexes,
    mask_bytes,
    summarise,
)
from cachefs.errors import ConfigError
from cachefs.ports import Runtime
from cachefs.wire import digests

TIERS = ("memory", "disk")
_LOOK_SECONDS = 60.0
"""How often, at most, one looks for workers that have been gone for too long."""
_REVISIONS_BETWEEN_WHOLES = 10_000
"""After so many reports of changes a worker is asked for the whole, which clears away the rows of
what has left."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What a worker says of one file version on one tier."""

    file_version: FileVersionId
    tier: str
    """Empty for all tiers, when the file version has left."""
    resident: bytes
    """A mask as it travels."""
    digests: bytes
    """Packed, of the resident blocks only."""


class Residency:
    """Which worker holds what. Safe from any thread."""

    def __init__(
        self, store: Store, runtime: Runtime, events: Events, *, block_size: int, digest_size: int
    ) -> None:
        """Load what is stored."""
        self._store = store
        self._runtime = runtime
        self._events = events
        self._block_size = self.block_size = block_size
        self._digest_size = digest_size
        self._turn = runtime.condition()
        self._index = ResidencyIndex()
        self._seen: dict[WorkerId, rows.Report] = {}
        self._foreign: dict[WorkerId, tuple[tuple[object, ...], tuple[FileVersionId, ...]]] = {}
        self._doubted: set[WorkerId] = set()
        self._look_at = runtime.monotonic()
        self.refresh()

    def refresh(self, only: WorkerId | None = None) -> None:
        """Follow the store; as far as one worker goes, if it is given."""
        with self._turn, self._store.read() as connection:
            for worker, known in member_rows.residency_known(connection, only).items():
                self._index.set_known(worker, known=known)
            for worker, report in rows.reports(connection, only).items():
                seen = self._seen.get(worker, rows.NO_REPORT)
                if report.revision == seen.revision:
                    continue
                since = seen.revision
                if seen.revision < report.whole:
                    since = 0
                    for holding in list(self._index.recorded(worker)):
                        self._index.put(holding._replace(mask=0))
                for holding in rows.since(connection, worker, since):
                    self._index.put(holding)
                self._seen[worker] = report

    def store_report(
        self,
        connection: Connection,
        worker: WorkerId,
        reported: Sequence[Reported],
        live: Mapping[FileVersionId, int],
        *,
        whole: bool,
    ) -> bool:
        """Store a worker's report within its renewal; say whether the worker must report the whole.

        Of file versions that no dataset has, only the presence matters: see :meth:`foreign`.

        Args:
            connection: The renewal's transaction.
            worker: Who reports.
            reported: What it says.
            live: Every file version there is, with its size.
            whole: What is not in the report is not there.

        Raises:
            ConfigError: The report makes no sense.
        """
        holdings: dict[tuple[FileVersionId, str], Holding] = {}
        told: list[tuple[FileVersionId, int, bytes]] = []
        for one in reported:
            for holding in self._holdings(worker, one, live):
                holdings[holding.file_version, holding.tier] = holding
                if one.digests:
                    told.append((one.file_version, holding.mask, one.digests))
        known = member_rows.residency_known(connection, worker).get(worker, False)
        if whole:
            before = {
                (held.file_version, held.tier): held for held in rows.since(connection, worker, 0)
            }
            changes = [held for key, held in holdings.items() if before.get(key) != held]
            left = (held for key, held in before.items() if key not in holdings and held.mask)
            changes += [held._replace(mask=0) for held in left]
            rows.put(connection, worker, changes, whole=True)
            member_rows.set_residency_known(connection, worker, known=True)
        elif holdings:
            rows.put(connection, worker, holdings.values(), whole=False)
        self._store_digests(connection, worker, told, live)
        report = rows.report(connection, worker)
        aged = report.revision - report.whole > _REVISIONS_BETWEEN_WHOLES
        if whole:
            self._doubted.discard(worker)
            return False
        return not known or aged or worker in self._doubted

    def forget_gone(self, *, kept_seconds: float) -> None:
        """Forget what workers held that have not been members for so long; now and then looks."""
        now = self._runtime.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + min(_LOOK_SECONDS, kept_seconds / 10)
        wall = self._runtime.wall()
        with self._store.write() as connection:
            epoch = counters.read(connection)["epoch"]
            # Locks the views: nobody becomes a member while it is taken for gone.
            if not counters.exchange(connection, "epoch", expected=epoch, value=epoch):
                return
            rows.note_gone(connection, at=wall)
            forgotten = rows.gone_before(connection, wall - kept_seconds)
            for worker in forgotten:
                rows.forget(connection, worker)
            for worker in forgotten:
                gone = format_duration(kept_seconds)
                message = f"it has been gone for {gone}, and what it held is forgotten"
                self._events.record(connection, "worker-forgotten", worker, message)

    def doubt(self, worker: WorkerId) -> None:
        """Ask a worker for the whole with its next renewal, for what is recorded may be wrong."""
        self._doubted.add(worker)

    def foreign(
        self, worker: WorkerId, live: Mapping[FileVersionId, int], catalogue: int
    ) -> tuple[FileVersionId, ...]:
        """Return the file versions that a worker holds and no dataset has."""
        with self._turn:
            key = (self._seen.get(worker), catalogue)
            cached = self._foreign.get(worker)
            if cached is None or cached[0] != key:
                recorded = {held.file_version for held in self._index.recorded(worker)}
                cached = (key, tuple(sorted(recorded - live.keys())))
                self._foreign[worker] = cached
            return cached[1]

    @property
    def revision(self) -> int:
        """Grows whenever something changes."""
        return self._index.revision

    def changed_since(self, revision: int) -> frozenset[FileVersionId] | None:
        """Return whose holdings have changed since a revision; ``None`` if that is too long ago."""
        with self._turn:
            return self._index.changed_since(revision)

    def recorded(self, file_versions: Iterable[FileVersionId]) -> list[tuple[Holding, ...]]:
        """Return what is recorded of each file version, of workers that are no members, too."""
        with self._turn:
            return [tuple(self._index.recorded_of(each)) for each in file_versions]

    def known(self, view: View) -> frozenset[WorkerId]:
        """Return the members of which everything that they hold is recorded."""
        with self._turn:
            return frozenset(
                member.worker for member in view.members if self._index.is_known(member.worker)
            )

    def plan(self, files: Iterable[WantedFile], assignment: Assignment) -> Plan:
        """Compare what a warm-up wants with what is resident."""
        with self._turn:
            return plan(files, assignment, self._index, block_size=self._block_size)

    def holders(self, file_version: FileVersionId, view: View) -> tuple[Holding, ...]:
        """Return which members hold which blocks of a file version."""
        with self._turn:
            workers = [member.worker for member in view.members]
            return tuple(self._index.holders(file_version, workers))

    def summary(self, sizes: Mapping[FileVersionId, int], view: View) -> Summary:
        """Return how much of some file versions is resident, and where."""
        with self._turn:
            workers = [member.worker for member in view.members]
            return summarise(sizes, self._index, workers, block_size=self._block_size)

    def masks(
        self, file_versions: Iterable[FileVersionId], view: View
    ) -> dict[FileVersionId, dict[tuple[WorkerId, str], int]]:
        """Return the blocks of some file versions that each member holds on each tier."""
        workers = [member.worker for member in view.members]
        found: dict[FileVersionId, dict[tuple[WorkerId, str], int]] = {}
        with self._turn:
            for file_version in file_versions:
                held = {
                    (one.worker, one.tier): one.mask
                    for one in self._index.holders(file_version, workers)
                }
                if held:
                    found[file_version] = held
        return found

    def handover(
        self,
        files: Sequence[PlacedFile],
        members: Sequence[Member],
        leaving: Collection[WorkerId],
        *,
        pool: str,
    ) -> Handover:
        """Return what must be handed over before some members may leave."""
        with self._turn:
            return when_leaving(
                files, self._index, members, leaving, pool=pool, block_size=self._block_size
            )

    def owned(self, files: Sequence[PlacedFile], members: Sequence[Member]) -> tuple[int, int]:
        """Return the blocks and bytes that some members hold, up to as many copies as wanted."""
        blocks = size = 0
        with self._turn:
            for file in files:
                masks = [
                    self._index.resident(member.worker, file.file_version) for member in members
                ]
                for index in indexes(reduce(or_, masks, 0)):
                    copies = min(file.replicas, sum(mask >> index & 1 for mask in masks))
                    blocks += copies
                    size += copies * mask_bytes(1 << index, file.size, self._block_size)
        return blocks, size

    def resident_bytes(self, live: Mapping[FileVersionId, int], view: View) -> int:
        """Return the bytes resident on all members, copies included."""
        return sum(share.size for share in self.summary(live, view).shares)

    def _holdings(
        self, worker: WorkerId, one: Reported, live: Mapping[FileVersionId, int]
    ) -> Iterable[Holding]:
        size = live.get(one.file_version)
        if size is None:
            # Recorded as long as it is there, so that the worker is told to drop it.
            yield from self._on_tiers(worker, one, int.from_bytes(one.resident, "little"))
            return
        blocks = block_count(size, self._block_size)
        mask = decode_mask(one.resident, blocks)
        if one.digests and len(one.digests) != mask.bit_count() * self._digest_size:
            raise ConfigError("a report's digests do not fit its bitmap", subject=worker)
        yield from self._on_tiers(worker, one, mask)

    def _on_tiers(self, worker: WorkerId, one: Reported, mask: int) -> Iterable[Holding]:
        if one.tier in TIERS:
            yield Holding(worker, one.file_version, one.tier, mask)
        elif not one.tier and not mask:
            for tier in TIERS:
                yield Holding(worker, one.file_version, tier, 0)
        else:
            raise ConfigError(f"no tier {one.tier!r}", subject=worker)

    def _store_digests(
        self,
        connection: Connection,
        worker: WorkerId,
        told: Sequence[tuple[FileVersionId, int, bytes]],
        live: Mapping[FileVersionId, int],
    ) -> None:
        told = [one for one in told if one[0] in live]
        if not told:
            return
        packed = digest_rows.lock_digests(connection, {file_version for file_version, _, _ in told})
        changed: dict[FileVersionId, bytearray] = {}
        contradicted: list[tuple[FileVersionId, int]] = []
        size = self._digest_size
        for file_version, mask, given in told:
            blocks = block_count(live[file_version], self._block_size)
            stored = changed.get(file_version) or bytearray(packed.get(file_version, b""))
            stored.extend(bytes(blocks * size - len(stored)))
            fresh = False
            for at, index in enumerate(indexes(mask)):
                ours = stored[index * size : (index + 1) * size]
                theirs = given[at * size : (at + 1) * size]
                if not any(ours):
                    stored[index * size : (index + 1) * size] = theirs
                    fresh = True
                elif ours != theirs:
                    contradicted.append((file_version, index))
            if fresh:
                changed[file_version] = stored
        digest_rows.put_digests(
            connection, ((name, bytes(stored)) for name, stored in sorted(changed.items()))
        )
        if contradicted:
            file_version, index = contradicted[0]
            reason = f"block {index} of {file_version} has another digest than the one known"
            if len(contradicted) > 1:
                reason += f", and so have {len(contradicted) - 1} others"
            member_rows.suspect(connection, worker, at=self._runtime.wall(), reason=reason)
            self._events.record(connection, "digest-contradicted", worker, reason)

    def digests(self, file_version: FileVersionId, size: int) -> list[bytes | None]:
        """Return the known digest of each block of a file version."""
        with self._store.read() as connection:
            packed = digest_rows.digests(connection, file_version) or b""
        whole = block_count(size, self._block_size) * self._digest_size
        return digests.unpack(packed.ljust(whole, b"\0"), self._digest_size)
