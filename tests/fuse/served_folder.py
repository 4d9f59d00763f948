"""A folder behind the native engine, without a cluster: for tests of the engine alone.

The process that serves is this module, run with the device and the memory that the test holds, so
that a test can kill it and start a successor. It obeys files in a control folder:

- ``whole``: names of files, one per line, that are whole on this node;
- ``held``: names of files whose reads wait until the name is gone;
- ``reads``: where each READ that arrives is noted, a line each.
"""

import errno
import mmap
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from cachefs.fuse.engines.native import device as system
from cachefs.fuse.engines.native.engine import EngineLimits, NativeEngine
from cachefs.fuse.keeping.keptmemory import KeptMemory, make_memory
from cachefs.fuse.mounts.table import find_mount
from cachefs.fuse.showing.attributes import FOREVER, Attributes, Found, MountOptions, Statistics
from cachefs.transport.runtime import ThreadRuntime

CONNECTIONS = Path("/sys/fs/fuse/connections")
ROOT = Path(__file__).parent.parent.parent
HELD_SECONDS_MAX = 30.0


class Listing:
    """What is in a folder."""

    valid_seconds = FOREVER
    constant = True

    def __init__(self, entries):
        self._entries = entries

    def __len__(self):
        return len(self._entries)

    def __getitem__(self, index):
        return self._entries[index]


class ServedFile:
    """A file of the folder."""

    def __init__(self, operations, path):
        self._operations = operations
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._descriptor).st_size
        self._bytes = (
            mmap.mmap(self._descriptor, self.size, prot=mmap.PROT_READ) if self.size else b""
        )

    @contextmanager
    def views(self, offset, length):
        self._operations.wait_for(self._path.name, offset)
        yield (memoryview(self._bytes)[offset : offset + length],)

    def expect(self):
        pass

    def whole_here(self):
        return self._descriptor if self._operations.says("whole", self._path.name) else None

    def close(self):
        os.close(self._descriptor)


class FolderOperations:
    """Shows a folder as it was at the beginning; nodes follow from the sorted names."""

    def __init__(self, top, control):
        self._control = control
        self._paths = {1: top}
        for path in sorted(top.rglob("*")):
            self._paths[len(self._paths) + 1] = path
        self._nodes = {path: node for node, path in self._paths.items()}

    def says(self, what, name):
        try:
            return name in (self._control / what).read_text().split("\n")
        except FileNotFoundError:
            return False

    def wait_for(self, name, offset):
        with (self._control / "reads").open("a") as notes:
            notes.write(f"{name} {offset}\n")
        until = time.monotonic() + HELD_SECONDS_MAX  # noqa: TID251 - real time, in a process of its own
        while self.says("held", name):
            time.sleep(0.01)  # noqa: TID251 - likewise
            if time.monotonic() > until:  # noqa: TID251 - likewise
                raise OSError(errno.EIO, "held for too long")

    def _found(self, path):
        status = path.stat()
        folder = path.is_dir()
        attributes = Attributes(
            self._nodes[path],
            status.st_ino,
            folder,
            0 if folder else status.st_size,
            0o555 if folder else 0o444,
            2 if folder else 1,
            os.getuid(),
            os.getgid(),
            status.st_mtime_ns,
        )
        return Found(attributes, FOREVER)

    def lookup(self, parent, name):
        path = self._paths[parent] / os.fsdecode(name)
        if path not in self._nodes:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._found(path)

    def getattr(self, node):
        return self._found(self._paths[node])

    def try_lookup(self, parent, name):
        return None

    def try_getattr(self, node):
        return None

    def try_listing(self, node):
        return None

    def listing(self, node):
        children = sorted(self._paths[node].iterdir())
        return Listing(
            [(os.fsencode(path.name), self._found(path).attributes) for path in children]
        )

    def open(self, node):
        return ServedFile(self, self._paths[node])

    def names(self, node):
        path = self._paths[node]
        return [(self._nodes[path.parent], os.fsencode(path.name))]

    def statfs(self):
        return Statistics(10 * 4096 - 1, len(self._paths))

    def getxattr(self, node, name):
        if name != "user.path":
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return os.fsencode(self._paths[node])

    def listxattr(self, node):
        return ("user.path",)


def abort(entry):
    """End a mount's connection; whoever waits for it gets an error."""
    if not os.path.ismount(CONNECTIONS):
        subprocess.run(["mount", "-t", "fusectl", "none", str(CONNECTIONS)], check=True)
    minor = entry.device.partition(":")[2]
    (CONNECTIONS / minor / "abort").write_text("1")


class FolderMount:
    """The test's side: holds device and memory, starts and kills the process that serves."""

    def __init__(self, folder, *, allow_other=False):
        self.source = folder / "source"
        self.mountpoint = folder / "mount"
        self.control = folder / "control"
        for each in (self.source, self.mountpoint, self.control):
            each.mkdir()
        options = MountOptions(uid=0, gid=0, allow_other=allow_other)
        self.device = system.mount(self.mountpoint, "cachefs://served,folder", options)
        self.memory = make_memory()
        self.server = None

    def start(self):
        """Start a process that serves, and wait until it does."""
        words = [self.device, self.memory, self.source, self.control]
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.fuse.served_folder", *map(str, words)],
            cwd=ROOT,
            pass_fds=[self.device, self.memory],
            stdout=subprocess.PIPE,
        )
        assert self.server.stdout.readline() == b"ready\n"

    def kill(self):
        """End it as the out-of-memory killer would."""
        self.server.kill()
        self._reap()

    def leave(self):
        """End it as an upgrade would."""
        self.server.terminate()
        assert self._reap() == 0

    def _reap(self):
        status = self.server.wait(20)
        self.server.stdout.close()
        self.server = None
        return status

    def say(self, what, *names):
        """Set what a control file says."""
        partial = self.control / f"{what}.partial"
        partial.write_text("\n".join(names))
        partial.replace(self.control / what)

    def reads(self, name):
        """Return the offsets of the READs of a file that the process has got."""
        try:
            lines = (self.control / "reads").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [int(line.split()[1]) for line in lines if line.split()[0] == name]

    def close(self):
        """Unmount, whatever state it is in, and end the process."""
        entry = find_mount(self.mountpoint)
        if entry is not None:
            subprocess.run(["umount", "-l", str(self.mountpoint)], check=False)
            with suppress(FileNotFoundError):  # Nobody had it open: it has ended.
                abort(entry)
        if self.server is not None:
            self.server.kill()
            self._reap()
        os.close(self.device)
        os.close(self.memory)


def main(device, memory, source, control):
    import signal  # noqa: PLC0415 - of the process that serves alone
    import threading  # noqa: PLC0415 - likewise

    runtime = ThreadRuntime()
    engine = NativeEngine(
        int(device),
        FolderOperations(Path(source), Path(control)),
        KeptMemory(runtime, int(memory)),
        MountOptions(uid=0, gid=0),
        runtime,
        limits=EngineLimits(settle_seconds=0.2, threads=12, reads=8),
        # Not before: a process that dies with INIT in its hands leaves nothing to take over.
        on_ready=lambda: print("ready", flush=True),
    )
    signal.signal(
        signal.SIGTERM, lambda *_: threading.Thread(target=engine.close, daemon=True).start()
    )
    engine.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
