"""Tenants: datasets of namespaces that are not trusted with everything."""

from dataclasses import replace

import pytest

from cachefs.config.schema import TenantsConfig
from cachefs.coordinator.declaring import SHARED_REPLICAS_MAX, DatasetChange
from cachefs.core.datasets import OriginSpec
from cachefs.core.names import DatasetName
from cachefs.core.pools import PoolChange
from cachefs.core.urls import CONFINED
from cachefs.errors import NotAllowedError
from tests.integration.coordinator.conftest import Kit, declared


def test_an_origin_that_is_not_for_a_namespace_is_never_opened(small_kit: Kit):
    tenants = TenantsConfig(trusted=("ops",), sources=("team=s3://team/*",))
    small_kit.config = replace(small_kit.config, tenants=tenants)
    coordinator = small_kit.coordinator()
    with pytest.raises(NotAllowedError):
        coordinator.catalogue.add(declared(name="team/d", url="s3://others/d"), {})
    with pytest.raises(NotAllowedError):
        coordinator.declare(declared(name="team/d", url="s3://others/d"))
    assert small_kit.listings == 0
    small_kit.origin("s3://team/d", {"x.bin": b"x"})
    coordinator.catalogue.add(declared(name="team/d", url="s3://team/d"), {})
    with pytest.raises(NotAllowedError):
        coordinator.catalogue.publish(
            DatasetName("team", "d"), OriginSpec("s3://others/d"), label="v2"
        )
    assert small_kit.listings == 1


def test_workers_are_told_what_a_namespace_may_reach(small_kit: Kit):
    tenants = TenantsConfig(trusted=("ops",), sources=("team=s3://team/*",))
    small_kit.config = replace(small_kit.config, tenants=tenants)
    coordinator = small_kit.coordinator()
    for name in ("team/d", "ops/d"):
        small_kit.origin("s3://team/d", {"x.bin": b"x"})
        coordinator.catalogue.add(declared(name=name, url="s3://team/d"), {})
    options = {
        name: coordinator.catalogue.resolve(DatasetName.parse(name), None).version.origin.options
        for name in ("team/d", "ops/d")
    }
    assert options["team/d"] == {CONFINED: "s3://team/*"}
    assert options["ops/d"] == {}


@pytest.fixture
def strict(small_kit: Kit):
    """A coordinator that trusts only ``ops``, and its kit."""
    tenants = TenantsConfig(trusted=("ops",), sources=("*=s3://*",))
    small_kit.config = replace(small_kit.config, tenants=tenants)
    small_kit.origin("s3://b/d", {"x.bin": b"x"})
    return small_kit, small_kit.coordinator()


@pytest.mark.parametrize(
    "greedy", [{"pins": ("",)}, {"replicas": SHARED_REPLICAS_MAX + 1}], ids=["pins", "replicas"]
)
def test_what_takes_a_shared_pool_from_others_is_refused_before_anything_is_listed(strict, greedy):
    kit, coordinator = strict
    dataset = replace(declared(name="team/d", url="s3://b/d"), **greedy)
    for declare in (coordinator.declare, lambda one: coordinator.catalogue.add(one, {})):
        with pytest.raises(NotAllowedError, match="which others use"):
            declare(dataset)
    assert kit.listings == 0
    coordinator.declare(replace(dataset, name=DatasetName("ops", "d")))


def test_a_dataset_does_not_become_greedy_later(strict):
    _, coordinator = strict
    dataset = replace(declared(name="team/d", url="s3://b/d"), replicas=SHARED_REPLICAS_MAX)
    coordinator.declare(dataset)
    for change in (DatasetChange(pin=("x.bin",)), DatasetChange(replicas=64)):
        with pytest.raises(NotAllowedError):
            coordinator.catalogue.change(dataset.name, change)
    with pytest.raises(NotAllowedError):
        coordinator.declare(replace(dataset, pins=("x.bin",)))
    coordinator.catalogue.change(dataset.name, DatasetChange(ttl_seconds=60.0))


def test_a_pool_of_its_own_is_a_namespaces_to_fill(strict):
    _, coordinator = strict
    coordinator.pools.change("own", PoolChange(exclusive="team"))
    dataset = declared(name="team/d", url="s3://b/d")
    dataset = coordinator.declare(replace(dataset, pool="own", pins=("x.bin",), replicas=3))
    assert dataset.replicas == 3
    with pytest.raises(NotAllowedError):
        coordinator.catalogue.change(dataset.name, DatasetChange(pool="default"))


def test_a_version_from_elsewhere_is_gone_back_to_by_a_namespace_that_is_not_trusted(
    small_kit: Kit,
):
    tenants = TenantsConfig(trusted=("ops",), sources=("team=s3://team/*",))
    small_kit.config = replace(small_kit.config, tenants=tenants)
    coordinator = small_kit.coordinator()
    small_kit.origin("s3://team/d", {"x.bin": b"x"})
    coordinator.catalogue.add(declared(name="team/d", url="s3://team/d"), {})
    small_kit.origin("s3://team/e", {"x.bin": b"y"})
    name = DatasetName("team", "d")
    version = coordinator.catalogue.publish(name, OriginSpec("s3://team/e"), label="").id
    changed = coordinator.catalogue.change(name, DatasetChange(current=version))
    assert changed.origin == OriginSpec("s3://team/e")
    coordinator.catalogue.publish(
        name, coordinator.catalogue.resolve(name, version).version.origin, "v2"
    )
