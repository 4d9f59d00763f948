"""Declaring a dataset as it shall be, whatever it was."""

import pytest

from cachefs.errors import OriginNotFoundError
from tests.integration.coordinator.conftest import Kit, declared
from tests.integration.coordinator.test_catalogue import NAME, URL, versions


@pytest.fixture
def filled(kit: Kit) -> Kit:
    kit.origin(URL, {"x.bin": b"x" * 250, "y/z.bin": b"z"})
    return kit


def test_what_is_declared_so_is_so_whatever_it_was(filled: Kit):
    coordinator = filled.coordinator()
    first = coordinator.declare(declared("d", pins=("x.bin",)))
    filled.origin("memory://b", {"x.bin": b"new"})
    same = coordinator.declare(declared("d", pins=("x.bin",)))
    kept = coordinator.declare(declared("d", replicas=2, versions_kept=5))
    assert (same, filled.listings) == (first, 1)
    assert (kept.current, kept.replicas, kept.pins) == (first.current, 2, ())
    fewer = coordinator.declare(declared("d", exclude=("y/*",)))
    assert (fewer.exclude, filled.listings) == (("y/*",), 2)
    moved = coordinator.declare(declared("d", "memory://b"))
    manifest = coordinator.catalogue.manifest(moved.current)
    assert [entry.path for entry in manifest.files] == ["x.bin"]
    assert versions(coordinator) == [moved.current, first.current]


def test_a_declaration_whose_origin_cannot_be_listed_changes_nothing(filled: Kit):
    coordinator = filled.coordinator()
    first = coordinator.declare(declared("d"))
    with pytest.raises(OriginNotFoundError):
        coordinator.declare(declared("d", "memory://nothing", replicas=3))
    assert coordinator.catalogue.get(NAME) == first
