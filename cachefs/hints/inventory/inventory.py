"""The inventory itself: it looks, sorts and keeps, in a thread of its own, and gives what it has at once.

Each tenth of a second it asks whether workers have reported other blocks (a number is compared), and counts what
has changed. A few times a second it looks at the store: who has renewed, and said what. Once a
second it asks the sources of nodes. So a block that a worker reports is in the next hint a tenth of a second
later; the worker reports within half a second, and sooner than all of it matters.

What people ask for is given as it was found last. Only what was never asked for is sorted in the asker's
thread, if it is not too many files; if it is, another thread does that, which also sorts all current
versions before anybody asks, and the asker gets the best that is known.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from cachefs.coordinator.duties import Surroundings
from cachefs.core.blocks import FileVersionId
from cachefs.core.globs import Globs
from cachefs.core.hints.asking import Reading
from cachefs.core.hints.estimate import Links
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.spread import Spread, nowhere
from cachefs.core.hints.spreading import Place, credited
from cachefs.core.manifest import FileEntry, VersionId
from cachefs.core.names import DatasetName, WorkerId
from cachefs.errors import CacheFSError, NotKnownError
from cachefs.hints.inventory import fluid, linking
from cachefs.hints.inventory.awaiting import Awaiting
from cachefs.hints.inventory.found import Found
from cachefs.hints.inventory.hearing import Heard, Hearing
from cachefs.hints.inventory.machines import Machines
from cachefs.hints.inventory.nodesfile import NodesFile
from cachefs.hints.inventory.sources import Listing, NodeSource
from cachefs.hints.inventory.spreads import Choice, Ground, Kept, Spreads
from cachefs.hints.inventory.versions import Named, Versions
from cachefs.ports import Closing, Task
from cachefs.telemetry.metrics import Sample
from cachefs.wire.nodereports import NO_TRAFFIC

_LOG = logging.getLogger("cachefs.coordinator")

TICK_SECONDS = 0.1
LOOK_SECONDS = 0.25
"""How often the store is looked at, if that takes no time."""
_LOOKS_BETWEEN = 4
"""So many times as long as a look took lies between two: of many thousand members, or on a busy machine."""
SOURCE_SECONDS = 1.0
AT_ONCE_FILES = 2_000
"""So many files are sorted in the asker's thread: some 20 milliseconds."""
_WAITING_LIMIT = 1_000
"""Choices that wait to be sorted; the one that was asked for longest ago is forgotten."""
_OLD_SECONDS = 600.0
"""A version that is not current any more is forgotten when nobody has asked for it for so long."""
_CLOSE_SECONDS = 5.0


