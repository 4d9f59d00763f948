"""The steps that deal with the cache, on one in memory: what they call done is what is observed."""

import pytest

from cachefs.core.names import DatasetName
from cachefs.dataflow.steps.evicting import EvictStep
from cachefs.dataflow.steps.prefetching import PrefetchStep
from cachefs.dataflow.steps.scaling import ScaleStep
from cachefs.dataflow.steps.waiting import WaitStep
from cachefs.errors import ConfigError, DeadlineError, FlowError, NotKnownError, StepCancelledError
from cachefs.testing.memory.cache import MemoryCache
from tests.unit.dataflow.steps.contexts import Steps, carry_out

NAME = DatasetName("team", "llama")
V1 = {"shared.bin": 1000, "old.bin": 500, "config.json": 100}
V2 = {"shared.bin": 1000, "new.bin": 700}
URL, OTHER = "memory://v1", "memory://v2"


@pytest.fixture
def cache():
    made = MemoryCache({URL: V1, OTHER: V2})
    made.publish(NAME, URL, {}, label="v1")
    return made


def workers(cache, **zones):
    for name, zone in (zones or {"w1": "", "w2": ""}).items():
        cache.add_worker(name, zone)


def act(*acts):
    """Return what does one act after another, and fails if more is waited for."""
    left = list(acts)

    def meanwhile():
        assert left, "it waits for nothing"
        left.pop(0)()

    return meanwhile


def prefetch(cache, step=None, **arguments):
    context = (step or Steps()).attempt(meanwhile=cache.fill)
    return carry_out(PrefetchStep(cache), context, {"dataset": "llama", **arguments})


# ---- prefetch ---------------------------------------------------------------------------------------


def test_a_prefetch_is_done_when_all_is_resident_and_says_what_it_was(cache):
    workers(cache)
    observed = prefetch(cache)
    version = cache.resolve(NAME, None).manifest.id
    assert observed.outputs == {
        "dataset": "team/llama",
        "version": version,
        "bytes": 1600,
        "files": 3,
    }
    assert observed.progress.origin_bytes == 1600
    assert cache.origin_bytes == 1600


def test_what_is_there_already_is_not_asked_for_again(cache):
    workers(cache)
    prefetch(cache)
    observed = PrefetchStep(cache).observe(Steps("b").attempt(), {"dataset": "llama"})
    assert observed.done
    assert observed.progress.origin_bytes == 0


def test_only_files_that_match_are_filled(cache):
    workers(cache)
    assert prefetch(cache, paths=["*.json"]).outputs["bytes"] == 100
    with pytest.raises(NotKnownError, match="no file matches"):
        prefetch(cache, paths=["*.onnx"])


def test_a_version_that_becomes_current_meanwhile_is_not_what_an_attempt_goes_on_with(cache):
    workers(cache)
    step = Steps()
    kind, arguments = PrefetchStep(cache), {"dataset": "llama"}

    def stop():
        cache.fill(3)
        context.stop()

    context = step.attempt(1, meanwhile=act(stop))
    with pytest.raises(StepCancelledError):
        kind.apply(context, arguments)
    second = cache.publish(NAME, OTHER, {}, label="v2").manifest.id
    cache.make_current(NAME, second)
    observed = carry_out(kind, step.attempt(2, meanwhile=cache.fill), arguments)
    assert observed.outputs["version"] != second
    assert observed.progress.origin_bytes == cache.origin_bytes == 1600


def test_a_prefetch_that_is_cancelled_ends_its_warm_up_and_the_next_goes_on_from_there(cache):
    workers(cache)
    step = Steps()
    context = step.attempt(meanwhile=act(lambda: cache.fill(9), lambda: context.stop()))  # noqa: PLW0108 - it is not there yet
    with pytest.raises(StepCancelledError):
        PrefetchStep(cache).apply(context, {"dataset": "llama"})
    assert [job.state for job in cache._jobs.values()] == ["cancelled"]
    before = cache.origin_bytes
    carry_out(PrefetchStep(cache), step.attempt(2, meanwhile=cache.fill), {"dataset": "llama"})
    assert cache.origin_bytes - before == 1600 - before


def test_a_prefetch_that_a_successor_goes_on_with_leaves_its_warm_up_alone(cache):
    workers(cache)
    step = Steps()
    context = step.attempt(meanwhile=act(lambda: cache.fill(2), lambda: context.abandon()))  # noqa: PLW0108 - it is not there yet
    with pytest.raises(StepCancelledError):
        PrefetchStep(cache).apply(context, {"dataset": "llama"})
    carry_out(PrefetchStep(cache), step.attempt(1, meanwhile=cache.fill), {"dataset": "llama"})
    assert [job.state for job in cache._jobs.values()] == ["done"]


