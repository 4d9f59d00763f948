"""Places that are kept: one holder each, nobody starves, and a restart changes nothing."""

import json
from collections.abc import Sequence
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cachefs.core.hints.asking import WantedGpu
from cachefs.core.hints.fitting import fit
from cachefs.core.hints.nodes import NEVER, Gpu, Node
from cachefs.core.hints.reserving import (
    AHEAD_SECONDS_MAX,
    GRACE_SECONDS,
    LINE_SECONDS,
    PASSES_MAX,
    SETTLE_SECONDS,
    Asker,
    Refusal,
    Reservation,
    Reservations,
)
from cachefs.errors import NotKnownError

ONE = WantedGpu()


def _node(name: str, *free_at: float | None, labels: dict[str, str] | None = None) -> Node:
    """Make a node with one accelerator for each moment; 0 for one that is free."""
    gpus = tuple(
        Gpu(index=at, used=float(moment != 0), free_at=moment or None)
        for at, moment in enumerate(free_at)
    )
    return Node(name=name, gpus=gpus, labels=labels or {})


def _asker(job: str, wanted: WantedGpu | None = ONE, **more: object) -> Asker:
    return Asker(job=job, wanted=wanted, **more)  # type: ignore[arg-type]


def _reserve(
    reservations: Reservations, job: str, where: Node | Sequence[Node], now: float, **more: object
) -> Reservation | Refusal:
    nodes = [where] if isinstance(where, Node) else where
    return reservations.try_reserve(
        _asker(job), [(node, 1) for node in nodes], token=f"t-{job}-{now}", now=now, **more
    )


def test_a_place_that_is_kept_is_kept_until_a_grace_after_its_release():
    kept = _reserve(Reservations(), "a", _node("n1", 130.0), 100.0)
    assert (kept.free_at, kept.expires_at) == (130.0, 130.0 + GRACE_SECONDS)


def test_a_place_is_kept_for_as_long_as_it_was_asked_for():
    kept = _reserve(Reservations(), "a", _node("n1", 0), 100.0, keep_seconds=60.0)
    assert kept.expires_at == 160.0
    kept = _reserve(Reservations(), "a", _node("n1", 0), 100.0, keep_seconds=1e9)
    assert kept.expires_at == 100.0 + AHEAD_SECONDS_MAX


def test_who_comes_second_waits_behind_the_first_one_s_run():
    reservations, node = Reservations(), _node("n1", 130.0)
    _reserve(reservations, "a", node, 100.0, runs_seconds=50.0)
    second = _reserve(reservations, "b", node, 101.0)
    assert second.free_at == 180.0


def test_what_nobody_knows_the_end_of_is_not_promised():
    reservations, node = Reservations(), _node("n1", 130.0)
    _reserve(reservations, "a", node, 100.0)
    assert "free never" in _reserve(reservations, "b", node, 101.0).reason
    assert "free in 1000000 s" in _reserve(Reservations(), "b", _node("n1", 1e6), 0.0).reason
    cordoned = Node(name="n1", gpus=(Gpu(index=0),), schedulable=False)
    assert isinstance(_reserve(Reservations(), "b", cordoned, 0.0), Refusal)


def test_places_on_several_nodes_are_kept_all_or_none():
    reservations, nodes = Reservations(), [_node("n1", 0), _node("n2", None)]
    assert isinstance(_reserve(reservations, "a", nodes, 100.0), Refusal)
    assert reservations.held(now=100.0) == ()
    both = _reserve(reservations, "a", [_node("n1", 0), _node("n2", 120.0)], 100.0)
    assert both.free_at == 120.0
    assert sorted(reservations.taken(now=100.0)) == ["n1", "n2"]


def test_what_is_kept_shows_in_the_slots_of_all_others_and_not_in_its_own():
    reservations, node = Reservations(), _node("n1", 0, 0)
    _reserve(reservations, "a", node, 100.0)
    taken = reservations.taken(now=100.0)
    assert fit(node, ONE, taken=taken["n1"]).slots == 1
    assert reservations.taken(now=100.0, but_for="a") == {}


