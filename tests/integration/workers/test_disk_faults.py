"""A disk that refuses, under a whole worker: what it cannot keep it hands on all the same."""

import errno
import os

import pytest

from cachefs.workers.storage.disk import OsDiskFile
from tests.integration.workers.conftest import BLOCK


def refuse(number):
    def refusing(*_):
        raise OSError(number, os.strerror(number))

    return refusing


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_refuses_writes_costs_no_read_and_is_used_again_when_it_heals(
    site, worker, monkeypatch, number
):
    file = site.file("model.bin")
    deadline = site.runtime.monotonic() + 10.0
    with monkeypatch.context() as fault:
        fault.setattr(OsDiskFile, "pwrite", refuse(number))
        with worker.filler.obtain(file, 0, only_cached=False, deadline=deadline) as obtained:
            assert obtained.source == "origin"
            assert bytes(obtained.view()) == site.files["model.bin"][:BLOCK]
        assert not worker.store.holds(file.entry.file_version, 0)
    with worker.filler.obtain(file, 0, only_cached=False, deadline=deadline):
        pass
    site.wait_until(lambda: worker.store.holds(file.entry.file_version, 0))


def test_a_disk_that_cannot_be_read_costs_the_origin_a_fill_and_no_wrong_byte(
    site, worker, monkeypatch
):
    file = site.file("model.bin")
    deadline = site.runtime.monotonic() + 10.0
    with worker.filler.obtain(file, 0, only_cached=False, deadline=deadline):
        pass
    site.wait_until(lambda: worker.store.holds(file.entry.file_version, 0))
    with monkeypatch.context() as fault:
        fault.setattr(OsDiskFile, "pread_into", refuse(errno.EIO))
        assert worker.store.quarantine(file.entry.file_version, 0)
    before = site.origin_bytes()
    with worker.filler.obtain(file, 0, only_cached=False, deadline=deadline) as obtained:
        assert obtained.source == "origin"
    assert site.origin_bytes() - before == BLOCK
