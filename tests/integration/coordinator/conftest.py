"""A coordinator with everything real but the origin, the workers and the pace of the clock."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cachefs.config.schema import ClusterConfig, CoordinatorConfig
from cachefs.coordinator.answers import Renewal, Renewed
from cachefs.coordinator.calls import Account, Drained, Evicted
from cachefs.coordinator.residency import Reported
from cachefs.coordinator.service import Coordinator
from cachefs.coordinator.store.engine import Store
from cachefs.core.blocks import FileVersionId
from cachefs.core.datasets import Dataset, OriginSpec
from cachefs.core.eviction import Retention
from cachefs.core.jobs import WarmJob
from cachefs.core.membership import Member
from cachefs.core.names import DatasetName, WorkerId
from cachefs.core.residency import encode_mask, indexes
from cachefs.errors import CapacityError, OriginNotFoundError, WorkerUnavailableError
from cachefs.testing.memory.origin import MemoryOrigin
from cachefs.transport.runtime import ThreadRuntime
from tests.integration.databases import Postgres, find_postgres

BLOCK = 100
CLUSTER = ClusterConfig(block_size=BLOCK)


class SkippingRuntime(ThreadRuntime):
    """The real runtime, whose clocks the test can push forward."""

    def __init__(self) -> None:
        super().__init__()
        self._skipped = 0.0
        self._wall_skipped = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._skipped

    def wall(self) -> float:
        return super().wall() + self._wall_skipped

    def skip(self, seconds: float) -> None:
        """Push the monotonic clock."""
        self._skipped += seconds

    def skip_wall(self, seconds: float) -> None:
        """Push the calendar, or with a negative number set it back."""
        self._wall_skipped += seconds


class FakeWorkers:
    """What workers were told, and what they answer."""

    def __init__(self) -> None:
        self.told: dict[tuple[str, WorkerId], dict[FileVersionId, int]] = {}
        self.calls: list[tuple[str, WorkerId]] = []
        self.down: set[WorkerId] = set()
        self.full: set[WorkerId] = set()
        self.pinned: dict[WorkerId, Retention] = {}
        self.rates: dict[WorkerId, int] = {}

    def warm(
        self, member: Member, job: WarmJob, wanted: Mapping[FileVersionId, int], *, rate: int = 0
    ) -> None:
        self._reach(member, "warm")
        self.rates[member.worker] = rate
        if wanted and member.worker in self.full:
            raise CapacityError("its share does not fit", hint="add a worker")
        self.told[job.id, member.worker] = dict(wanted)

    def pin(self, member: Member, pins: Retention) -> int:
        self._reach(member, "pin")
        self.pinned[member.worker] = pins
        return pins.revision

    def evict(
        self,
        member: Member,
        file_versions: Sequence[FileVersionId],
        *,
        only_memory: bool = False,
    ) -> Evicted:
        self._reach(member, "demote" if only_memory else "evict")
        return Evicted(10 * len(file_versions), tuple(file_versions[:1]))

    def explain(self, member: Member, file_version: FileVersionId) -> Account:
        self._reach(member, "explain")
        return Account({"disk": 7}, {"origin": 3})

    def drain(self, member: Member, *, dry_run: bool) -> Drained:
        self._reach(member, "drain")
        return Drained(2, 200, 0.5, done=not dry_run)

    def _reach(self, member: Member, call: str) -> None:
        self.calls.append((call, member.worker))
        if member.worker in self.down:
            raise WorkerUnavailableError("it is down", subject=member.worker)


class Kit:
    """One or more coordinators on one store, driven by hand: nobody ticks but the test."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.runtime = SkippingRuntime()
        self.workers = FakeWorkers()
        self.origins: dict[str, MemoryOrigin] = {}
        self.listings = 0
        self.config = CoordinatorConfig(store_url=url, listing_wait_seconds=5.0)
        self._stores: list[Store] = []

    def coordinator(self, cluster: ClusterConfig = CLUSTER) -> Coordinator:
        store = Store(self.url)
        self._stores.append(store)
        return Coordinator(
            store,
            self.runtime,
            config=self.config,
            cluster=cluster,
            open_origin=self.open_origin,
            calls=self.workers,  # type: ignore[arg-type]  # the same methods
        )

    def open_origin(self, spec: OriginSpec, *_: object, **__: object) -> MemoryOrigin:
        self.listings += 1
        try:
            return self.origins[spec.url]
        except KeyError:
            raise OriginNotFoundError("nothing is there", subject=spec.url) from None

    def origin(self, url: str, files: Mapping[str, bytes]) -> MemoryOrigin:
        self.origins[url] = MemoryOrigin(files, spec=OriginSpec(url))
        return self.origins[url]

    def settle(self, coordinator: Coordinator, ticks: int = 3) -> None:
        """Tick, and let the calls to workers end each time."""
        for _ in range(ticks):
            coordinator.tick()
            coordinator.warming.close(wait_seconds=5.0)

    def close(self) -> None:
        for store in self._stores:
            store.close()


def member(worker: str, *, incarnation: str = "1", pool: str = "default") -> Member:
    return Member(
        worker=WorkerId(worker),
        incarnation=incarnation,
        node="node",
        zone="",
        pool=pool,
        weight=1.0,
        data_address="127.0.0.1:1",
        control_address="127.0.0.1:2",
        socket_path="",
    )


def declared(name: str, url: str = "memory://a", **fields: object) -> Dataset:
    return replace(Dataset(name=DatasetName.parse(name), origin=OriginSpec(url)), **fields)  # type: ignore[arg-type]


def digest_of(index: int) -> bytes:
    return bytes([index + 1]) * 16


def report(file_version: FileVersionId, mask: int, *, tier: str = "disk") -> Reported:
    digests = b"".join(digest_of(index) for index in indexes(mask))
    return Reported(file_version, tier, encode_mask(mask), digests)


def join(coordinator: Coordinator, *workers: str, whole: Sequence[Reported] = ()) -> None:
    """Register workers, each of which reports everything it holds."""
    for worker in workers:
        coordinator.members.register(member(worker), CLUSTER.fingerprint())
        renew(coordinator, worker, *whole, whole=True)


def renew(
    coordinator: Coordinator,
    worker: str,
    *residency: Reported,
    whole: bool = False,
    **fields: object,
) -> Renewed:
    return coordinator.renew(
        Renewal(
            worker=WorkerId(worker),
            incarnation=str(fields.pop("incarnation", "1")),
            epoch=0,
            residency=residency,
            residency_is_whole=whole,
            **fields,  # type: ignore[arg-type]
        )
    )


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start a private PostgreSQL server."""
    with Postgres(find_postgres()) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres, request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database."""
    return postgres.make_database(f"test_{abs(hash(request.node.nodeid)):x}")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty store, on each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def kit(store_url: str) -> Iterator[Kit]:
    """Return what makes coordinators on a store, on each engine."""
    made = Kit(store_url)
    yield made
    made.close()


@pytest.fixture
def small_kit(tmp_path: Path) -> Iterator[Kit]:
    """Return what makes coordinators on SQLite, where the engine does not matter."""
    made = Kit(f"sqlite:///{tmp_path / 'store.db'}")
    yield made
    made.close()
