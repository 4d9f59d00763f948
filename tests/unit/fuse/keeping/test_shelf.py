"""Copies of descriptors: given, kept, given up, by two ends in one process."""

import os
import socket
from contextlib import suppress

import pytest

from cachefs.errors import ConfigError
from cachefs.fuse.keeping.deposit import Deposit, SignOfLife, ask
from cachefs.fuse.keeping.shelf import Shelf, receive, send
from cachefs.transport.runtime import ThreadRuntime

RUNTIME = ThreadRuntime()


def wait_for(condition):
    until = RUNTIME.monotonic() + 10
    while not (found := condition()):
        assert RUNTIME.monotonic() < until
        RUNTIME.sleep(0.01)
    return found


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def shelves(folder):
    made = []

    def start(*, give_up_seconds=60.0):
        made.append(Shelf(RUNTIME, folder / "shelf", give_up_seconds=give_up_seconds))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture
def deposits(folder):
    made = []

    def start(name="sign"):
        made.append(Deposit(RUNTIME, folder / "shelf", folder / name))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture
def files():
    """Two descriptors, with a word in each."""
    made = [os.memfd_create(name) for name in ("device", "memory")]
    for each, word in zip(made, (b"device", b"memory"), strict=True):
        os.write(each, word)
    yield made
    for each in made:
        os.close(each)


def keep(deposit, files, number="0:7"):
    deposit.offer(number, "/nowhere", files)
    deposit.look(serving=True)
    wait_for(lambda: (deposit.hear(), deposit._kept)[1])


def words(inherited):
    found = tuple(os.pread(each, 100, 0) for each in inherited)
    for each in inherited:
        os.close(each)
    return found


def test_what_one_keeper_leaves_the_next_one_gets(shelves, deposits, files):
    shelf, first = shelves(), deposits()
    assert first.inherit() is None
    keep(first, files)
    now = shelf.statistics()
    assert (now.holds, now.served) == (True, True)
    first.close()
    wait_for(lambda: not shelf.statistics().served)
    second = deposits("other")
    assert words(second.inherit()) == (b"device", b"memory")
    assert not second.predecessor
    assert shelf.statistics().given == 1


def test_a_shelf_that_comes_back_is_given_copies_anew(shelves, deposits, files, folder):
    first, deposit = shelves(), deposits()
    keep(deposit, files)
    first.close()
    wait_for(lambda: (deposit.hear(), not deposit._kept)[1])
    deposit.look(serving=True)
    assert SignOfLife.read(folder / "sign").kept is False
    second = shelves()
    deposit.look(serving=True)
    wait_for(lambda: second.statistics().holds)
    wait_for(lambda: (deposit.hear(), deposit._kept)[1])


def test_a_successor_asks_whoever_serves_to_leave_and_sees_it_go(shelves, deposits, files):
    shelves()
    first, second = deposits(), deposits("other")
    keep(first, files)
    inherited = second.inherit()
    assert second.predecessor
    second.dismiss()
    wait_for(first.hear)
    second.look(serving=False)
    RUNTIME.sleep(0.1)
    second.hear()
    assert second.predecessor
    first.close()
    wait_for(lambda: (second.look(serving=False), second.hear(), not second.predecessor)[2])
    assert words(inherited) == (b"device", b"memory")


def test_a_mount_that_nobody_serves_is_given_up_in_time(shelves, deposits, files):
    shelf, deposit = shelves(give_up_seconds=0.3), deposits()
    keep(deposit, files)
    deposit.close()
    wait_for(lambda: not shelf.statistics().holds)
    assert shelf.statistics().given_up == 1
    assert deposits("other").inherit() is None


def test_a_keeper_that_is_connected_but_does_not_serve_is_given_up_as_well(
    shelves, deposits, files
):
    shelf, deposit = shelves(give_up_seconds=0.5), deposits()
    keep(deposit, files)
    deposit.look(serving=False)
    wait_for(lambda: not shelf.statistics().holds)


def test_a_shelf_whose_thread_has_ended_is_not_well(shelves, monkeypatch):
    shelf = shelves()
    assert shelf.is_well
    shelf.close()
    monkeypatch.setattr("cachefs.fuse.keeping.shelf._STUCK_SECONDS", 0.0)
    assert not shelf.is_well


def test_what_is_renounced_is_gone_at_once(shelves, deposits, files):
    shelf, deposit = shelves(), deposits()
    keep(deposit, files)
    deposit.renounce()
    assert not shelf.statistics().holds
    assert os.pread(files[0], 100, 0) == b"device"


def test_one_can_ask_what_is_there(shelves, deposits, files, folder):
    assert ask(folder / "shelf") is None
    shelves()
    assert ask(folder / "shelf") == {"holds": False, "number": "", "served": False}
    keep(deposits(), files)
    assert ask(folder / "shelf") == {"holds": True, "number": "0:7", "served": True}


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ('{"at": 1.0, "serving": true, "kept": true, "number": "0:7", "colour": "red"}', True),
        ('{"at": 1.0, "serving": true, "kept": true, "number": "0:7"}', True),
        ('{"at": 1.0}', False),
        ("[]", False),
        ("", False),
    ],
)
def test_a_sign_of_life_of_another_release_is_understood(folder, text, known):
    (folder / "sign").write_text(text)
    sign = SignOfLife.read(folder / "sign")
    assert (sign is not None) is known
    assert sign in (None, SignOfLife(1.0, True, True, "0:7"))


@pytest.mark.parametrize(
    "packet", [b"nonsense", b"[1]", b"7", b'{"say": "keep"}', b'{"say": "beat"}', b'{"say": 1}']
)
def test_nonsense_harms_nobody(shelves, deposits, files, folder, packet):
    shelf = shelves()
    keep(deposits(), files)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(str(folder / "shelf"))
        socket.send_fds(stranger, [packet], [files[0]])
        stranger.settimeout(0.3)
        with suppress(TimeoutError):
            assert receive(stranger)[0] == {}, "it was answered"
    assert shelf.statistics().holds


def test_descriptors_are_not_left_open(shelves, deposits, files):
    shelves()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - descriptors, not files
    deposit = deposits()
    for _ in range(5):
        keep(deposit, files)
        words(deposits("other").inherit())
    deposit.renounce()
    after = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - likewise
    assert after - before <= 2 * 5 + 2  # connections of both ends


def test_a_folder_that_others_may_enter_will_not_do(folder):
    folder.chmod(0o755)
    with pytest.raises(ConfigError, match="closed to others"):
        Shelf(RUNTIME, folder / "shelf", give_up_seconds=1)


def test_another_users_process_is_not_heard(shelves, folder, monkeypatch):
    shelves()
    monkeypatch.setattr("cachefs.fuse.keeping.shelf.os.geteuid", lambda: 54321)
    assert ask(folder / "shelf", seconds=1) is None


def test_a_message_may_be_as_large_as_a_path(shelves):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        send(ours, {"mountpoint": "/" + "x" * 3000})
        assert len(receive(theirs)[0]["mountpoint"]) == 3001
