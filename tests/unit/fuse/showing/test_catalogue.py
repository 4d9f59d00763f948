"""What a mount asks of the coordinator's API."""

from urllib.parse import parse_qs, urlsplit

import pytest

from cachefs.core.names import DatasetName
from cachefs.errors import CoordinatorUnavailableError
from cachefs.fuse.showing.catalogue import HttpCatalogue
from tests.unit.fuse.worlds import MODEL, Clock, Cloud

VERSION = "a" * 40


class FakeApi:
    """Datasets in pages of two, blocks in pages of two, and a clock that time passes on."""

    def __init__(self, clock):
        self._clock = clock
        self.timeouts = []
        self.seconds_per_call = 0.0

    def get(self, path, *, timeout_seconds):
        self.timeouts.append(timeout_seconds)
        self._clock.ahead += self.seconds_per_call
        url = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        return self._answer(url.path, query)

    def _answer(self, path, query):
        if path == "/v1/datasets":
            pages = {"": (["a", "b"], "b"), "b": (["ns/c"], None)}
            names, following = pages[query.get("after", "")]
            return {"datasets": [{"name": name} for name in names], "next": following}
        if path == "/v1/datasets/default/model/versions":
            return {"versions": [{"id": VERSION, "listed_at": 5.5, "more": 1}]}
        assert path == "/v1/explain"
        assert (query["dataset"], query["version"], query["path"]) == ("model", VERSION, "a b")
        holders = [["w", "x"], ["x"], []][int(query.get("first", 0)) :][:2]
        following = int(query.get("first", 0)) + 2
        return {
            "blocks": [{"holders": [{"worker": one} for one in each]} for each in holders],
            "next": following if following < 3 else None,
        }


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def api(clock):
    return FakeApi(clock)


@pytest.fixture
def catalogue(clock, api):
    return HttpCatalogue(clock, api, Cloud(), node="n")


def test_datasets_are_read_page_by_page(catalogue):
    assert catalogue.datasets(timeout_seconds=5) == [
        DatasetName("default", "a"),
        DatasetName("default", "b"),
        DatasetName("ns", "c"),
    ]


def test_versions_come_with_their_time(catalogue):
    assert catalogue.versions(MODEL, timeout_seconds=5) == [(VERSION, 5.5)]


def test_residency_counts_blocks_by_worker_and_those_on_this_node(catalogue):
    assert catalogue.residency(MODEL, VERSION, "a b", timeout_seconds=5) == {
        "here": 1,
        "workers": {"w": 1, "x": 2},
    }


def test_all_pages_together_end_in_time(catalogue, api):
    api.seconds_per_call = 3
    with pytest.raises(CoordinatorUnavailableError):
        catalogue.residency(MODEL, VERSION, "a b", timeout_seconds=2)
    assert api.timeouts == [pytest.approx(2, abs=0.1)]
