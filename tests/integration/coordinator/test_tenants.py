"""Tenants: datasets of namespaces that are not trusted with everything."""

from dataclasses import replace

import pytest

from cachefs.config.schema import TenantsConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.names import DatasetName
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
