"""Metadata and the API client over real connections: who is asked, and what is believed."""

import random
from dataclasses import replace

import pytest

from cachefs.config.secrets import Secret
from cachefs.core.manifest import Manifest
from cachefs.core.names import DatasetName
from cachefs.errors import CoordinatorUnavailableError, DeniedError, NotKnownError
from cachefs.testing.memory.cluster import DATASET, TOKEN, MemoryCluster
from cachefs.transport.api import Api
from cachefs.transport.metadata import HttpMetadata

CONTENT = random.Random(1).randbytes(10_000)
NAME = DatasetName.parse(DATASET)


@pytest.fixture
def cluster():
    with MemoryCluster({"a": CONTENT}) as cluster:
        yield cluster


@pytest.fixture
def metadata(cluster):
    """The first worker plays the coordinator."""
    metadata = HttpMetadata(
        cluster.runtime,
        cluster.workers[0].address,
        Secret(TOKEN),
        workers=[worker.address for worker in cluster.workers[1:]],
        timeout_seconds=0.3,
    )
    yield metadata
    metadata.close()


def soon(cluster) -> float:
    return cluster.runtime.monotonic() + 3.0


def test_what_the_coordinator_says_goes(cluster, metadata):
    cluster.workers[0].versions = {}
    with pytest.raises(NotKnownError):
        metadata.resolve(NAME, None, deadline=soon(cluster))


def test_a_worker_that_does_not_know_is_not_the_last_word(cluster, metadata):
    cluster.workers[0].close()
    cluster.workers[1].versions = {}
    for _ in range(6):
        resolved = metadata.resolve(NAME, None, deadline=soon(cluster))
        assert resolved.manifest.id == cluster.version.manifest.id


def test_a_manifest_that_does_not_match_its_id_is_asked_for_elsewhere(cluster, metadata):
    forged = cluster.version.manifest
    for worker in cluster.workers[:2]:
        bad = Manifest(forged.files, forged.id, forged.encoded.replace(b'"a"', b'"b"'))
        worker.versions = {
            DATASET: type(cluster.version)(
                NAME, cluster.version.origin, "fsspec", "default", 1, bad
            )
        }
    resolved = metadata.resolve(NAME, None, deadline=soon(cluster))
    assert resolved.manifest.encoded == forged.encoded


def test_if_only_forged_manifests_are_to_be_had_nothing_opens(cluster, metadata):
    manifest = cluster.version.manifest
    for worker in cluster.workers:
        bad = Manifest(manifest.files, manifest.id, b"[]\n")
        worker.versions = {
            DATASET: type(cluster.version)(
                NAME, cluster.version.origin, "fsspec", "default", 1, bad
            )
        }
    with pytest.raises(CoordinatorUnavailableError):
        metadata.resolve(NAME, None, deadline=soon(cluster))


def test_a_view_never_goes_back_because_a_worker_is_behind(cluster, metadata):
    cluster.show(*cluster.workers, epoch=7)
    assert metadata.view(deadline=soon(cluster)).epoch == 7
    cluster.workers[0].close()
    cluster.show(*cluster.workers[1:], epoch=3)
    assert metadata.view(deadline=soon(cluster)).epoch == 7


def test_the_last_known_version_answers_when_nobody_else_does(cluster, metadata):
    known = metadata.resolve(NAME, None, deadline=soon(cluster))
    for worker in cluster.workers:
        worker.close()
    assert metadata.resolve(NAME, None, deadline=soon(cluster)).manifest == known.manifest
    assert (
        metadata.resolve(NAME, known.manifest.id, deadline=soon(cluster)).manifest is known.manifest
    )


def test_only_the_answers_used_last_are_kept(cluster, metadata, monkeypatch):
    monkeypatch.setattr("cachefs.transport.metadata._HEADS_LIMIT", 4)
    names = [DatasetName.parse(f"d{number}") for number in range(3)]
    for name in names:
        cluster.workers[0].versions[str(name)] = replace(cluster.version, dataset=name)
    for name in (names[0], names[1], names[0], names[2]):
        metadata.resolve(name, None, deadline=soon(cluster))
    for worker in cluster.workers:
        worker.close()
    for name in (names[0], names[2]):
        assert metadata.resolve(name, None, deadline=soon(cluster)).dataset == name
    with pytest.raises(CoordinatorUnavailableError):
        metadata.resolve(names[1], None, deadline=soon(cluster))


def test_nobody_at_all_is_an_error_that_names_whom_it_asked(cluster, metadata):
    for worker in cluster.workers:
        worker.close()
    with pytest.raises(CoordinatorUnavailableError, match=cluster.workers[0].address):
        metadata.view(deadline=soon(cluster))


def test_digests_nobody_knows_are_an_empty_list(cluster, metadata):
    file = cluster.version.file(cluster.version.manifest.find("a"))
    cluster.workers[0].digest_lists = False
    assert metadata.digests(file, deadline=soon(cluster)) == []
    cluster.workers[0].digest_lists = True
    assert len(metadata.digests(file, deadline=soon(cluster))) == 3


def test_digests_that_are_known_whole_are_asked_for_once(cluster, metadata):
    file = cluster.version.file(cluster.version.manifest.find("a"))
    known = metadata.digests(file, deadline=soon(cluster))
    for worker in cluster.workers:
        worker.close()
    assert metadata.digests(file, deadline=soon(cluster)) == known


def test_a_wrong_token_is_said_at_once(cluster):
    metadata = HttpMetadata(cluster.runtime, cluster.workers[0].address, Secret("wrong"))
    with pytest.raises(DeniedError):
        metadata.view(deadline=soon(cluster))


class TestApi:
    """JSON calls to the coordinator."""

    def test_an_answer_is_a_document(self, cluster):
        api = Api(f"http://{cluster.workers[0].address}/", Secret(TOKEN))
        assert api.get("/v1/view")["epoch"] == 1

    def test_an_error_is_the_one_that_was_raised(self, cluster):
        api = Api(cluster.workers[0].address, Secret(TOKEN))
        with pytest.raises(NotKnownError, match="no such thing"):
            api.get("/v1/elsewhere")
        with pytest.raises(DeniedError):
            Api(cluster.workers[0].address, Secret("wrong")).get("/v1/view")

    def test_no_answer_is_an_unavailable_coordinator(self, cluster):
        cluster.workers[0].close()
        with pytest.raises(CoordinatorUnavailableError, match="does not answer"):
            Api(cluster.workers[0].address, Secret(TOKEN)).get("/v1/view")
