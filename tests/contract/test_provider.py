"""What the port ``Provider`` promises, of the processes of this machine and of the one in memory."""

import os
import shutil
import sys

import pytest

from cachefs.cli.system import providing
from cachefs.cli.system.plan import Blueprint, make_plan
from cachefs.cli.system.providing import LocalProvider
from cachefs.cli.system.statefolder import StateFolder
from cachefs.cli.system.supervision import Supervisor
from cachefs.config.load import defaults
from cachefs.config.schema import MIB
from cachefs.core.names import WorkerId
from cachefs.errors import CapacityError, NotKnownError
from cachefs.testing.memory.provider import MemoryProvider
from cachefs.transport.runtime import ThreadRuntime

SERVES = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print('ready {"data": "127.0.0.1:4000"}', flush=True)
time.sleep(60)
"""
CLOCK = ThreadRuntime()


class ScriptBlueprint(Blueprint):
    """Has workers that are small scripts, in the folders of real ones."""

    def worker(self, entry):
        service = super().worker(entry)
        (self.folder.worker(entry.name) / "blocks").mkdir(parents=True, exist_ok=True)
        service.command = lambda _failures: [sys.executable, "-c", SERVES]
        return service


class Local:
    """The provider of this machine, and the supervisor's loop in this thread."""

    def __init__(self, folder, monkeypatch):
        self.folder = StateFolder(folder / "state")
        self.folder.prepare()
        self._monkeypatch = monkeypatch
        self.open()

    def open(self):
        plan = make_plan(self.folder, workers=2, disk_bytes=2 * 64 * MIB)
        self.blueprint = ScriptBlueprint(self.folder, plan, defaults())
        self.records = []
        self.supervisor = Supervisor(
            CLOCK,
            environment=os.environ,
            on_change=lambda records: setattr(self, "records", list(records)),
            on_message=lambda _: None,
            grace_seconds=1.0,
        )
        self.provider = LocalProvider(self.blueprint, self.supervisor, on_change=lambda: None)
        return self.provider

    def settle(self):
        until = CLOCK.monotonic() + 10
        wanted = {
            entry.name for entry in self.blueprint.roster.entries() if entry.state != "stopped"
        }
        while {record.name for record in self.records} != wanted or len(
            self.blueprint.roster.entries()
        ) != len(wanted):
            assert CLOCK.monotonic() < until
            self.supervisor._pump(0.05)

    def reopen(self):
        self.close()
        return self.open()

    def fill_up(self):
        usage = shutil.disk_usage(self.folder.path)
        self._monkeypatch.setattr(
            providing.shutil, "disk_usage", lambda _: usage._replace(free=10 * MIB)
        )

    def close(self):
        self.supervisor.stop()
        self.supervisor.close()


class InMemory:
    def __init__(self):
        self.provider = MemoryProvider()

    def settle(self):
        pass

    def reopen(self):
        return self.provider

    def fill_up(self):
        self.provider.room = 0

    def close(self):
        pass


@pytest.fixture(params=["local", "memory"])
def site(request, tmp_path, monkeypatch):
    made = Local(tmp_path, monkeypatch) if request.param == "local" else InMemory()
    yield made
    made.close()


def names(provider):
    return [one.worker for one in provider.provided()]


def test_each_worker_has_a_name_of_its_own_and_is_where_it_was_wanted(site):
    started = [site.provider.start("default", ""), site.provider.start("gpu", "a")]
    site.settle()
    assert names(site.provider) == sorted(started)
    found = {one.worker: (one.pool, one.zone, one.leaving) for one in site.provider.provided()}
    assert found == {started[0]: ("default", "", False), started[1]: ("gpu", "a", False)}


def test_who_leaves_is_still_there(site):
    worker = site.provider.start("default", "")
    site.provider.leave(worker)
    site.provider.leave(worker)
    site.settle()
    assert [one.leaving for one in site.provider.provided()] == [True]


def test_who_was_stopped_is_gone_and_its_name_may_be_had_again(site):
    worker = site.provider.start("default", "")
    site.settle()
    site.provider.stop(worker)
    site.provider.stop(worker)
    site.settle()
    assert names(site.provider) == []
    site.provider.stop(worker)
    assert site.provider.start("default", "") == worker
    site.settle()
    assert [one.leaving for one in site.provider.provided()] == [False]


def test_what_was_told_is_known_to_the_next_one(site):
    site.provider.start("default", "a")
    leaving = site.provider.start("default", "a")
    site.provider.leave(leaving)
    again = site.reopen()
    found = [(one.worker, one.zone, one.leaving) for one in again.provided()]
    assert found == [("worker-1", "a", False), ("worker-2", "a", True)]


def test_without_room_nobody_is_started(site):
    site.provider.start("default", "")
    site.settle()
    site.fill_up()
    with pytest.raises(CapacityError):
        site.provider.start("default", "")
    assert len(site.provider.provided()) == 1


def test_a_stranger_cannot_be_made_to_leave(site):
    with pytest.raises(NotKnownError):
        site.provider.leave(WorkerId("stranger"))


def test_what_a_stopped_worker_held_is_removed_here(tmp_path, monkeypatch):
    site = Local(tmp_path, monkeypatch)
    try:
        worker = site.provider.start("default", "")
        site.settle()
        assert site.folder.worker(worker).exists()
        site.provider.stop(worker)
        site.settle()
        assert not site.folder.worker(worker).exists()
        assert site.records == []
    finally:
        site.close()
