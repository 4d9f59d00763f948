"""What a copy notes, and what it knows of it afterwards."""

import json
from dataclasses import replace

import pytest

from cachefs.core.manifest import FileEntry
from cachefs.dataflow.copying import ledger as ledgers
from cachefs.dataflow.copying.ledger import Ledger, Unfinished
from cachefs.dataflow.engine.context import CHECKPOINT_BYTES_MAX
from cachefs.errors import CapacityError

FILE = FileEntry("a/model.bin", 100, "etag-1", "", "")
COPY = FILE._replace(token="mtime-1")


def again(ledger):
    return Ledger.decode(json.loads(json.dumps(ledger.encode())))


def test_a_file_is_done_while_both_ends_are_what_they_were():
    ledger = Ledger()
    assert not ledger.done(FILE, COPY)
    ledger.settle(FILE, COPY.token, wrote=True)
    found = again(ledger)
    assert found.done(FILE, COPY)
    assert not found.done(FILE._replace(token="etag-2"), COPY)
    assert not found.done(FILE, COPY._replace(token="mtime-2"))
    assert not found.done(FILE._replace(path="b"), COPY._replace(path="b"))


def test_only_what_this_step_wrote_is_its_own():
    ledger = Ledger()
    ledger.settle(FILE, COPY.token, wrote=False)
    assert not again(ledger).wrote(COPY)
    ledger.settle(FILE, COPY.token, wrote=True)
    ledger.settle(FILE, COPY.token, wrote=False)
    assert again(ledger).wrote(COPY)
    assert not again(ledger).wrote(COPY._replace(token="of somebody else"))


def test_an_unfinished_file_is_found_again_only_as_the_same_content_cut_the_same_way():
    ledger = Ledger()
    parts = {0: b"0" * 16, 9_999: b"x" * 16}
    ledger.unfinished[FILE.path] = Unfinished(FILE.token, 100, 10, "upload-1", parts)
    ledger.origin_bytes = 20
    found = again(ledger)
    assert found.unfinished == ledger.unfinished
    assert found.origin_bytes == 20
    assert found.find(FILE, 10) == ledger.unfinished[FILE.path]
    assert found.find(FILE, 20) is None
    assert found.find(FILE._replace(token="etag-2"), 10) is None
    assert found.find(FILE._replace(path="b"), 10) is None


def test_an_unfinished_file_is_whole_when_each_part_is_there():
    one = Unfinished("t", 25, 10, "", {0: b"", 1: b""})
    assert not one.whole
    assert replace(one, parts={0: b"", 1: b"", 2: b""}).whole


def test_a_ledger_of_as_many_files_as_there_may_be_fits_into_a_checkpoint(monkeypatch):
    ledger = Ledger()
    for number in range(ledgers.FILES_MAX):
        ledger.settle(FILE._replace(path=f"file-{number}"), "token", wrote=True)
    for number in range(2):
        parts = dict.fromkeys(range(7_500), b"x" * 16)
        path = f"large-{number}"
        ledger.unfinished[path] = Unfinished("token", 1, 1, "upload", parts)
    assert len(json.dumps(ledger.encode())) < CHECKPOINT_BYTES_MAX
    with pytest.raises(CapacityError, match="several"):
        ledger.settle(FILE, "token", wrote=True)