class Inventory(Closing):
    """Nodes, links and spreads. Safe from any thread, as said at each method."""

    def __init__(self, parts: Surroundings, *, sources: Sequence[NodeSource] = ()) -> None:
        """Begin nothing yet.

        Args:
            parts: Of the coordinator's process. ``config.hints`` has the settings, the file of nodes
                among them.
            sources: Who else knows nodes; the inventory closes them. The file comes first.
        """
        config = parts.config.hints
        self._parts = parts
        self._config = config
        self._runtime = parts.runtime
        self._residency = parts.coordinator.residency
        self._members = parts.coordinator.members
        self._turn = parts.runtime.condition()
        self._news = parts.runtime.condition()
        self._ending = parts.runtime.condition()
        self._looking = parts.runtime.condition()
        self._fleet = Fleet()
        self._links = Links()
        self._machines = Machines(self._fleet, self._turn)
        self._hearing = Hearing(parts.store, lease_seconds=parts.cluster.lease_seconds)
        self._versions = Versions(parts.coordinator.catalogue)
        self._awaiting = Awaiting(parts.coordinator.residency.recorded)
        self._spreads = Spreads(
            parts.runtime,
            self._awaiting,
            block_size=parts.cluster.block_size,
            files_limit=config.spread_files_limit,
        )
        file = (NodesFile(Path(config.nodes_file)),) if config.nodes_file else ()
        self._sources: tuple[NodeSource, ...] = (*file, *sources)
        self._listings: tuple[Listing, ...] = ()
        self._labelled = fluid.Labelled(())
        self._ground = Ground()
        self._known: frozenset[WorkerId] = frozenset()
        self._epoch = 0
        self._revision = 0
        self._followed = -1
        self._fleet_revision = 0
        self._labels_of = -1
        self._looked_at = self._sources_at = self._look_due = float("-inf")
        self._store_problem = ""
        self._waiting: OrderedDict[Choice, Named] = OrderedDict()
        self._chosen: tuple[tuple[VersionId, tuple[str, ...]], Sequence[FileEntry]] | None = None
        self._ended = False
        self._tasks: tuple[Task, ...] = ()

    # ---- life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look once, and go on in threads of its own."""
        self._try(self.tick)
        self._tasks = (
            self._runtime.start("inventory", lambda: self._run(self.tick)),
            self._runtime.start("sorting", lambda: self._run(self._sort_what_waits)),
        )

    def close(self) -> None:
        """End the threads within seconds; idempotent."""
        self._ended = True
        for condition in (self._news, self._ending):
            with condition:
                condition.notify_all()
        for task in self._tasks:
            task.join(_CLOSE_SECONDS)
        for source in self._sources:
            source.close()

    def _run(self, work: Callable[[], None]) -> None:
        while not self._ended:
            self._try(work)
            self._pause()

    def _pause(self) -> None:
        until = self._runtime.monotonic() + TICK_SECONDS
        with self._ending:
            while not self._ended and (left := until - self._runtime.monotonic()) > 0:
                self._ending.wait(left)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except CacheFSError as error:
            if not self._store_problem:
                _LOG.warning("the inventory cannot look", extra={"failure": str(error)})
            self._store_problem = f"the inventory cannot look: {error.message}"
        except Exception:  # noqa: BLE001 - it is logged with its trace
            # A bug in one look must not end all later ones: hints would be of the past for ever.
            _LOG.exception("the inventory met a bug")
            self._store_problem = "the inventory met a bug; the coordinator's log has it"

    # ---- asked by others ----------------------------------------------------------------------------

    def turn(self) -> AbstractContextManager[object]:
        """Return the lock under which :attr:`fleet` and :attr:`links` may be read, and columns written.

        Hold it for some milliseconds and call nothing that waits; :meth:`find` may wait.
        """
        return self._turn

    @property
    def fleet(self) -> Fleet:
        """All nodes; always the same object. With the turn only.

        The inventory writes what a node is, and the columns ``streams_…`` and ``queued_…``; the
        ``efficiency_…`` columns are left to whoever learns them.
        """
        return self._fleet

    @property
    def links(self) -> Links:
        """Uplinks and origins, with the transfers that use them now; a new object at each change."""
        return self._links

    @property
    def epoch(self) -> int:
        """Of the view that was looked at last. Needs no turn."""
        return self._epoch

    @property
    def revision(self) -> int:
        """Grows whenever anything that a hint depends on has changed. Needs no turn."""
        return self._revision

    def wait(self, revision: int, *, timeout_seconds: float) -> int:
        """Wait until :attr:`revision` is another one, and return it; or the same at the time-out."""
        until = self._runtime.monotonic() + timeout_seconds
        with self._news:
            while self._revision == revision and not self._ended:
                left = until - self._runtime.monotonic()
                if left <= 0:
                    break
                self._news.wait(left)
            return self._revision

    def find(self, reading: Reading, *, rank: int = 0, ranks: int = 1) -> Found | None:
        """Return where the bytes of a reading are; ``None`` if there is no such dataset or version.

        Returns at once for what has been asked for before and for all files of a current version. New
        patterns are sorted out at once for some thousand files; for more see :attr:`Found.exact`.

        Args:
            reading: What is read. If it is ``by_rank``, each of the ``ranks`` members reads the files
                whose place among the chosen ones, sorted by path, is ``rank`` modulo ``ranks``.
            rank: From 0.
            ranks: The gang's size.

        Raises:
            ConfigError: A pattern cannot match anything, or several versions begin as the one named.
            CoordinatorUnavailableError: It must be looked up in the store, which does not answer.
        """
        named = self._versions.resolve(reading.dataset, reading.version)
        if named is None:
            return None
        place = (rank, ranks) if reading.by_rank else (0, 1)
        choice = Choice(named.dataset, named.id, reading.paths, *place)
        kept = self._spreads.find(choice)
        if kept is None:
            Globs(include=reading.paths)
            if named.files <= AT_ONCE_FILES:
                kept = self._sort(choice, named)
        if kept is not None:
            return Found.of(named, kept)
        with self._news:
            self._waiting[choice] = named
            self._waiting.move_to_end(choice)
            if len(self._waiting) > _WAITING_LIMIT:
                self._waiting.popitem(last=False)
        whole = self._spreads.find(Choice(named.dataset, named.id))
        if whole is None:
            unknown = nowhere(named.size, named.origin)
            whole = Kept(unknown, named.files, 0, self._looked_at)
        return Found.of(named, whole, exact=False, share=1 / place[1])

    def spread(self, reading: Reading) -> Spread | None:
        """Return :meth:`find`'s spread."""
        found = self.find(reading)
        return None if found is None else found.spread

    def age(self, node: str) -> float:
        """Return how many seconds ago a node was last heard of; infinite for one that is not there.

        Needs the turn. All at once are ``now - fleet.column("heard_at")``.
        """
        row = self._fleet.row(node)
        if row is None or not self._fleet.column("alive")[row]:
            return float("inf")
        return self._runtime.monotonic() - float(self._fleet.column("heard_at")[row])

    @property
    def behind_seconds(self) -> float:
        """How long ago the inventory last saw what the coordinator knows; below a second if all is well."""
        return self._runtime.monotonic() - self._looked_at

    @property
    def problems(self) -> Sequence[str]:
        """Why what is known is worth less than usual: to be said in a hint's ``degraded``.

        A file of nodes that cannot be read (the last good one holds), a store that does not answer.
        """
        said = [listing.problem for listing in self._listings if listing.problem]
        return (*said, self._store_problem) if self._store_problem else tuple(said)

    def heard(self) -> Mapping[WorkerId, Heard]:
        """Return what each worker said last of its node and of what moves; it is not changed later."""
        return self._hearing.workers

    def expect_release(self, node: str, gpu: int, at: float | None) -> None:
        """Say when what runs on an accelerator is expected to end; ``None`` if nobody knows any more.

        It outlasts the node's next report: :attr:`Gpu.free_at` of the fleet's node has it. Needs no turn.
        """
        self._machines.expect_release(node, gpu, at)

    def samples(self) -> Iterable[Sample]:
        """Yield what is measured, for the metrics."""
        with self._turn:
            nodes = int(self._fleet.column("alive").sum())
        yield "cachefs_hint_inventory_nodes", (), nodes
        yield "cachefs_hint_inventory_behind_seconds", (), self.behind_seconds
        yield "cachefs_hint_inventory_spreads", (), len(self._spreads)
        yield "cachefs_hint_inventory_files", (), self._spreads.files
        yield "cachefs_hint_inventory_problems", (), len(self.problems)

    # ---- looking ------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Bring everything up to date; called by one thread at a time.

        Raises:
            CoordinatorUnavailableError: The store does not answer.
        """
        with self._looking:
            now = self._runtime.monotonic()
            changed = False
            awaited: frozenset[FileVersionId] = frozenset()
            if now >= self._look_due:
                changed, awaited = self._look(now)
                took = self._runtime.monotonic() - now
                self._look_due = now + max(LOOK_SECONDS, _LOOKS_BETWEEN * took)
            changed |= self._follow(awaited)
            with self._turn:
                fleet_revision = self._fleet.revision
            if changed or fleet_revision != self._fleet_revision:
                self._fleet_revision = fleet_revision
                self._tell()

    def _look(self, now: float) -> tuple[bool, frozenset[FileVersionId]]:
        """Look at the store and, when it is time, at the sources.

        Returns whether streams or the ground of spreads have changed, and what is awaited otherwise.
        """
        if self._parts.store.is_shared:
            self._residency.refresh()
        news = self._hearing.listen(now)
        view = self._members.view
        is_time = now - self._sources_at >= SOURCE_SECONDS
        if is_time:
            self._sources_at = now
            self._listings = tuple(source.look() for source in self._sources)
        heard = self._hearing.workers
        known = self._residency.known(view)
        moved = self._machines.survey(
            view, heard, news.moved | (known - self._known), self._listings, known=known
        )
        # Who is placed only now may have been heard of before.
        self._machines.hear_workers(heard if moved else news.heard, heard)
        if is_time:
            self._machines.hear(self._listed_only(), now=now)
        renamed = self._versions.follow(news.catalogue)
        if renamed:
            self._spreads.forget(self._is_gone)
        self._epoch = view.epoch
        labelled = self._look_at_labels()
        if moved or labelled or known != self._known:
            self._known = known
            self._lay_ground(anew=True)
        awaited = self._awaiting.learn(heard if known == heard.keys() else _only(heard, known))
        if self._awaiting.arrivals is not self._ground.arrivals:
            self._lay_ground(anew=False)
        changed = self._look_at_streams(heard)
        self._looked_at = now
        self._store_problem = ""
        return changed, awaited

    def _listed_only(self) -> Iterator[str]:
        """Yield the nodes of sources that are well, without those that workers speak for."""
        spoken_for = {place.node for place in self._machines.places.values()}
        for listing in self._listings:
            if not listing.problem:
                yield from (name for name in listing.nodes if name not in spoken_for)

    def _is_gone(self, choice: Choice, asked_at: float) -> bool:
        if not self._versions.knows(choice.dataset):
            return True
        is_old = asked_at < self._runtime.monotonic() - _OLD_SECONDS
        return is_old and not self._versions.is_current(choice.dataset, choice.version)

    def _look_at_labels(self) -> bool:
        with self._turn:
            revision = self._fleet.revision
        if revision == self._labels_of:
            return False
        self._labels_of = revision
        before, now = self._labelled, fluid.Labelled(self._machines.labelled())
        self._labelled = now
        return (before.labels, before.places) != (now.labels, now.places)

    def _look_at_streams(self, heard: Mapping[WorkerId, Heard]) -> bool:
        busy = {
            worker: each.traffic for worker, each in heard.items() if each.traffic is not NO_TRAFFIC
        }
        origins = self._versions.origins
        streams = linking.count(busy, self._machines.places, origins)
        changed = self._machines.write_streams(streams)
        with self._turn:
            racks = tuple(self._fleet.racks)
        links = linking.links(self._config, self._listings, racks, set(origins.values()), streams)
        if links != self._links:
            self._links, changed = links, True
        return changed

    def _lay_ground(self, *, anew: bool) -> None:
        places: Mapping[WorkerId, Place] = {
            worker: place
            for worker, place in self._machines.places.items()
            if worker in self._known
        }
        self._ground = Ground(
            places=places if anew else self._ground.places,
            arrivals=self._awaiting.arrivals,
            adjusted=self._adjusted,
            number=self._ground.number + anew,
        )

    def _adjusted(self, dataset: DatasetName, found: Spread) -> Spread:
        """Credit a dataset's spread with what labels say is assigned to nodes."""
        uid = next(
            (
                uid
                for listing in self._listings
                for uid, name in listing.fluid_datasets.items()
                if name == dataset
            ),
            None,
        )
        labelled = self._labelled
        for node, each in labelled.assigned(dataset, uid).items():
            dram, nvme = fluid.credit(each, found.total, self._config.assigned_share)
            found = credited(found, node, labelled.places[node], dram=dram, nvme=nvme)
        return found

    # ---- sorting ------------------------------------------------------------------------------------

    def _follow(self, awaited: frozenset[FileVersionId]) -> bool:
        """Bring what is sorted up to date; return whether any spread may be another one."""
        before, self._spreads.ground = self._spreads.ground, self._ground
        changed = before is not self._ground
        revision = self._residency.revision
        if revision != self._followed or awaited:
            changed |= self._spreads.follow(revision, self._residency.changed_since, awaited)
            self._followed = revision
        return self._spreads.make_slow_ones() or changed

    def _sort_what_waits(self) -> None:
        """Sort what was asked for and, while there is room, what may be asked for next."""
        while not self._ended:
            with self._news:
                waiting = self._waiting.popitem() if self._waiting else None
            waiting = waiting or next(self._unsorted(), None)
            if waiting is None or self._sort(*waiting) is None:
                return
            self._tell()

    def _unsorted(self) -> Iterator[tuple[Choice, Named]]:
        for named in self._versions.current():
            choice = Choice(named.dataset, named.id)
            room = self._config.spread_files_limit - self._spreads.files
            if choice not in self._spreads and named.files <= room:
                yield choice, named

    def _sort(self, choice: Choice, named: Named) -> Kept | None:
        """Sort a choice; ``None`` if its version is gone."""
        at = self._residency.revision
        try:
            entries = self._entries(choice)
        except NotKnownError:
            return None
        return self._spreads.sort(choice, entries, origin=named.origin, at=at)

    def _entries(self, choice: Choice) -> Sequence[FileEntry]:
        """Return the files of a choice; those of all ranks are chosen once."""
        key = choice.version, choice.paths
        chosen = self._chosen
        if chosen is None or chosen[0] != key:
            files = self._parts.coordinator.catalogue.manifest(choice.version).files
            if choice.paths:
                globs = Globs(include=choice.paths)
                files = tuple(entry for entry in files if globs.select(entry.path))
            self._chosen = chosen = key, files
        return chosen[1][choice.rank :: choice.ranks]

    def _tell(self) -> None:
        """Let those who wait know that a hint may be another one now."""
        with self._news:
            self._revision += 1
            self._news.notify_all()


def _only(heard: Mapping[WorkerId, Heard], known: Collection[WorkerId]) -> dict[WorkerId, Heard]:
    return {worker: each for worker, each in heard.items() if worker in known}