def test_what_has_expired_is_free_and_cannot_be_claimed():
    reservations, node = Reservations(), _node("n1", 0)
    kept = _reserve(reservations, "a", node, 100.0)
    assert isinstance(_reserve(reservations, "b", node, 110.0), Refusal)
    later = 100.0 + GRACE_SECONDS
    assert reservations.taken(now=later) == {}
    assert isinstance(_reserve(reservations, "b", node, later), Reservation)
    with pytest.raises(NotKnownError):
        reservations.claim(kept.token, now=later)


def test_a_claimed_place_counts_until_the_inventory_shows_the_job():
    reservations, node = Reservations(), _node("n1", 0)
    kept = _reserve(reservations, "a", node, 100.0)
    claimed = reservations.claim(kept.token, now=105.0)
    assert reservations.claim(kept.token, now=106.0) == claimed
    assert "n1" in reservations.taken(now=106.0)
    assert reservations.taken(now=105.0 + SETTLE_SECONDS) == {}
    assert "claimed" in _reserve(reservations, "a", node, 106.0).reason


def test_who_claims_late_is_waited_for():
    reservations, node = Reservations(), _node("n1", 0)
    kept = _reserve(reservations, "a", node, 100.0, runs_seconds=30.0)
    assert reservations.taken(now=112.0)["n1"][0].until == 142.0
    reservations.claim(kept.token, now=113.0)
    assert reservations.taken(now=114.0)["n1"][0].until == 143.0


def test_a_release_that_slips_takes_along_who_still_asks_for_it():
    reservations = Reservations()
    _reserve(reservations, "a", _node("n1", 130.0), 100.0)
    assert reservations.follow({"n1": _node("n1", 140.0)}, now=110.0) == ()
    assert reservations.of("a", now=110.0).expires_at == 140.0 + GRACE_SECONDS
    assert reservations.follow({"n1": _node("n1", 500.0)}, now=150.0) == ()
    assert reservations.of("a", now=150.0).expires_at == 100.0 + LINE_SECONDS


def test_who_no_longer_asks_loses_a_place_that_will_not_be_free_in_time():
    reservations = Reservations()
    _reserve(reservations, "a", _node("n1", 130.0), 100.0, keep_seconds=300.0)
    silent = 100.0 + LINE_SECONDS
    assert reservations.follow({"n1": _node("n1", 0)}, now=silent) == ()
    (lost,) = reservations.follow({"n1": _node("n1", 300.0)}, now=silent)
    assert (lost.job, reservations.held(now=silent)) == ("a", ())


def test_a_release_that_comes_early_may_be_claimed_early():
    reservations = Reservations()
    _reserve(reservations, "a", _node("n1", 130.0), 100.0)
    reservations.follow({"n1": _node("n1", 0)}, now=110.0)
    kept = reservations.of("a", now=110.0)
    assert (kept.free_at, kept.expires_at) == (110.0, 130.0 + GRACE_SECONDS)


def test_what_was_just_placed_and_is_not_seen_yet_makes_nobody_early():
    reservations, node = Reservations(), _node("n1", 0)
    first = _reserve(reservations, "a", node, 100.0, runs_seconds=40.0)
    second = _reserve(reservations, "b", node, 101.0)
    reservations.claim(first.token, now=102.0)
    reservations.follow({"n1": node}, now=103.0)
    assert reservations.of("b", now=103.0) == second


def test_nothing_moves_on_nodes_that_have_not_changed():
    reservations = Reservations()
    kept = _reserve(reservations, "a", _node("n1", 130.0), 100.0)
    reservations.follow({"n2": _node("n2", 0)}, now=110.0)
    assert reservations.of("a", now=110.0) == kept


