"""``migrate`` into a dataset, on a cache whose workers do what the test says."""

import pytest

from cachefs.config.schema import ClusterConfig, OriginConfig
from cachefs.config.secrets import Secret
from cachefs.core.datasets import OriginSpec
from cachefs.core.names import DatasetName
from cachefs.core.tenants import Tenants
from cachefs.dataflow.copying.datasets import DataPlane
from cachefs.dataflow.copying.ends import Place, Sites, Wanted
from cachefs.dataflow.steps.migrating import MigrateStep
from cachefs.errors import NotAllowedError, NotKnownError
from cachefs.testing.memory.cache import MemoryCache
from cachefs.transport.runtime import ThreadRuntime
from tests.unit.dataflow.steps.contexts import Steps

URL = "s3://models/llama"
FILES = {"model[1].bin": 950, "config.json": 50, "notes.md": 10}
NAME = DatasetName("team", "llama")
ARGUMENTS = {"from": URL, "to": "dataset:llama@v2"}


@pytest.fixture
def cache():
    cache = MemoryCache({URL: FILES})
    cache.add_worker("one", "a")
    cache.add_worker("two", "b")
    return cache


@pytest.fixture
def step(cache):
    plane = DataPlane(cache, ClusterConfig(), Secret("token"))
    return MigrateStep(cache, Sites(cache, OriginConfig(), plane))


@pytest.fixture
def filled(cache, monkeypatch):
    """Have warm-ups filled as soon as they are asked for; keep what was asked."""
    asked = []
    warm = cache.warm

    def warm_and_fill(*arguments, **options):
        asked.append(options)
        job = warm(*arguments, **options)
        cache.fill()
        return job

    monkeypatch.setattr(cache, "warm", warm_and_fill)
    return asked


def test_the_source_becomes_a_version_with_its_label_and_is_done_when_workers_hold_it(
    cache, step, filled
):
    steps = Steps()
    assert not step.observe(steps.attempt(), ARGUMENTS).done
    step.apply(steps.attempt(), ARGUMENTS)
    observed = step.observe(steps.attempt(), ARGUMENTS)
    assert observed.done
    assert observed.outputs["bytes"] == 1010
    assert observed.outputs["version"] == cache.resolve(NAME, "v2").manifest.id
    assert cache.origin_bytes == 1010
    cache.remove_worker("one")
    assert not step.observe(steps.attempt(), ARGUMENTS).done


def test_only_what_matches_is_filled_where_and_as_fast_as_it_says(cache, step, filled):
    steps = Steps()
    arguments = {**ARGUMENTS, "exclude": ["*.md"], "zone": "b", "rate": "1GB/s"}
    step.apply(steps.attempt(), arguments)
    assert step.observe(steps.attempt(), arguments).done
    assert cache.residency(NAME, "v2", []).bytes_by_zone == {"a": 0, "b": 1000}
    assert (filled[0]["zone"], filled[0]["rate"], filled[0]["key"]) == ("b", 10**9, "run-1/step")
    with pytest.raises(NotKnownError, match="no file matches"):
        step.apply(Steps().attempt(), {**ARGUMENTS, "include": ["*.onnx"]})


def test_another_instance_for_another_zone_fills_there_too(cache, step, filled):
    for zone in ("a", "b"):
        steps = Steps(f"copy-{zone}")
        step.apply(steps.attempt(), {**ARGUMENTS, "zone": zone})
        assert step.observe(steps.attempt(), {**ARGUMENTS, "zone": zone}).done
    assert cache.residency(NAME, "v2", []).bytes_by_zone == {"a": 1010, "b": 1010}
    assert cache.origin_bytes == 1010


def test_from_a_dataset_into_another_its_origin_is_the_source(cache, step, filled):
    cache.publish(DatasetName("team", "first"), URL, {"region": "x"}, label="v1")
    step.apply(Steps().attempt(), {"from": "dataset:first@v1", "to": "dataset:second"})
    resolved = cache.resolve(DatasetName("team", "second"), None)
    assert (resolved.origin.url, dict(resolved.origin.options)) == (URL, {"region": "x"})


def test_credentials_go_along_as_a_reference(cache, step, filled):
    arguments = {**ARGUMENTS, "credentials": {"from": "profile:models"}}
    step.apply(Steps().attempt(), arguments)
    assert cache.resolve(NAME, "v2").origin.options == {"credentials": "profile:models"}


def test_undone_its_files_are_dropped_from_the_workers(cache, step, filled):
    steps = Steps()
    step.apply(steps.attempt(), ARGUMENTS)
    step.compensate(steps.attempt(undo=True), ARGUMENTS, {"delete": False})
    assert cache.residency(NAME, "v2", []).bytes_resident == 1010
    step.compensate(steps.attempt(undo=True), ARGUMENTS, {"delete": True})
    assert cache.residency(NAME, "v2", []).bytes_resident == 0


def test_neither_end_of_a_copy_is_opened_that_is_not_for_the_namespace(cache):
    plane = DataPlane(cache, ClusterConfig(), Secret("token"))
    tenants = Tenants((), ["team=s3://team/*"], ["team=s3://team-backups/*"])
    sites = Sites(cache, OriginConfig(), plane, tenants=tenants)
    place = Place(ThreadRuntime(), "team")
    wanted = Wanted(source=OriginSpec("s3://others/x"), to=OriginSpec("s3://team/x"))
    with pytest.raises(NotAllowedError, match="source"), sites.source(place, wanted, streams=1):
        pass
    with pytest.raises(NotAllowedError, match="destination"), sites.destination(place, wanted):
        pass
