"""Open files are lent to many, and closed when nobody asks for them any more."""

import pytest

from cachefs.core.names import DatasetName
from cachefs.errors import NotKnownError
from cachefs.gateway import files
from cachefs.gateway.files import OpenFiles
from cachefs.transport.runtime import ThreadRuntime

RUNTIME = ThreadRuntime()


class _File:
    def __init__(self):
        self.closed = False

    def close(self):
        self.closed = True


class _Dataset:
    """A dataset of which every file can be opened but ``none``."""

    name = DatasetName.parse("m")
    version = "1"

    def __init__(self):
        self.opened = []

    def file(self, path):
        if path == "none":
            raise NotKnownError("no such file")
        self.opened.append(_File())
        return self.opened[-1]


@pytest.fixture
def open_files(monkeypatch):
    monkeypatch.setattr(files, "IDLE_SECONDS", 0.02)
    with OpenFiles(RUNTIME) as made:
        yield made


def until(condition):
    give_up = RUNTIME.monotonic() + 1.5
    while not condition():
        assert RUNTIME.monotonic() < give_up
        RUNTIME.sleep(0.005)


def test_a_file_is_opened_once_and_closed_when_idle(open_files):
    dataset = _Dataset()
    with open_files.borrow(dataset, "a") as one, open_files.borrow(dataset, "a") as two:
        assert one is two
        RUNTIME.sleep(0.08)
        assert not one.closed, "somebody uses it"
    until(lambda: one.closed)
    assert len(open_files) == 0
    assert len(dataset.opened) == 1


def test_an_old_file_is_not_given_to_new_requests_and_closed_after_its_last(
    open_files, monkeypatch
):
    monkeypatch.setattr(files, "AGE_SECONDS", 0.0)
    dataset = _Dataset()
    with open_files.borrow(dataset, "a") as old:
        with open_files.borrow(dataset, "a") as new:
            assert new is not old
        until(lambda: new.closed)
        assert not old.closed
    until(lambda: old.closed)
    assert len(open_files) == 0


def test_there_is_a_limit_to_files_that_nobody_uses(open_files, monkeypatch):
    monkeypatch.setattr(files, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(files, "IDLE_LIMIT", 2)
    dataset = _Dataset()
    for path in "abcd":
        with open_files.borrow(dataset, path):
            pass
    until(lambda: [each.closed for each in dataset.opened] == [True, True, False, False])


def test_what_cannot_be_opened_is_not_kept(open_files):
    with pytest.raises(NotKnownError), open_files.borrow(_Dataset(), "none"):
        pass
    assert len(open_files) == 0


def test_closing_closes_what_is_lent(monkeypatch):
    dataset = _Dataset()
    with OpenFiles(RUNTIME) as made, made.borrow(dataset, "a") as file:
        made.close()
        assert file.closed