def test_giving_back_frees_at_once_and_twice_is_no_error():
    reservations, node = Reservations(), _node("n1", 0)
    kept = _reserve(reservations, "a", node, 100.0)
    assert reservations.cancel(kept.token, now=101.0) == kept
    assert reservations.cancel(kept.token, now=101.0) is None
    assert isinstance(_reserve(reservations, "b", node, 101.0), Reservation)


def test_a_job_holds_one_reservation_and_a_new_one_replaces_it():
    reservations, first, second = Reservations(), _node("n1", 0), _node("n2", 0)
    old = _reserve(reservations, "a", first, 100.0)
    new = _reserve(reservations, "a", second, 101.0)
    assert reservations.held(now=101.0) == (new,)
    assert reservations.of("a", now=101.0) == new
    assert reservations.cancel(old.token, now=101.0) is None


def test_a_refusal_takes_nothing_away():
    reservations, node = Reservations(), _node("n1", 0)
    kept = _reserve(reservations, "a", node, 100.0)
    assert isinstance(_reserve(reservations, "a", _node("n2", None), 101.0), Refusal)
    assert reservations.of("a", now=101.0) == kept


def test_waits_are_counted_and_places_that_are_free_are_none():
    reservations = Reservations()
    _reserve(reservations, "a", _node("n1", 0), 100.0)
    assert reservations.waits("a") == 0
    _reserve(reservations, "a", _node("n1", 130.0), 101.0)
    assert reservations.waits("a") == 1
    reservations.leave("a")
    assert reservations.waits("a") == 0


def _pass_over(reservations: Reservations, node: Node, start: float = 101.0) -> int:
    """Let later jobs come and go until one is refused; return how many were served."""
    for count in range(10 * PASSES_MAX):
        now = start + count / 4
        kept = _reserve(reservations, f"late-{count}", node, now)
        if isinstance(kept, Refusal):
            assert kept.behind == "early"
            return count
        reservations.cancel(kept.token, now=now)
    return -1


def test_nobody_is_passed_over_for_ever():
    reservations, node = Reservations(), _node("n1", 0)
    busy = _node("n1", None)
    assert isinstance(_reserve(reservations, "early", busy, 100.0), Refusal)
    assert _pass_over(reservations, node) == PASSES_MAX
    assert reservations.passed("early") == PASSES_MAX
    assert isinstance(_reserve(reservations, "early", node, 120.0), Reservation)
    other = _reserve(reservations, "late", _node("n1", 0, 0), 121.0)
    assert isinstance(other, Reservation)


def test_who_no_longer_asks_is_no_longer_in_line():
    reservations, node = Reservations(), _node("n1", 0)
    _reserve(reservations, "early", _node("n1", None), 100.0)
    _pass_over(reservations, node)
    assert isinstance(_reserve(reservations, "late", node, 100.0 + LINE_SECONDS), Reservation)


@pytest.mark.parametrize(
    "early",
    [
        _asker("early", WantedGpu(model="B200")),
        _asker("early", candidates=frozenset({"n9"})),
        _asker("early", selector={"tier": "a"}),
    ],
)
def test_who_could_not_use_a_node_is_not_passed_over_there(early):
    reservations = Reservations()
    reservations.line_up(early, now=100.0)
    assert _pass_over(reservations, _node("n1", 0)) == -1
    assert reservations.passed("early") == 0


def test_a_member_without_accelerators_may_be_kept_a_place_too():
    kept = Reservations().try_reserve(_asker("a", None), [(_node("n1"), 4)], token="t", now=100.0)
    assert kept.free_at == 100.0


def test_a_wall_clock_that_was_set_back_gives_nobody_more_time():
    first = Reservations()
    kept = _reserve(first, "a", _node("n1", 0), 100.0)
    second = Reservations()
    second.load(first.rows(now=100.0, wall=5e9), now=7.0, wall=5e9 - 3600)
    restored = second.of("a", now=7.0)
    assert restored.expires_at - 7.0 <= kept.expires_at - 100.0


