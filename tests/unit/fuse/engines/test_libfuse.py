"""The libfuse engine without a mount: paths, answers, errors."""

import ctypes
import errno
from pathlib import Path

import pytest

from cachefs.errors import ConfigError
from cachefs.fuse.showing.attributes import MountOptions
from cachefs.transport.runtime import ThreadRuntime

try:
    from cachefs.fuse.engines import libfuse
except (ImportError, OSError) as error:
    pytest.skip(f"needs mfusepy and libfuse 3: {error}", allow_module_level=True)

OPTIONS = MountOptions(uid=7, gid=8)
FILES = {"a": b"1", "sub/b": b"2", "sub/c/d": b"3"}


@pytest.fixture
def bridge(cloud):
    cloud.put("model", FILES)
    return libfuse._Bridge(cloud.show(), Path("/nowhere"), OPTIONS, ThreadRuntime(), None)


class Counting:
    """Operations that count what is looked up."""

    def __init__(self, operations):
        self._operations = operations
        self.lookups = []

    def __getattr__(self, name):
        return getattr(self._operations, name)

    def lookup(self, parent, name):
        self.lookups.append(name)
        return self._operations.lookup(parent, name)


def test_it_refuses_to_follow_because_a_path_has_one_page_cache(bridge):
    options = MountOptions(uid=7, gid=8, follow_current=True)
    with pytest.raises(ConfigError, match="cannot follow"):
        libfuse.LibfuseEngine(
            bridge.operations, Path("/nowhere"), "cachefs", options, ThreadRuntime()
        )


def test_a_path_is_looked_up_once(bridge):
    bridge.operations = counting = Counting(bridge.operations)
    found = bridge.find(b"/sub/c/d")
    assert found.attributes.size == 1
    assert counting.lookups == [b"sub", b"c", b"d"]
    assert bridge.find(b"/sub/c/d") == found
    assert bridge.find(b"/sub/b").attributes.size == 1
    assert counting.lookups == [b"sub", b"c", b"d", b"b"]
    assert bridge.find(b"/").attributes.folder


def test_a_name_that_may_come_to_mean_something_else_is_looked_up_each_time(cloud):
    cloud.put("model", FILES)
    bridge = libfuse._Bridge(cloud.show_all(), Path("/nowhere"), OPTIONS, ThreadRuntime(), None)
    bridge.operations = counting = Counting(bridge.operations)
    for _ in range(2):
        bridge.find(b"/default/model/sub/b")
    assert counting.lookups.count(b"default") == 1, "what lies below a version does not move"
    for _ in range(2):
        bridge.find(b"/default/model/a")
    assert counting.lookups.count(b"model") == 3


def test_only_so_many_paths_are_remembered(bridge, monkeypatch):
    monkeypatch.setattr(libfuse, "_PATHS_KEPT", 4)
    for _ in range(3):
        for path in (b"/a", b"/sub", b"/sub/b", b"/sub/c", b"/sub/c/d"):
            assert bridge.find(path).attributes.node
            assert len(bridge._paths) <= 4


def wrapped(bridge, function):
    library = libfuse._Library.__new__(libfuse._Library)
    library._bridge = bridge
    return library._wrapper(function)


def raising(error):
    def function():
        raise error

    return function


def test_an_error_becomes_its_number(bridge, caplog):
    assert wrapped(bridge, raising(OSError(errno.ESTALE, "gone"))) == -errno.ESTALE
    assert wrapped(bridge, raising(OSError("without a number"))) == -errno.EIO
    assert wrapped(bridge, lambda: None) == 0
    assert wrapped(bridge, lambda: 7) == 7
    assert caplog.records == []


def test_a_bug_is_eio_and_logged_and_the_mount_goes_on(bridge, caplog):
    assert wrapped(bridge, raising(KeyError("bug"))) == -errno.EIO
    assert caplog.records[0].exc_info


def test_a_value_is_given_where_there_is_room_for_it():
    buffer = ctypes.create_string_buffer(8)
    assert libfuse._give(b"value", buffer, 0) == 5
    assert libfuse._give(b"value", buffer, 4) == -errno.ERANGE
    assert libfuse._give(b"value", buffer, 5) == 5
    assert buffer.value == b"value"
