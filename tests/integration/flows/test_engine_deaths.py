"""A coordinator dies at any moment of a run; its successor comes to the same end.

The moments are those before and after each write to the store and each effect of a step. An engine that
is dead writes nothing and has no effects any more, and another goes on with its store.
"""

import random
import shutil

import pytest

from tests.integration.flows.engines import Effects, Kit, flow, states_of, step

UNDO = "compensate: {command: [undo]}"
AGAIN = "retry: {max: 5, backoff: {base: 5ms, max: 20ms}}"
PUBLISH = flow(
    step("out", rest=UNDO),
    step("copy", rest=f"foreach: {{zone: [a, b, c], max_parallel: 2}}, {UNDO}", needs=["out"]),
    step("flaky", "flaky", "2", needs=["out"], rest=AGAIN),
    step("join", needs=["copy", "flaky"], rest=UNDO),
    step("notes", "sleep", "0.1", needs=["join"]),
    step("may-fail", "fail", needs=["join"], rest="on_failure: continue"),
    step("skipped", needs=["join"], rest='if: "1 > 2"'),
    step("after", needs=["notes", "may-fail", "skipped"]),
    step("left", needs=["after"]),
    step("right", needs=["after"]),
    step("old", needs=["left", "right"]),
    finally_=[step("in"), step("tell", needs=["in"])],
)
GO_BACK = flow(
    step("out", rest=UNDO),
    step("copy", rest=f"foreach: {{zone: [a, b, c]}}, {UNDO}", needs=["out"]),
    step("flaky", "flaky", "1", rest=f"{AGAIN}, {UNDO}", needs=["copy"]),
    step("keep", needs=["copy", "flaky"]),
    step("join", needs=["keep"], rest=UNDO),
    step("roll", "fail", needs=["join"], rest="on_failure: rollback"),
    step("smoke", needs=["roll"]),
    step("old", needs=["smoke"]),
    finally_=[step("in"), step("tell", needs=["in"])],
)
POINTS = 50


class World:
    """A store, effects, and the run of one document in them."""

    def __init__(self, folder, template, document):
        folder.mkdir()
        shutil.copy(template, folder / "store.db")
        self.url = f"sqlite:///{folder / 'store.db'}"
        self.effects = Effects(folder / "effects.db")
        self.document = document

    def live(self, *, dies_at=-1):
        """Carry the run on, until it is over or we are dead; return the moments that there were."""
        with Kit(self.url, self.effects, dies_at=dies_at) as kit:
            try:
                run = kit.submit(self.document, key="the one")
                kit.wait(run)
            except Exception:
                if not kit.store.dead:
                    raise
            return kit.store.points

    def end(self):
        """Return what there is to compare, after a successor has ended the run."""
        with Kit(self.url, self.effects) as kit:
            before = kit.service.every(limit=10)
            done = [
                one.id
                for run in before
                for one in kit.service.get(run.id).steps
                if one.state == "Succeeded"
            ]
            calls = {name: self.effects.calls(name) for name in done}
            run = kit.submit(self.document, key="the one")
            status = kit.wait(run)
            # What was known to have succeeded was not applied once more.
            assert {name: self.effects.calls(name) for name in done} == calls
            self._check_story(kit.service.events(run, after=0), status)
            return status.run.state, states_of(status), self.effects.keys()

    @staticmethod
    def _check_story(events, status):
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        kinds = [(event.kind, event.step) for event in events]
        for one in status.steps:
            if one.state in ("Succeeded", "Skipped", "Failed", "UpstreamFailed", "Compensated"):
                words = {"UpstreamFailed": "upstream-failed"}.get(one.state, one.state.lower())
                assert kinds.count((f"step-{words}", one.id)) == 1, (one, kinds)
        assert kinds[-1][0] in ("run-succeeded", "run-failed", "run-rolled-back")
        assert [kind for kind, _ in kinds].count("run-queued") == 1


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """An empty store, so that each world need not make one."""
    folder = tmp_path_factory.mktemp("template")
    with Kit(f"sqlite:///{folder / 'store.db'}", Effects(folder / "effects.db")):
        pass
    return folder / "store.db"


def in_any_order(keys):
    """Return effects so that only an order that means something is left: that of undoing."""
    return sorted(key for key in keys if "/undo" not in key), [
        key for key in keys if "/undo" in key
    ]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("document", "ends_as"), [(PUBLISH, "Succeeded"), (GO_BACK, "RolledBack")], ids=["up", "back"]
)
def test_a_coordinator_dies_at_50_moments_and_the_run_ends_the_same(
    tmp_path, template, document, ends_as
):
    calm = World(tmp_path / "calm", template, document)
    points = calm.live()
    state, states, effects = calm.end()
    assert state == ends_as
    draw = random.Random(7)
    for moment in sorted(draw.sample(range(1, points), min(points - 1, POINTS // 2))):
        world = World(tmp_path / str(moment), template, document)
        world.live(dies_at=moment)
        found, found_states, found_effects = world.end()
        assert (found, found_states) == (state, states), f"dead at moment {moment}"
        assert set(found_effects) == set(effects), f"dead at moment {moment}"
        plain, undone = in_any_order(found_effects)
        assert plain == in_any_order(effects)[0]
        # The instances of a step have no order among them.
        assert [key.partition("[")[0] for key in undone] == [
            key.partition("[")[0] for key in in_any_order(effects)[1]
        ], f"dead at moment {moment}"


@pytest.mark.slow
def test_a_coordinator_that_dies_again_and_again_gets_there(tmp_path, template):
    calm = World(tmp_path / "calm", template, PUBLISH)
    calm.live()
    world = World(tmp_path / "world", template, PUBLISH)
    for moment in range(4, 40, 4):
        world.live(dies_at=moment)
    assert world.end()[:2] == calm.end()[:2]
    assert set(world.effects.keys()) == set(calm.effects.keys())


@pytest.mark.slow
@pytest.mark.parametrize("document", [PUBLISH, GO_BACK], ids=["up", "back"])
def test_a_store_that_often_does_not_answer_changes_nothing_but_the_time(
    tmp_path, template, document
):
    calm = World(tmp_path / "calm", template, document)
    calm.live()
    for seed in range(2):
        world = World(tmp_path / str(seed), template, document)
        with Kit(world.url, world.effects) as kit:
            run = kit.submit(document, key="the one")
            kit.store.hiccups = random.Random(seed)
            while not kit.over(run):
                kit.runtime.sleep(0.05)
            kit.store.hiccups = None
        assert world.end()[:2] == calm.end()[:2]
        assert set(world.effects.keys()) == set(calm.effects.keys())


def test_a_step_that_ends_while_the_store_is_away_is_heard_when_it_is_back(tmp_path, template):
    world = World(tmp_path / "world", template, "")
    with Kit(world.url, world.effects) as kit:
        run = kit.submit(flow(step("a", "rest", "0.3"), step("b", needs=["a"])))
        kit.wait_for_step(run, "a", "Running")
        kit.store.away = True
        kit.runtime.sleep(1.0)
        kit.store.away = False
        assert kit.wait(run).run.state == "Succeeded"
        assert kit.effects.calls("a") == 1
        assert kit.kinds(run, "a") == ["step-began", "step-told", "step-succeeded"]
