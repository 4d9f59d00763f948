"""Reservations and lessons in a store: over restarts, between coordinators, and when it fails."""

import threading

import pytest

from cachefs.coordinator.store.engine import Store
from cachefs.core.hints.asking import WantedGpu
from cachefs.core.hints.learning import Lessons
from cachefs.core.hints.nodes import Gpu, Node
from cachefs.core.hints.reserving import GRACE_SECONDS, Asker, Reservation
from cachefs.errors import CoordinatorUnavailableError
from cachefs.hints.keeping import Keeper, load_lessons, save_lessons
from tests.integration.coordinator.conftest import SkippingRuntime
from tests.integration.databases import Postgres, find_postgres

WHOLE = WantedGpu(count=8)
NODE = Node(name="n1", gpus=tuple(Gpu(index=index) for index in range(8)))


@pytest.fixture(scope="module")
def postgres():
    with Postgres(find_postgres()) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
        url = server.make_database(f"test_{abs(hash(request.node.nodeid)):x}")
    store = Store(url)
    yield store
    store.close()


@pytest.fixture
def runtime():
    return SkippingRuntime()


def keep(keeper, runtime, job, seconds=60.0):
    """Keep the node for a job, if it can be."""
    with keeper.changing(), keeper.reservations() as reservations:
        return reservations.try_reserve(
            Asker(job=job, wanted=WHOLE),
            [(NODE, 1)],
            token=f"r-{job}",
            now=runtime.monotonic(),
            keep_seconds=seconds,
            runs_seconds=7200.0,
        )


def cancel_and_fail(keeper, runtime):
    with keeper.changing():
        with keeper.reservations() as reservations:
            reservations.cancel("r-one", now=runtime.monotonic())
        1 / 0  # noqa: B018 - it fails


def jobs(keeper):
    return [kept.job for kept in keeper.held()]


def test_a_place_is_kept_over_a_restart_for_what_is_left_of_its_time(store, runtime):
    keep(Keeper(store, runtime), runtime, "one", seconds=60.0)
    runtime.skip(20.0)
    runtime.skip_wall(20.0)
    again = Keeper(store, runtime)
    (kept,) = again.held()
    assert (kept.token, kept.job, kept.nodes) == ("r-one", "one", ("n1",))
    assert kept.expires_at - runtime.wall() == pytest.approx(40.0, abs=1.0)
    assert again.taken()["n1"][0].members == 1
    assert again.taken(but_for="one") == {}
    runtime.skip(41.0)
    runtime.skip_wall(41.0)
    assert Keeper(store, runtime).held() == ()


def test_a_clock_that_was_set_back_gives_nobody_more_time(store, runtime):
    keep(Keeper(store, runtime), runtime, "one", seconds=60.0)
    runtime.skip_wall(-3600.0)
    (kept,) = Keeper(store, runtime).held()
    assert kept.expires_at - runtime.wall() <= 60.0


def test_two_coordinators_never_promise_one_place_to_two_jobs(store, runtime):
    first, second = Keeper(store, runtime), Keeper(store, runtime)
    assert isinstance(keep(first, runtime, "one"), Reservation)
    assert not isinstance(keep(second, runtime, "two"), Reservation)
    assert jobs(second) == ["one"]
    with second.changing(), second.reservations() as reservations:
        reservations.cancel("r-one", now=runtime.monotonic())
    assert isinstance(keep(first, runtime, "one"), Reservation)


def test_many_who_ask_two_coordinators_at_once_get_one_place(store, runtime):
    keepers = [Keeper(store, runtime) for _ in range(2)]
    made = []

    def ask(number):
        made.append(keep(keepers[number % 2], runtime, f"j{number}"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert len(made) == 8
    (kept,) = [each for each in made if isinstance(each, Reservation)]
    for keeper in keepers:
        keeper.refresh()
    with keepers[0].changing():
        pass
    assert jobs(keepers[0]) == jobs(Keeper(store, runtime)) == [kept.job]


def test_a_coordinator_on_a_shared_store_sees_what_another_keeps(store, runtime):
    first, second = Keeper(store, runtime), Keeper(store, runtime)
    keep(first, runtime, "one")
    second.refresh()
    assert jobs(second) == (["one"] if store.is_shared else [])


def test_what_has_expired_leaves_the_store(store, runtime):
    keeper = Keeper(store, runtime)
    keep(keeper, runtime, "one", seconds=5.0)
    runtime.skip(GRACE_SECONDS + 1.0)
    changes = keeper.changes
    keeper.refresh()
    assert keeper.changes > changes
    changes = keeper.changes
    keeper.refresh()
    assert keeper.changes == changes
    assert Keeper(store, runtime).held() == ()


def test_a_change_that_fails_has_not_been(store, runtime):
    keeper = Keeper(store, runtime)
    keep(keeper, runtime, "one")
    with pytest.raises(ZeroDivisionError):
        cancel_and_fail(keeper, runtime)
    keeper.refresh()
    assert jobs(keeper) == ["one"]
    assert jobs(Keeper(store, runtime)) == ["one"]


def test_without_a_store_nothing_is_kept(runtime, tmp_path):
    store = Store(f"sqlite:///{tmp_path}/store.db")
    keeper = Keeper(store, runtime)
    store.close()
    for file in tmp_path.glob("store.db*"):
        file.unlink()
    with pytest.raises(CoordinatorUnavailableError):
        keep(keeper, runtime, "one")


def test_rows_that_have_not_changed_are_not_written_again(store, runtime):
    keeper = Keeper(store, runtime)
    keep(keeper, runtime, "one")
    before = dict(keeper._stored)
    runtime.skip(1.0)
    keep(keeper, runtime, "two")
    assert keeper._stored["reservation/r-one"] == before["reservation/r-one"]


def test_lessons_are_stored_whole(store):
    assert load_lessons(store).document() == Lessons().document()
    lessons = Lessons()
    lessons.starts.learn("llama", 7.0)
    lessons.efficiencies.learn("nvme:n1", estimated=1.0, actual=2.0)
    save_lessons(store, lessons.document())
    save_lessons(store, lessons.document())
    found = load_lessons(store)
    assert found.starts.of("llama") == 7.0
    assert found.efficiencies.of("nvme:n1") == pytest.approx(lessons.efficiencies.of("nvme:n1"))
