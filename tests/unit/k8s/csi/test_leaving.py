"""Two pods hold a mount, and one leaves at a time."""

import json
from types import SimpleNamespace

import pytest

from cachefs.fuse.keeping.deposit import SignOfLife
from cachefs.k8s.csi import leaving, well
from cachefs.k8s.csi.leaving import DRIVER, MOUNTS, Successors, leave, marked
from cachefs.k8s.csi.places import Places, prepare_run_folder
from cachefs.transport.runtime import ThreadRuntime

RUNTIME = ThreadRuntime()


@pytest.fixture
def places(tmp_path):
    made = Places(tmp_path / "kubelet", tmp_path / "run")
    prepare_run_folder(made)
    return made


@pytest.fixture
def all_well(monkeypatch):
    """Both pods have everything, unless a test says otherwise."""
    state = {DRIVER: True, MOUNTS: True}
    monkeypatch.setattr(leaving, "is_well", lambda runtime, places, who: state[who])
    monkeypatch.setattr(leaving, "has_nothing", lambda places, who, host: False)
    return state


def may_leave(places, who):
    return leave(RUNTIME, places, who, wait_seconds=0)


def write_mark(places, who, *, age=0.0):
    places.leaving.write_text(json.dumps({"who": who, "at": RUNTIME.monotonic() - age}))


@pytest.mark.parametrize("who", [DRIVER, MOUNTS])
def test_one_may_leave_and_says_so_and_may_ask_again(places, all_well, who):
    assert may_leave(places, who)
    assert marked(RUNTIME, places.leaving) == who
    assert may_leave(places, who)


def test_the_other_may_not_leave_meanwhile(places, all_well):
    assert may_leave(places, MOUNTS)
    assert not may_leave(places, DRIVER)
    assert marked(RUNTIME, places.leaving) == MOUNTS


def test_nobody_leaves_a_mount_to_a_pod_that_is_not_well(places, all_well):
    all_well[DRIVER] = False
    assert not may_leave(places, MOUNTS)
    assert marked(RUNTIME, places.leaving) == ""
    assert may_leave(places, DRIVER)


def test_a_mark_of_somebody_who_never_came_back_counts_no_more(places, all_well):
    write_mark(places, MOUNTS, age=leaving.MARK_SECONDS + 1)
    assert may_leave(places, DRIVER)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"who": "x"}', '{"who": "mounts", "at": "x"}'])
def test_a_damaged_mark_is_none(places, all_well, text):
    places.leaving.write_text(text)
    assert may_leave(places, DRIVER)


class Shelf:
    """Says what it is told to say."""

    def __init__(self, *, holds=False, served_since=None):
        self.now = SimpleNamespace(holds=holds, served_since=served_since)

    def statistics(self):
        return self.now


def test_a_mark_goes_when_the_new_driver_has_everything(places):
    write_mark(places, DRIVER)
    shelf = Shelf(holds=False)
    successors = Successors(RUNTIME, places.leaving, shelf)
    successors.look()
    assert places.leaving.exists()
    shelf.now.holds = True
    successors.look()
    assert not places.leaving.exists()
    successors.look()


def test_a_driver_does_not_take_down_its_own_mark(places):
    successors = Successors(RUNTIME, places.leaving, Shelf(holds=True))
    write_mark(places, DRIVER)
    successors.look()
    assert places.leaving.exists()


def test_a_mark_goes_when_somebody_new_serves_the_mount(places):
    since = RUNTIME.monotonic()
    write_mark(places, MOUNTS)
    shelf = Shelf(holds=True, served_since=since - 1)
    successors = Successors(RUNTIME, places.leaving, shelf)
    successors.look()
    assert places.leaving.exists()
    shelf.now.served_since = RUNTIME.monotonic()
    successors.look()
    assert not places.leaving.exists()


@pytest.mark.parametrize(
    ("sign", "serving", "fault"),
    [
        (SignOfLife(0.0, True, True, "0:7"), True, ""),
        (SignOfLife(0.0, False, True, "0:7"), False, ""),
        (SignOfLife(0.0, False, True, "0:7"), True, "nobody serves"),
        (SignOfLife(-60.0, True, True, "0:7"), False, "60 s old"),
        (None, False, "no sign of life"),
    ],
)
def test_a_probe_says_how_the_mount_is(places, sign, serving, fault):
    if sign is not None:
        now = RUNTIME.monotonic()
        SignOfLife(now + sign.at, sign.serving, sign.kept, sign.number).write(places.sign)
    found = well.fault(RUNTIME, places, serving=serving)
    assert fault in found
    assert bool(found) is bool(fault)


def test_how_a_pod_is_follows_from_its_sign_and_its_shelf(places):
    assert not leaving.is_well(RUNTIME, places, MOUNTS)
    assert not leaving.is_well(RUNTIME, places, DRIVER)
    SignOfLife(RUNTIME.monotonic(), True, False, "0:7").write(places.sign)
    assert leaving.is_well(RUNTIME, places, MOUNTS)
    SignOfLife(RUNTIME.monotonic() - 60, True, False, "0:7").write(places.sign)
    assert not leaving.is_well(RUNTIME, places, MOUNTS)


def test_a_run_folder_that_the_kubelet_made_is_closed_to_others(tmp_path):
    places = Places(tmp_path, tmp_path / "run")
    places.run.mkdir(mode=0o755)
    prepare_run_folder(places)
    assert places.run.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("sign", "nothing"),
    [
        (None, True),
        (SignOfLife(1.0, True, True, "0:7", "me"), False),
        (SignOfLife(1.0, False, True, "0:7", "me"), True),
        (SignOfLife(1.0, True, False, "", "me"), True),
        (SignOfLife(1.0, True, True, "0:7", "my-successor"), True),
    ],
)
def test_who_has_nothing_to_leave_goes_at_once(places, sign, nothing):
    if sign is not None:
        sign.write(places.sign)
    assert leaving.has_nothing(places, MOUNTS, "me") is nothing


def test_a_driver_that_does_not_answer_may_have_something_to_leave(places, monkeypatch):
    for said, nothing in ((None, False), ({"holds": True}, False), ({"holds": False}, True)):
        monkeypatch.setattr(leaving, "ask", lambda path, said=said: said)
        assert leaving.has_nothing(places, DRIVER, "me") is nothing
