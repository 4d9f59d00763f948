"""What a worker's pod does before it ends."""

import pytest

from cachefs.errors import ConflictError, CoordinatorUnavailableError, DeadlineError, NotKnownError
from cachefs.k8s.leaving import Leaver, Leaving, is_one_too_many

POOL = {"wanted": 2, "wanted_by_zone": {}, "leaving": [], "problem": ""}


def leaver(worker="cachefs-worker-2", **fields):
    return Leaver(worker=worker, pool="default", **fields)


@pytest.mark.parametrize(
    ("pool", "who", "is_leaving"),
    [
        ({}, leaver("cachefs-worker-2"), True),
        ({}, leaver("cachefs-worker-1"), False),
        ({"wanted": 0}, leaver("cachefs-worker-0"), True),
        ({"wanted": None}, leaver("cachefs-worker-7"), False),
        ({"leaving": ["cachefs-worker-0"]}, leaver("cachefs-worker-0"), True),
        ({"wanted_by_zone": {"a": 1, "b": 1}}, leaver("cachefs-worker-a-1", zone="a"), True),
        ({"wanted_by_zone": {"a": 1, "b": 1}}, leaver("cachefs-worker-a-0", zone="a"), False),
        ({"wanted_by_zone": {"b": 2}}, leaver("cachefs-worker-a-0", zone="a"), True),
        ({}, leaver("default-node-9", numbered=False), False),
    ],
)
def test_one_beyond_the_wish_for_its_zone_shall_not_come_back(pool, who, is_leaving):
    assert is_one_too_many({**POOL, **pool}, who) is is_leaving


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class FakeApi:
    """A coordinator that answers as it is told to; an error is raised."""

    def __init__(self, clock, pool, drains):
        self.clock, self.pool, self.drains = clock, pool, list(drains)
        self.reports = []
        self.asked = 0

    def get(self, path, *, timeout_seconds):
        assert path == "/v1/pools/default"
        return self._given(self.pool)

    def post(self, path, body, *, timeout_seconds):
        if path.endswith("/report"):
            self.reports.append(body["stopped"])
            return None
        self.asked += 1
        self.clock.now += 1.0
        answer = self.drains.pop(0) if len(self.drains) > 1 else self.drains[0]
        return self._given(answer)

    @staticmethod
    def _given(answer):
        if isinstance(answer, Exception):
            raise answer
        return answer


def left(blocks, *, done=False):
    return {"blocks": blocks, "done": done}


def end(drains, pool=None, *, seconds=600.0):
    clock = Clock()
    api = FakeApi(
        clock, {**POOL, **(pool or {})} if not isinstance(pool, Exception) else pool, drains
    )
    told = Leaving(clock, api, leaver(), drain_seconds=seconds).run()
    return told, api, clock


def test_it_asks_until_all_is_handed_over_and_lingers_for_readers():
    told, api, clock = end([left(9), left(4), left(0, done=True)])
    assert (told, api.asked) == ("it has handed over all it held", 3)
    assert clock.now >= 3 + 3.0


def test_one_that_comes_back_ends_at_once():
    told, api, clock = end([left(9)], {"wanted": 3})
    assert (api.asked, clock.now) == (0, 0.0)
    assert "comes back" in told


def test_without_a_coordinator_it_ends_as_it_is_after_a_while():
    told, api, clock = end([], CoordinatorUnavailableError("gone"))
    assert (api.asked, clock.now) == (0, pytest.approx(10.0))
    assert "does not say" in told


def test_a_coordinator_that_comes_back_is_waited_for():
    gone = CoordinatorUnavailableError("gone")
    told, api, _ = end([left(9), gone, gone, left(0, done=True)])
    assert (told, api.asked) == ("it has handed over all it held", 4)


def test_who_is_no_member_any_more_has_left():
    assert end([left(3), NotKnownError("no such worker")])[0].startswith("it has handed over")


def test_the_last_worker_of_a_pool_that_shall_have_none_ends_with_what_it_holds():
    _, api, clock = end([ConflictError("nobody")], {"wanted": 0})
    assert (api.asked, api.reports) == (1, [])
    assert clock.now < 10.0


def test_one_that_finds_nobody_although_somebody_shall_be_there_waits():
    told, _, _ = end([ConflictError("nobody"), left(1), left(0, done=True)])
    assert told.startswith("it has handed over")


@pytest.mark.parametrize("drains", [[left(5)], [DeadlineError("no progress")]])
def test_a_drain_that_comes_no_further_is_given_up_and_the_coordinator_hears_why(drains):
    told, api, clock = end(drains)
    assert 90.0 <= clock.now < 100.0
    assert api.reports == [{"cachefs-worker-2": told}]


def test_the_time_that_a_pool_gives_is_kept():
    _, _, clock = end([left(blocks) for blocks in range(1000, 0, -1)], seconds=20.0)
    assert clock.now <= 21.5