def test_a_worker_that_dies_during_a_prefetch_is_made_up_for(cache):
    workers(cache)

    def die():
        cache.fill(9)
        cache.remove_worker("w1")

    meanwhile = iter([die])
    context = Steps().attempt(meanwhile=lambda: next(meanwhile, cache.fill)())  # noqa: PLW0108 - another each time
    assert carry_out(PrefetchStep(cache), context, {"dataset": "llama"}).done
    assert cache.residency(NAME, None, ()).bytes_resident == 1600


def test_without_workers_a_prefetch_waits(cache):
    context = Steps().attempt(seconds=0.2, meanwhile=lambda: None)
    observed = PrefetchStep(cache).observe(context, {"dataset": "llama"})
    assert not observed.done
    assert "no worker" in observed.progress.note
    with pytest.raises(DeadlineError):
        carry_out(PrefetchStep(cache), context, {"dataset": "llama"})


def test_a_zone_has_its_own_copy(cache):
    workers(cache, w1="a", w2="b")
    prefetch(cache, zone="b")
    assert cache.residency(NAME, None, ()).bytes_by_zone == {"a": 0, "b": 1600}
    observed = PrefetchStep(cache).observe(Steps("x").attempt(), {"dataset": "llama", "zone": "a"})
    assert not observed.done


def test_copies_are_had_as_far_as_there_are_workers(cache):
    workers(cache)
    prefetch(cache)
    two = {"dataset": "llama", "copies": 2}
    assert not PrefetchStep(cache).observe(Steps("two").attempt(), two).done
    prefetch(cache, Steps("two"), copies=2)
    assert cache.residency(NAME, None, ()).copies == 2
    assert PrefetchStep(cache).observe(Steps("many").attempt(), {**two, "copies": 9}).done


def test_somebody_elses_cancelling_of_the_warm_up_fails_the_step(cache):
    workers(cache)
    meanwhile = act(lambda: cache.cancel_warm(next(iter(cache._jobs))))
    with pytest.raises(FlowError, match="somebody cancelled"):
        PrefetchStep(cache).apply(Steps().attempt(meanwhile=meanwhile), {"dataset": "llama"})


def test_undoing_a_prefetch_drops_what_no_other_version_has(cache):
    workers(cache)
    prefetch(cache)
    cache.publish(NAME, OTHER, {}, label="v2")
    step = Steps("two")
    arguments = {"dataset": "llama@v2"}
    carry_out(PrefetchStep(cache), step.attempt(meanwhile=cache.fill), arguments)
    assert cache.origin_bytes == 1600 + 700
    undo = step.attempt(2, undo=True)
    PrefetchStep(cache).compensate(undo, arguments, {"evict": True})
    assert cache.residency(NAME, "v1", ()).bytes_resident == 1600
    assert cache.residency(NAME, "v2", ()).bytes_resident == 1000


# ---- wait -------------------------------------------------------------------------------------------

WHOLE = {"dataset": "llama", "condition": "cached_fraction >= 1.0 && verified"}


def test_when_a_worker_is_killed_at_57_percent_a_wait_does_not_pass(cache):
    workers(cache)
    step = PrefetchStep(cache)
    context = Steps().attempt(meanwhile=lambda: cache.fill(9))
    step.apply(context, {"dataset": "llama"})  # the warm-up says that it is done
    assert [job.state for job in cache._jobs.values()] == ["done"]
    cache.remove_worker("w2")
    waiting = WaitStep(cache).observe(Steps("wait").attempt(), WHOLE)
    assert not waiting.done
    assert 0 < waiting.progress.done < 1600
    with pytest.raises(DeadlineError):
        carry_out(WaitStep(cache), Steps("w").attempt(seconds=0.2, meanwhile=lambda: None), WHOLE)


def test_a_wait_passes_as_soon_as_the_condition_holds(cache):
    workers(cache)
    meanwhile = act(lambda: None, lambda: prefetch(cache))
    assert carry_out(WaitStep(cache), Steps().attempt(meanwhile=meanwhile), WHOLE).outputs == {
        "bytes": 1600
    }