def test_an_outage_counts():
    first = Reservations()
    _reserve(first, "a", _node("n1", 0), 100.0)
    second = Reservations()
    second.load(first.rows(now=100.0, wall=5e9), now=7.0, wall=5e9 + GRACE_SECONDS)
    assert second.held(now=7.0) == ()


class Line(RuleBasedStateMachine):
    """Jobs ask, are placed, end, vanish; the coordinator restarts; releases come when they were expected."""

    capacity: ClassVar = {"n0": 2, "n1": 1}
    jobs = st.sampled_from([f"j{at}" for at in range(6)])
    kinds = st.sampled_from([ONE, WantedGpu(count=2), WantedGpu(fraction=0.5)])

    def __init__(self) -> None:
        super().__init__()
        self.reservations = Reservations(passes_max=2)
        self.time = 1000.0
        self.shift = 0.0
        self.running: dict[str, tuple[dict[str, tuple[WantedGpu, int]], float]] = {}
        self.tokens = 0
        self.overtaken: dict[str, int] = {}

    @property
    def now(self) -> float:
        return self.time + self.shift

    def node(self, name: str) -> Node:
        """Return what an inventory says of a node."""
        shares, ends = [0.0] * self.capacity[name], [0.0] * self.capacity[name]
        for places, end in self.running.values():
            wanted, members = places.get(name, (ONE, 0))
            part = wanted.fraction or 1.0
            for _ in range(members * wanted.count):
                room = [at for at, used in enumerate(shares) if used + part <= 1]
                assert room, "two holders of one place"
                at = max(room, key=lambda at: shares[at])
                shares[at] += part
                ends[at] = max(ends[at], end)
        gpus = tuple(
            Gpu(index=at, used=used, free_at=end + self.shift if used else None)
            for at, (used, end) in enumerate(zip(shares, ends, strict=True))
        )
        return Node(name=name, gpus=gpus)

    @rule(
        job=jobs,
        wanted=kinds,
        where=st.dictionaries(st.sampled_from(["n0", "n1"]), st.integers(1, 2), min_size=1),
        runs=st.sampled_from([5.0, 40.0, None]),
    )
    def ask(self, job, wanted, where, runs):
        if job in self.running:
            return
        waiting = {
            one
            for one in self.reservations._line
            if self.reservations.of(one, now=self.now) is None
        }
        order = list(self.reservations._line)
        before = {one: self.reservations.passed(one) for one in waiting}
        had = self.reservations.of(job, now=self.now)
        self.tokens += 1
        found = self.reservations.try_reserve(
            Asker(job=job, wanted=wanted),
            [(self.node(name), members) for name, members in where.items()],
            token=f"t{self.tokens}",
            now=self.now,
            runs_seconds=runs,
        )
        assert had is None or self.reservations.of(job, now=self.now) is not None
        if isinstance(found, Reservation):
            assert found.free_at >= self.now
            assert found.expires_at == found.free_at + GRACE_SECONDS
            assert found.free_at <= self.now + AHEAD_SECONDS_MAX
            for one in order[: order.index(job)] if job in order else order:
                assert before.get(one, 0) < 2 or not self._could_use(one, where)

    def _could_use(self, job: str, where: dict[str, int]) -> bool:
        standing = self.reservations._line.get(job)
        if standing is None:
            return False
        count = standing.asker.wanted.count
        return any(self.capacity[name] >= count for name in where)

    @rule(seconds=st.sampled_from([1.0, 5.0, 30.0]))
    def pass_time(self, seconds):
        """Go from event to event; what is due is placed at once or never."""
        self.time += seconds
        self.running = {job: each for job, each in self.running.items() if each[1] > self.time}
        self.follow()

    def follow(self) -> None:
        nodes = {name: self.node(name) for name in self.capacity}
        before = self.reservations.held(now=self.now)
        lost = self.reservations.follow(nodes, now=self.now)
        after = self.reservations.held(now=self.now)
        assert {each.token for each in before} == {each.token for each in (*lost, *after)}

    def due(self) -> list[Reservation]:
        return [
            each
            for each in self.reservations.held(now=self.now)
            if not each.claimed and each.free_at <= self.now
        ]

    @precondition(lambda self: self.due())
    @rule(at=st.integers(0, 9))
    def claim(self, at):
        due = self.due()
        kept = due[at % len(due)]
        self.reservations.claim(kept.token, now=self.now)
        places = {node: (kept.wanted, members) for node, members in kept.places}
        end = self.time + (kept.runs_seconds or 60.0)
        self.running[kept.job] = places, end
        for name in places:
            self.node(name)  # there is room for it
        self.follow()

    @rule(job=jobs)
    def give_back(self, job):
        kept = self.reservations.of(job, now=self.now)
        if kept is not None and not kept.claimed:
            self.reservations.cancel(kept.token, now=self.now)
            assert self.reservations.of(job, now=self.now) is None

    @rule(clock=st.sampled_from([-900.0, 0.0, 12345.5]))
    def restart(self, clock):
        rows = json.loads(json.dumps(self.reservations.rows(now=self.now, wall=self.time + 1.7e9)))
        held = self.reservations.held(now=self.now)
        line = {job: self.reservations.passed(job) for job in self.reservations._line}
        waits = {job: self.reservations.waits(job) for job in line}
        old, self.shift = self.shift, clock
        self.reservations = Reservations(passes_max=2)
        self.reservations.load(rows, now=self.now, wall=self.time + 1.7e9)
        again = self.reservations.held(now=self.now)
        assert {each.token: each.places for each in again} == {
            each.token: each.places for each in held
        }
        for before, after in zip(
            sorted(held, key=lambda one: one.token),
            sorted(again, key=lambda one: one.token),
            strict=True,
        ):
            assert after.expires_at - clock == pytest.approx(before.expires_at - old, abs=1e-3)
            assert after.wanted == before.wanted
        for job, passed in line.items():
            if job in self.reservations._line:
                assert self.reservations.passed(job) == passed
                assert self.reservations.waits(job) == waits[job]

    @invariant()
    def what_has_expired_is_held_by_nobody(self):
        for each in self.reservations.held(now=self.now):
            assert each.expires_at > self.now
        taken = self.reservations.taken(now=self.now)
        held = {
            place.node for each in self.reservations.held(now=self.now) for place in each.places
        }
        assert set(taken) == held

    @invariant()
    def nobody_is_passed_over_too_often(self):
        for job in self.reservations._line:
            assert self.reservations.passed(job) <= 2


TestLine = pytest.mark.slow(Line.TestCase)
TestLine.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


def test_a_wide_job_gets_its_turn_among_a_stream_of_narrow_ones():
    """Two accelerators are never free at once by themselves: somebody is always quicker."""
    reservations = Reservations()
    ends = [110.0, 115.0]
    served_at, narrow = None, 0
    for step in range(1600):
        now = 100.0 + step
        free = [at for at, end in enumerate(ends) if end <= now]
        gpus = tuple(
            Gpu(index=at, used=float(at not in free), free_at=None) for at in range(2)
        )  # nobody knows when anything ends, so nothing can be promised ahead
        node = Node(name="n1", gpus=gpus)
        wide = reservations.try_reserve(
            _asker("wide", WantedGpu(count=2)), [(node, 1)], token=f"w{step}", now=now
        )
        if isinstance(wide, Reservation):
            served_at = step
            break
        one = _reserve(reservations, f"narrow-{step}", node, now)
        if free and isinstance(one, Reservation):
            reservations.claim(one.token, now=now)
            ends[free[0]] = now + 20.0
            narrow += 1
    assert served_at is not None
    assert narrow <= PASSES_MAX
    assert served_at < NEVER
