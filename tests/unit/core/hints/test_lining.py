"""Lining up: promises are kept, given up for better ones, and never made of what others hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.hints.asking import WantedGpu
from cachefs.core.hints.lining import InLine, Keeping, Places, line_up, useful
from cachefs.core.hints.matching import match
from cachefs.core.hints.nodes import Gpu, Node
from cachefs.core.hints.reserving import Asker, Reservations
from cachefs.core.hints.waiting import MOVES_MAX

NEVER = float("inf")
ONE = WantedGpu()


class Line:
    """Jobs and single places, and who got what."""

    def __init__(self, free_in):
        self.reservations = Reservations(passes_max=64)
        self.free_in = free_in
        self.made = 0

    def node(self, at):
        free_at = self.free_in[at]
        gpu = Gpu(index=0, used=float(free_at > 0), free_at=free_at or None)
        return Node(name=f"p{at}", gpus=(gpu,))

    def token(self):
        self.made += 1
        return f"r{self.made}"

    def ask(self, ready, *, now=0.0, keeps=True, wanted=ONE):
        seconds = np.array([max(each - now, 0.0) for each in self.free_in])
        jobs = [
            InLine(
                asker=Asker(job=name, wanted=wanted),
                ready=np.maximum(seconds, 0) + np.array(row),
                extra=np.zeros(len(row)),
                runs_seconds=100.0,
            )
            for name, row in ready.items()
        ]
        keeping = Keeping(
            reservations=self.reservations,
            node=self.node,
            token=self.token,
            wanted=range(len(jobs)),
        )
        names = list(ready)
        made = line_up(jobs, seconds, behind=0.0, now=now, keeping=keeping if keeps else None)
        return {names[each.job]: (each.place, each.is_free, each.token) for each in made}


def test_who_waits_for_a_place_keeps_it_until_a_better_one_is_found():
    line = Line([0.0, 5.0])
    first = line.ask({"a": [30.0, 1.0]})
    again = line.ask({"a": [30.0, 1.0]}, now=1.0)
    line.free_in = [0.0, 5.0, 0.0]
    moved = line.ask({"a": [30.0, 1.0, 0.0]}, now=2.0)

    assert first == again == {"a": (1, False, "r1")}
    assert moved == {"a": (2, True, "r2")}
    assert [each.token for each in line.reservations.held(now=2.0)] == ["r2"]


def test_who_wants_something_else_than_before_gives_up_what_it_holds():
    line = Line([0.0])
    assert line.ask({"a": [1.0]}) == {"a": (0, True, "r1")}

    less = WantedGpu(fraction=0.5)

    assert line.ask({"a": [1.0]}, wanted=less) == {"a": (0, True, "r2")}
    assert [each.wanted for each in line.reservations.held(now=0.0)] == [less]


def test_a_place_that_another_gets_is_given_up():
    line = Line([0.0, 5.0])
    assert line.ask({"a": [30.0, 2.0]}) == {"a": (1, False, "r1")}

    made = line.ask({"a": [30.0, 2.0], "b": [60.0, 0.0]}, now=1.0)

    assert {name: found[0] for name, found in made.items()} == {"a": 0, "b": 1}
    assert {each.job: each.places[0].node for each in line.reservations.held(now=1.0)} == {
        "a": "p0",
        "b": "p1",
    }


def test_who_is_moved_again_and_again_is_sent_to_what_is_free_in_the_end():
    line = Line([0.0, 5.0, 5.0])
    told = []
    for turn in range(2 * MOVES_MAX):
        waits = [40.0, 1.0, 9.0] if turn % 2 else [40.0, 9.0, 1.0]
        told.append(line.ask({"a": waits})["a"])

    assert [free for _, free, _ in told].index(True) == MOVES_MAX


def test_nobody_waits_without_a_promise():
    assert Line([0.0, 5.0]).ask({"a": [30.0, 1.0]}, keeps=False) == {"a": (0, True, "")}


def test_nobody_is_promised_anything_while_nothing_is_free():
    line = Line([5.0, 6.0])

    assert line.ask({"a": [1.0, 1.0]}) == {}
    assert line.reservations.held(now=0.0) == ()


@pytest.mark.parametrize("runs", [100.0, 9e9])
def test_what_somebody_else_holds_is_not_promised(runs):
    line = Line([0.0, 0.0])
    other = Asker(job="else", wanted=ONE)
    line.reservations.try_reserve(other, [(line.node(0), 1)], token="x", now=0.0, runs_seconds=runs)

    assert line.ask({"a": [1.0, 50.0]}) == {}  # it asks of the inventory what is free besides
    assert [each.job for each in line.reservations.held(now=0.0)] == ["else"]


@given(st.integers(1, 6), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_places_that_are_left_out_are_nobodys_best(jobs, count, seed):
    drawn = np.random.default_rng(seed)
    seconds = np.where(drawn.random(count) < 0.4, 0.0, drawn.uniform(1, 30, count))
    ready = seconds + drawn.uniform(0, 30, (jobs, count))
    places = Places(rows=np.arange(count), seconds=seconds)

    chosen = useful(list(ready), places, jobs=jobs)
    some = match(ready[:, chosen], seconds[chosen])
    every = match(ready, seconds)

    assert len(chosen) <= max(2 * jobs * jobs, 2 * jobs)
    found = {(each.job, int(chosen[each.row])) for each in some if each.is_free or each.declines}
    assert found == {(each.job, each.row) for each in every if each.is_free or each.declines}


def test_those_who_are_matched_together_pass_over_nobody_among_them():
    line = Line([0.0] * 6)
    line.reservations = Reservations(passes_max=3)

    made = line.ask({f"j{number}": [60.0 - number] * 6 for number in range(6)})

    assert len(made) == 6
    assert line.reservations.passed("j0") == 0


def test_a_job_in_line_is_passed_over_only_so_often():
    line = Line([0.0])
    for turn in range(64):
        made = line.ask({"late": [50.0], f"n{turn}": [0.0]}, now=float(turn))
        assert set(made) == {f"n{turn}"}
        line.reservations.cancel(made[f"n{turn}"][2], now=float(turn))

    assert set(line.ask({"late": [50.0], "more": [0.0]}, now=65.0)) == {"late"}
    assert line.reservations.passed("late") == pytest.approx(64)
