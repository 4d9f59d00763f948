"""``publish``, and ``migrate`` with ``current``: what new opens see, and how that is undone."""

import pytest

from cachefs.config.schema import ClusterConfig, OriginConfig
from cachefs.config.secrets import Secret
from cachefs.core.names import DatasetName
from cachefs.dataflow.copying.datasets import DataPlane
from cachefs.dataflow.copying.ends import Sites
from cachefs.dataflow.steps.migrating import MigrateStep
from cachefs.dataflow.steps.publishing import PublishStep
from cachefs.errors import NotKnownError
from cachefs.testing.memory.cache import MemoryCache
from tests.unit.dataflow.steps.contexts import Steps, carry_out

NAME = DatasetName("team", "llama")
V2 = {"dataset": "llama@v2"}
INTO = {"from": "s3://m/v2", "to": "dataset:llama@v2", "current": True}


@pytest.fixture
def cache():
    made = MemoryCache({f"s3://m/v{n}": {"w.bin": 100 * n, "same": 50} for n in (1, 2, 3)})
    for label in ("v1", "v2"):
        made.publish(NAME, f"s3://m/{label}", {}, label=label)
    made.add_worker("one")
    return made


@pytest.fixture
def ids(cache):
    return {label: cache.resolve(NAME, label).manifest.id for label in ("v1", "v2")}


def current(cache):
    return cache.resolve(NAME, None).manifest.id


def test_new_opens_see_the_version_and_the_step_tells_what_they_saw_before(cache, ids):
    step, steps = PublishStep(cache), Steps()
    assert not step.observe(steps.attempt(), V2).done
    assert current(cache) == ids["v1"]
    observed = carry_out(step, steps.attempt(), V2)
    assert current(cache) == ids["v2"]
    assert observed.outputs == {
        "dataset": "team/llama",
        "version": ids["v2"],
        "before": ids["v1"],
    }


def test_what_is_current_already_is_done_and_undoing_it_changes_nothing(cache, ids):
    cache.make_current(NAME, "v2")
    step, steps = PublishStep(cache), Steps()
    assert step.observe(steps.attempt(), V2).done
    step.compensate(steps.attempt(undo=True), V2, {"restore": True})
    assert current(cache) == ids["v2"]


def test_a_successor_that_publishes_again_still_knows_what_was_before(cache, ids):
    step, steps = PublishStep(cache), Steps()
    step.apply(steps.attempt(), V2)
    step.apply(steps.attempt(), V2)
    step.apply(steps.attempt(2), V2)
    step.compensate(steps.attempt(2, undo=True), V2, {"restore": True})
    assert current(cache) == ids["v1"]
    step.compensate(steps.attempt(2, undo=True), V2, {"restore": True})
    assert current(cache) == ids["v1"]


def test_a_label_that_moves_meanwhile_does_not_move_the_step(cache, ids):
    step, steps = PublishStep(cache), Steps()
    step.apply(steps.attempt(), V2)
    cache.publish(NAME, "s3://m/v3", {}, label="v2")
    assert step.observe(steps.attempt(), V2).done
    assert current(cache) == ids["v2"]


def test_it_goes_back_to_a_version_that_is_named(cache, ids):
    third = cache.publish(NAME, "s3://m/v3", {}, label="v3").manifest.id
    step, steps = PublishStep(cache), Steps()
    step.apply(steps.attempt(), V2)
    step.compensate(steps.attempt(undo=True), V2, {"version": "v3"})
    assert current(cache) == third


def test_what_somebody_else_has_published_since_stays(cache, ids):
    third = cache.publish(NAME, "s3://m/v3", {}, label="v3").manifest.id
    step, steps = PublishStep(cache), Steps()
    step.apply(steps.attempt(), V2)
    cache.make_current(NAME, "v3")
    context = steps.attempt(undo=True)
    step.compensate(context, V2, {"restore": True})
    assert current(cache) == third
    assert "another version meanwhile" in context.take_told()[0][1]


def test_a_version_that_there_is_not_is_not_known(cache):
    with pytest.raises(NotKnownError):
        PublishStep(cache).observe(Steps().attempt(), {"dataset": "llama@v9"})


@pytest.fixture
def migrate(cache):
    plane = DataPlane(cache, ClusterConfig(), Secret("token"))
    return MigrateStep(cache, Sites(cache, OriginConfig(), plane))


def test_a_copy_into_a_dataset_is_current_when_the_workers_hold_it_and_not_before(
    cache, migrate, ids
):
    steps, seen = Steps(), []

    def meanwhile():
        seen.append(current(cache))
        cache.fill(1)

    observed = carry_out(migrate, steps.attempt(meanwhile=meanwhile), INTO)
    assert set(seen) == {ids["v1"]}
    assert len(seen) >= 3
    assert current(cache) == ids["v2"]
    assert observed.outputs["version"] == ids["v2"]
    cache.make_current(NAME, "v1")
    assert not migrate.observe(steps.attempt(), INTO).done


@pytest.mark.parametrize("delete", [True, False])
def test_undone_the_copy_is_current_no_more_and_goes_if_it_shall(cache, migrate, ids, delete):
    steps = Steps()
    carry_out(migrate, steps.attempt(meanwhile=cache.fill), INTO)
    migrate.compensate(steps.attempt(undo=True), INTO, {"delete": delete})
    assert current(cache) == ids["v1"]
    left = cache.residency(NAME, "v2", ["w.bin"]).bytes_resident
    assert left == (0 if delete else 200)
