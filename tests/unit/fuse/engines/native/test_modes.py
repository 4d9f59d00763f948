"""Files are passed through or cached by the kernel's rules, over the death of processes too."""

import errno
import os

import pytest

from cachefs.fuse.engines.native.journal import Journal, Negotiated
from cachefs.fuse.engines.native.modes import Modes
from cachefs.fuse.showing.memory import VolatileMemory
from cachefs.testing.simulation.world.runtime import SimRuntime

NODE = (1 << 32) | 5
SETTLE = 10.0


class Kernel:
    """Remembers backing files, and knows which inodes somebody uses."""

    def __init__(self):
        self.ids = {}
        self.used = set()
        self.refusal = None
        self.asked = 0

    def open_backing(self, descriptor):
        if self.refusal is not None:
            raise OSError(self.refusal, os.strerror(self.refusal))
        number = len(self.ids) + 1
        self.ids[number] = descriptor
        return number

    def close_backing(self, backing):
        del self.ids[backing]

    def holds(self, node):
        self.asked += 1
        return node in self.used


class File:
    """A file that may be whole here."""

    def __init__(self, *, whole):
        self.descriptor = os.memfd_create("file") if whole else None
        self.closed = False

    def whole_here(self):
        return self.descriptor

    def close(self):
        self.closed = True


class World:
    def __init__(self):
        self.runtime = SimRuntime(3)
        self.kernel = Kernel()
        self.memory = VolatileMemory()
        self.modes = self.start()

    def start(self):
        """Begin as a new process would."""
        self.modes = Modes(self.runtime, self.kernel, Journal(self.memory), settle_seconds=SETTLE)
        self.modes.passthrough = True
        return self.modes

    def settle(self, *, after=SETTLE):
        self.runtime.sleep(after)
        self.modes.settle()

    def run(self, body):
        self.runtime.run(body)


@pytest.fixture
def world():
    return World()


def test_a_whole_file_is_passed_through(world):
    def body():
        file = File(whole=True)
        mode = world.modes.open(NODE, file)
        assert (mode.backing, mode.kept) == (1, True)
        assert world.kernel.ids == {1: file.descriptor}

    world.run(body)


def test_every_open_of_a_file_that_is_passed_through_has_the_same_backing_id(world):
    def body():
        world.modes.open(NODE, File(whole=True))
        for whole in (True, False):
            mode = world.modes.open(NODE, File(whole=whole))
            assert (mode.backing, mode.kept) == (1, False)
        assert list(world.kernel.ids) == [1]

    world.run(body)


def test_a_file_that_is_open_cached_stays_cached_until_its_last_close(world):
    def body():
        assert world.modes.open(NODE, File(whole=False)).backing == 0
        assert world.modes.open(NODE, File(whole=True)).backing == 0
        world.modes.close(NODE)
        assert world.modes.open(NODE, File(whole=True)).backing == 0
        world.modes.close(NODE)
        world.modes.close(NODE)
        assert world.modes.open(NODE, File(whole=True)).backing == 1

    world.run(body)


def test_a_closed_file_is_kept_while_the_kernel_has_its_inode(world):
    def body():
        file = File(whole=True)
        world.kernel.used.add(NODE)
        world.modes.open(NODE, file)
        world.modes.close(NODE)
        world.settle(after=SETTLE - 1)
        assert world.kernel.asked == 0
        world.settle(after=1)
        assert (world.kernel.asked, file.closed) == (1, False)
        assert world.modes.open(NODE, File(whole=False)).backing == 1
        world.modes.close(NODE)
        world.kernel.used.clear()
        world.settle()
        assert file.closed
        assert world.kernel.ids == {}
        assert world.modes.open(NODE, File(whole=False)).backing == 0

    world.run(body)


def test_a_mapping_that_lasts_is_asked_about_ever_more_seldom(world):
    def body():
        world.kernel.used.add(NODE)
        world.modes.open(NODE, File(whole=True))
        world.modes.close(NODE)
        for _ in range(100):
            world.settle()
        assert 5 < world.kernel.asked < 12

    world.run(body)


def test_nothing_that_is_open_is_settled(world):
    def body():
        world.modes.open(NODE, File(whole=True))
        world.settle(after=100 * SETTLE)
        assert world.kernel.asked == 0

    world.run(body)


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.ELOOP, errno.EINVAL])
def test_what_the_kernel_refuses_is_cached(world, refusal):
    def body():
        world.kernel.refusal = refusal
        assert world.modes.open(NODE, File(whole=True)).backing == 0
        assert world.modes.passthrough is (refusal != errno.EPERM)

    world.run(body)


def test_a_successor_goes_on_with_the_backing_id_that_the_kernel_has(world):
    def body():
        world.kernel.used.add(NODE)
        world.modes.open(NODE, File(whole=True))
        world.start()
        mode = world.modes.open(NODE, File(whole=False))
        assert (mode.backing, mode.kept) == (1, True)
        world.modes.close(NODE)
        world.settle()
        assert list(world.kernel.ids) == [1]
        world.kernel.used.clear()
        world.settle(after=10 * SETTLE)
        assert world.kernel.ids == {}
        world.start()
        assert world.modes.open(NODE, File(whole=False)).backing == 0

    world.run(body)


def test_a_successor_passes_nothing_through_that_may_be_open_cached(world):
    def body():
        world.kernel.used.add(NODE)
        world.modes.open(NODE, File(whole=False))
        world.start()
        assert world.modes.open(NODE, File(whole=True)).backing == 0
        world.modes.close(NODE)
        assert world.modes.open(NODE, File(whole=True)).backing == 0
        world.modes.close(NODE)
        world.kernel.used.clear()
        world.settle()
        assert world.modes.open(NODE, File(whole=True)).backing == 1

    world.run(body)


def test_opening_and_closing_does_not_make_the_memory_grow(world):
    def body():
        for _ in range(50):
            world.modes.open(NODE, File(whole=False))
            world.modes.close(NODE)
            world.settle()
        assert len(world.memory.records()) == 1

    world.run(body)


def test_a_worker_that_does_not_answer_has_nothing_whole(world):
    class Silent(File):
        def whole_here(self):
            raise OSError(errno.EIO, "no answer")

    def body():
        assert world.modes.open(NODE, Silent(whole=False)).backing == 0

    world.run(body)


def test_an_open_that_fails_leaves_the_next_one_free_to_choose(world):
    class Broken(File):
        def whole_here(self):
            raise RuntimeError("a bug")

    def body():
        with pytest.raises(RuntimeError):
            world.modes.open(NODE, Broken(whole=False))
        assert world.modes.open(NODE, File(whole=True)).backing == 1

    world.run(body)


def test_one_thread_decides_and_the_others_wait_for_it(world):
    class Slow(File):
        def whole_here(self):
            world.runtime.sleep(1.0)
            return super().whole_here()

    def body():
        modes = []
        tasks = [
            world.runtime.start(
                "open", lambda: modes.append(world.modes.open(NODE, Slow(whole=True)))
            )
            for _ in range(5)
        ]
        for task in tasks:
            task.join()
        assert [mode.backing for mode in modes] == [1] * 5
        assert [mode.kept for mode in modes].count(True) == 1
        assert list(world.kernel.ids) == [1]

    world.run(body)


def test_the_journal_keeps_what_was_negotiated_and_leaves_others_records_alone():
    memory = VolatileMemory()
    memory.append({"kind": "tree", "number": 1})
    Journal(memory).began(Negotiated(40, (1 << 39) | 1))
    again = Journal(memory)
    assert again.negotiated == Negotiated(40, (1 << 39) | 1)
    assert again.modes == {}
