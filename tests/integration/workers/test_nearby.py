"""Blocks of a real worker on this node, fetched through its socket instead of the network."""

import socket
from contextlib import closing
from dataclasses import replace

import pytest

from cachefs.config.schema import TierConfig
from cachefs.errors import OriginChangedError, WorkerUnavailableError
from cachefs.ports import BlockRequest, CancelToken
from cachefs.transport.blocks import HttpBlockSource
from cachefs.transport.nearby import NearbyBlockSource
from cachefs.wire import local
from cachefs.wire.digests import digester

BLOCK = 64 * 1024
DIGEST = digester("xxh3-128")
STALL_SECONDS = 0.4


class Network(HttpBlockSource):
    """The data plane, with a count of what went over it."""

    def __init__(self, site):
        super().__init__(site.runtime, site.token, block_size=BLOCK)
        self.fetches = 0

    def fetch(self, member, request):
        self.fetches += 1
        return super().fetch(member, request)


class Fetcher:
    """Fetches blocks of one worker, as a reader on its node does."""

    def __init__(self, site, member):
        self.site = site
        self.member = member
        self.network = Network(site)
        self.source = NearbyBlockSource(
            site.runtime,
            site.token,
            self.network,
            block_size=BLOCK,
            node=member.node,
            stall_seconds=STALL_SECONDS,
        )

    def fetch(self, index, *, cancel=None, seconds=10.0, **options):
        content = self.site.files["model.bin"][index * BLOCK : (index + 1) * BLOCK]
        into = bytearray(len(content))
        request = BlockRequest(
            file=self.site.file("model.bin"),
            index=index,
            into=memoryview(into),
            only_cached=options.pop("only_cached", False),
            deadline=self.site.runtime.monotonic() + seconds,
            cancel=cancel or CancelToken(),
            **options,
        )
        fetched = self.source.fetch(self.member, request)
        if fetched is not None:
            assert into == content
            assert fetched.digest == DIGEST(into)
        return fetched

    def close(self):
        self.source.close()
        self.network.close()


@pytest.fixture
def near(site, worker):
    with closing(Fetcher(site, worker.member)) as fetcher:
        yield fetcher


def test_a_block_is_filled_and_read_without_the_network(near, site, worker):
    fetched = near.fetch(0)
    assert (fetched.source, fetched.vouched) == ("origin", True)
    assert near.fetch(0).source == "local"
    assert near.fetch(5).source == "origin"
    assert near.network.fetches == 0
    assert site.origin_bytes() == BLOCK + 1234


def test_no_lease_is_left_behind(near, worker):
    for index in range(3):
        near.fetch(index)
    assert worker._handout.leases == 0


def test_what_must_not_be_filled_or_must_be_verified_goes_over_the_network(near):
    assert near.fetch(1, only_cached=True) is None
    near.fetch(1)
    assert near.fetch(1, verify=True).source == "disk"
    assert near.network.fetches == 2


def test_a_worker_of_another_node_is_asked_over_the_network(near):
    near.member = replace(near.member, node="another")
    assert near.fetch(0).source == "origin"
    assert near.network.fetches == 1


def test_a_socket_that_cannot_be_reached_is_no_error(near, tmp_path):
    near.member = replace(near.member, socket_path=str(tmp_path / "gone"))
    assert near.fetch(0).source == "origin"
    assert near.network.fetches == 1


def test_a_connection_that_ended_while_it_was_idle_is_no_error(near, worker):
    near.fetch(0)
    for guest in list(worker._local_listener._guests):
        guest.shut_down()
    assert near.fetch(1).source == "origin"


def test_an_error_of_the_origin_is_final(near, site):
    (site.data / "model.bin").write_bytes(b"something else")
    with pytest.raises(OriginChangedError):
        near.fetch(2)
    assert near.network.fetches == 0


def test_a_block_without_room_comes_over_the_network(site):
    tier = TierConfig(folder=site.folder / "tiny", medium="disk", capacity_bytes=BLOCK // 2)
    worker = site.add("w2", capacity=tier.capacity_bytes)
    site.wait_until(lambda: worker.renewal.registered)
    with closing(Fetcher(site, worker.member)) as fetcher:
        assert fetcher.fetch(0).source == "origin"
        assert fetcher.network.fetches == 1


class Stalled:
    """A worker's socket that greets and then says nothing, or only that it is at work."""

    def __init__(self, runtime, path, member, *, alive):
        self.path = str(path)
        self._alive = alive
        self._member = member
        self._runtime = runtime
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen()
        self._task = runtime.start("stalled", self._serve)

    def _serve(self):
        connection, _ = self._listening.accept()
        with connection:
            connection.recv(1 << 16)
            greeting = {"worker": self._member.worker, "block_size": BLOCK}
            connection.sendall(local.encode(greeting))
            connection.recv(1 << 16)
            for _ in range(100):
                try:
                    connection.sendall(local.encode({"waiting": True}) if self._alive else b"")
                except OSError:
                    return
                self._runtime.sleep(0.05)

    def close(self):
        self._task.join(10)
        self._listening.close()


def test_a_worker_that_goes_silent_in_a_fill_is_given_up(near, site, tmp_path):
    with closing(Stalled(site.runtime, tmp_path / "s", near.member, alive=False)) as stalled:
        near.member = replace(near.member, socket_path=stalled.path)
        begun = site.runtime.monotonic()
        with pytest.raises(WorkerUnavailableError):
            near.fetch(0)
        assert STALL_SECONDS / 2 < site.runtime.monotonic() - begun < 3
    assert near.network.fetches == 0


@pytest.mark.slow
def test_a_worker_that_says_it_is_at_work_is_waited_for_until_cancelled(near, site, tmp_path):
    with closing(Stalled(site.runtime, tmp_path / "s", near.member, alive=True)) as stalled:
        near.member = replace(near.member, socket_path=stalled.path)
        cancel = CancelToken()

        def cancel_later():
            site.runtime.sleep(3 * STALL_SECONDS)
            cancel.cancel()

        begun = site.runtime.monotonic()
        canceller = site.runtime.start("cancel", cancel_later)
        with pytest.raises(WorkerUnavailableError):
            near.fetch(0, cancel=cancel)
        assert 2 * STALL_SECONDS < site.runtime.monotonic() - begun < 4
        assert canceller.join(5)