def test_a_wait_per_zone_wants_each_of_them(cache):
    workers(cache, w1="a", w2="b")
    prefetch(cache, zone="b")
    arguments = {**WHOLE, "per": "zone"}
    observed = WaitStep(cache).observe(Steps("w").attempt(), arguments)
    assert not observed.done
    assert observed.progress.note == "not yet in a"
    prefetch(cache, Steps("b"), zone="a")
    assert WaitStep(cache).observe(Steps("w").attempt(), arguments).done


def test_without_workers_nothing_is_cached_and_a_wait_does_not_pass(cache):
    assert not WaitStep(cache).observe(Steps().attempt(), WHOLE).done
    assert not WaitStep(cache).observe(Steps().attempt(), {**WHOLE, "per": "zone"}).done


def test_a_wait_for_a_while_goes_on_where_it_was_after_a_crash(cache):
    step = Steps()
    arguments = {"duration": "300ms"}
    context = step.attempt(meanwhile=lambda: context.abandon())  # noqa: PLW0108 - it is not there yet
    with pytest.raises(StepCancelledError):
        carry_out(WaitStep(cache), context, arguments)
    until = step.checkpoint["until"]
    carry_out(WaitStep(cache), step.attempt(), {**arguments, "every": "100ms"})
    assert step.checkpoint["until"] == until


# ---- scale ------------------------------------------------------------------------------------------


def scale(cache, workers, step=None, **arguments):
    context = (step or Steps()).attempt(meanwhile=cache.provide)
    return carry_out(
        ScaleStep(cache), context, {"dataset": "llama", "workers": workers, **arguments}
    )


def test_a_scale_is_done_when_workers_are_there_and_gone(cache):
    assert scale(cache, 3).outputs == {"pool": "default", "workers": 3}
    assert len(cache.view().members) == 3
    scale(cache, 0, Steps("in"))
    assert len(cache.view().members) == 0


def test_a_scale_by_zone_names_the_zones(cache):
    scale(cache, 4, per_zone=2, zones=["a", "b"])
    assert cache.pool("default").live_by_zone == {"a": 2, "b": 2}
    with pytest.raises(ConfigError, match="more than 3"):
        scale(cache, 3, Steps("b"), per_zone=2, zones=["a", "b"])


def test_zones_that_nobody_knows_are_an_error_that_says_what_to_write(cache):
    with pytest.raises(ConfigError, match="write zones"):
        scale(cache, 2, per_zone=1)


def test_undoing_a_scale_restores_what_was_wanted_before_also_after_a_crash(cache):
    scale(cache, 2, Steps("first"))
    step = Steps("second")
    context = step.attempt(meanwhile=lambda: context.abandon())  # noqa: PLW0108 - it is not there yet
    with pytest.raises(StepCancelledError):
        carry_out(ScaleStep(cache), context, {"dataset": "llama", "workers": 5})
    scale(cache, 5, step)  # a successor goes on; what was before is what was before the first
    undo = step.attempt(2, undo=True, meanwhile=cache.provide)
    ScaleStep(cache).compensate(undo, {"dataset": "llama", "workers": 5}, {"restore": True})
    assert len(cache.view().members) == 2
    undo = step.attempt(3, undo=True, meanwhile=cache.provide)
    ScaleStep(cache).compensate(undo, {"dataset": "llama", "workers": 5}, {"workers": 1})
    assert len(cache.view().members) == 1


# ---- evict ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("current", ["v1", "v2"])
def test_an_eviction_leaves_what_the_other_version_shares(cache, current):
    workers(cache)
    prefetch(cache)
    cache.publish(NAME, OTHER, {}, label="v2")
    prefetch(cache, Steps("two"), dataset="llama@v2")
    cache.make_current(NAME, current)
    arguments = {"dataset": "llama@v1"}
    observed = carry_out(EvictStep(cache), Steps("old").attempt(), arguments)
    assert observed.done
    assert cache.residency(NAME, "v2", ()).bytes_resident == 1700
    assert cache.residency(NAME, "v1", ()).bytes_resident == 1000


def test_an_eviction_of_all_that_there_is_leaves_nothing(cache):
    workers(cache)
    prefetch(cache)
    assert carry_out(EvictStep(cache), Steps("x").attempt(), {"dataset": "llama"}).done
    assert cache.residency(NAME, None, ()).bytes_resident == 0


def test_an_eviction_of_some_files_leaves_the_others(cache):
    workers(cache)
    prefetch(cache)
    arguments = {"dataset": "llama", "paths": ["*.json"]}
    carry_out(EvictStep(cache), Steps("x").attempt(), arguments)
    assert cache.residency(NAME, None, ()).bytes_resident == 1500
