"""What the endpoints know of datasets is a second old at most, and outlives the coordinator."""

import pytest

from cachefs.core.names import DatasetName
from cachefs.errors import CoordinatorUnavailableError, NotKnownError
from cachefs.gateway.datasets import FRESH_SECONDS, Datasets
from cachefs.transport.runtime import ThreadRuntime
from tests.unit.gateway.shelves import Shelf

M = DatasetName.parse("m")


class _Clock(ThreadRuntime):
    now = 100.0

    def monotonic(self):
        return self.now


class _World:
    """The reader and the coordinator's API at once."""

    def __init__(self):
        self.runtime = _Clock()
        self.shelf = Shelf()
        self.asked = 0
        self.pages = 0
        self.up = True

    def open(self, name, version=None):
        self.asked += 1
        return self.shelf.open(name, version)

    def get(self, path, *, timeout_seconds):
        del timeout_seconds
        if not self.up:
            raise CoordinatorUnavailableError("down")
        self.pages += 1
        rows = [
            {"name": str(each.name), "origin": {"url": each.origin}} for each in self.shelf.every()
        ]
        if path.startswith("/v1/datasets/"):
            name = str(DatasetName.parse(path.removeprefix("/v1/datasets/")))
            found = [row for row in rows if row["name"] == name]
            if not found:
                raise NotKnownError("no such dataset")
            return found[0]
        if "after=" not in path:
            return {"datasets": rows[:1], "next": "x" if len(rows) > 1 else None}
        return {"datasets": rows[1:], "next": None}


@pytest.fixture
def world():
    return _World()


@pytest.fixture
def datasets(world):
    return Datasets(world, world)


def test_a_current_version_is_asked_for_once_a_second(world, datasets):
    first = world.shelf.put("m", {"x": 1})
    assert [datasets.open(M, None).version for _ in range(5)] == [first] * 5
    assert world.asked == 1
    second = world.shelf.put("m", {"y": 1})
    assert datasets.open(M, None).version == first
    world.runtime.now += FRESH_SECONDS
    assert datasets.open(M, None).version == second
    assert datasets.open(M, first).version == first
    assert world.asked == 2, "a version that was seen is not asked for again"


def test_a_beginning_of_a_version_is_asked_for_each_time(world, datasets):
    version = world.shelf.put("m", {"x": 1})
    for _ in range(3):
        assert datasets.open(M, version[:8]).version == version
    assert world.asked == 3


def test_a_dataset_that_was_removed_is_gone(world, datasets):
    version = world.shelf.put("m", {"x": 1})
    datasets.open(M, None)
    world.shelf.current.clear()
    world.runtime.now += FRESH_SECONDS
    for asked in (None, None, version):
        with pytest.raises(NotKnownError):
            datasets.open(M, asked)


def test_while_one_asks_the_others_take_what_is_there(world, datasets):
    version = world.shelf.put("m", {"x": 1})
    datasets.open(M, None)
    world.runtime.now += FRESH_SECONDS
    seen = []
    original = world.open

    def ask_in_between(name, version=None):
        if not seen:
            seen.append(datasets.open(M, None).version)
        return original(name, version)

    world.open = ask_in_between
    datasets.open(M, None)
    assert seen == [version]


def test_the_list_is_read_in_pages_and_kept_while_nobody_answers(world, datasets):
    for name in ("a", "b", "team/c"):
        world.shelf.put(name, {"x": 1})
    assert [str(each.name) for each in datasets.every()] == ["a", "b", "team/c"]
    datasets.every()
    assert world.pages == 2
    datasets.every(again=True)
    assert world.pages == 4
    world.up = False
    world.runtime.now += FRESH_SECONDS
    assert len(datasets.every()) == 3
    with pytest.raises(CoordinatorUnavailableError):
        Datasets(world, world).every()


def test_who_is_told_names_lists_these_and_asks_about_no_others(world):
    for name in ("a", "team/b", "team/c"):
        world.shelf.put(name, {"x": 1})
    datasets = Datasets(world, world, only=("team/b", "gone", "a"))
    assert [str(each.name) for each in datasets.every()] == ["a", "team/b"]
    assert world.pages == 3
