"""A node of a cluster for tests: a host, pods in mount and process namespaces of their own, a kubelet's calls.

The host is a mount namespace in which the node's folder is shared, as a kubelet's is. A daemon set's pod is a
process that is the first of its process namespace: who kills it kills all that is in it, as a container's end
does. An application's pod sees the host as it was when it began, or with ``slave`` what comes later, too. When the
host ends, everything that was mounted is gone: nothing of it was ever in the test's own namespace.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import grpc

from cachefs.fuse.mounts.table import parse_table
from cachefs.k8s.csi.places import Places
from cachefs.k8s.csi.proto import csi_pb2 as csi
from cachefs.k8s.csi.proto import csi_pb2_grpc as rpc
from tests.integration.systems import RUNTIME, wait_for

SECONDS = 20
PLUGIN = "kubelet/plugins/cachefs.io"
_HOST = 'mount --bind "$1" "$1"; mount --make-rshared "$1"; echo ready; exec sleep 600'
_VOLUMES = """
folder=$1; shift
stage=$(mktemp -d)
mount -t tmpfs none "$stage"
mkdir "$stage/1" "$stage/2"
mount --rbind "$folder/${1#*:}" "$stage/1"
mount "--make-r${1%%:*}" "$stage/1"
mount --rbind "$folder/${2#*:}" "$stage/2"
mount "--make-r${2%%:*}" "$stage/2"
mount --make-rprivate "$folder"
umount -R -l "$folder"
mount --move "$stage/1" "$folder/${1#*:}"
mount --move "$stage/2" "$folder/${2#*:}"
umount "$stage"; rmdir "$stage"
shift 2
exec "$@"
"""
"""Has two folders of the node as volumes of the host's, each ``shared`` (Bidirectional) or ``slave``
(HostToContainer), and of the rest of the node's mounts nothing, as a container's runtime does."""
READER = """
import hashlib, mmap, os, sys
path = sys.argv[1]
file = os.open(path, os.O_RDONLY)
size = os.fstat(file).st_size
with open(path, "rb") as other:
    view = mmap.mmap(other.fileno(), 0, prot=mmap.PROT_READ)
want = hashlib.sha256(view).hexdigest()
print(want, flush=True)
rounds = 0
while True:
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    data = b"".join(os.pread(file, 1 << 17, at) for at in range(0, size, 1 << 17))
    view.madvise(mmap.MADV_DONTNEED)
    with open(path, "rb") as again:
        fresh = again.read()
    for each in (data, view, fresh):
        if hashlib.sha256(each).hexdigest() != want:
            print("wrong", flush=True)
            sys.exit(1)
    rounds += 1
    print(rounds, flush=True)
"""
"""Reads a file over and over by descriptor, by mapping and opened anew; says how often, or ``wrong``."""


def capability(mode="MULTI_NODE_READER_ONLY", *, block=False):
    made = csi.VolumeCapability(
        access_mode=csi.VolumeCapability.AccessMode(
            mode=csi.VolumeCapability.AccessMode.Mode.Value(mode)
        )
    )
    (made.block if block else made.mount).SetInParent()
    return made


class Node:
    """One node; a context manager that leaves nothing behind."""

    def __init__(self, system, **environment):
        self.folder = Path(tempfile.mkdtemp(prefix="csi-"))
        self.places = Places(self.folder / "kubelet", self.folder / "run")
        self.targets = self.places.targets
        for path in (self.targets, self.places.plugin, self.places.registration.parent):
            path.mkdir(parents=True)
        self.environment = {
            **{name: value for name, value in os.environ.items() if "CACHEFS" not in name},
            "CACHEFS_COORDINATOR": system.processes["coordinator"].addresses["http"],
            "CACHEFS_TOKEN_FILE": str(system.folder / "token"),
            "CACHEFS_READER__DEADLINE_SECONDS": "10s",
            **environment,
        }
        self._started = []
        self._host = None

    def __enter__(self):
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-ceu", _HOST, "sh"]
        self._host = subprocess.Popen([*words, self.folder], stdout=subprocess.PIPE, text=True)
        assert self._host.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_):
        for process in reversed(self._started):
            self.end(process)
        self._host.kill()
        self._host.communicate()
        shutil.rmtree(self.folder)

    # Pods

    def start_pod(self, volumes, *words):
        """Start a daemon set's pod, with two volumes of the host's."""
        unshare = ["unshare", "--mount", "--propagation", "unchanged", "--pid", "--fork"]
        inside = ["sh", "-ceu", _VOLUMES, "sh", self.folder, *volumes]
        return self._start([*unshare, "--kill-child", "--mount-proc", *inside, *words])

    def start_mounts(self):
        module = [sys.executable, "-m", "cachefs.k8s.csi.mounts", *self.words()]
        return self.start_pod((f"shared:{PLUGIN}", "private:run"), *module)

    def start_driver(self, *words, cluster=False):
        options = ["--node", "node-1", "--port", "0", "--sockets-owner", "0"]
        options += [] if cluster else ["--no-cluster"]
        module = [sys.executable, "-m", "cachefs.k8s.csi", *self.words(), *options]
        return self.start_pod(("shared:kubelet/pods", f"slave:{PLUGIN}"), *module, *words)

    def start_application(self, target, name, *, propagation="private", program=READER):
        """Start an application's pod that has a target as its volume, and reads a file of it.

        Args:
            target: Of the volume.
            name: Of the file.
            propagation: Of the volume mount: ``private`` (None) or ``slave`` (HostToContainer).
            program: What runs; its argument is the file.
        """
        volume = self.folder / "containers" / target.parent.parent.parent.name
        volume.mkdir(parents=True, exist_ok=True)
        script = f'mount --rbind "$1" "$2"; mount --make-r{propagation} "$2"; shift 2; exec "$@"'
        unshare = ["unshare", "--mount", "--propagation", "slave", "sh", "-ceu", script, "sh"]
        words = [*unshare, target, volume, sys.executable, "-c", program, volume / name]
        return self._start(words, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)

    def _start(self, words, **options):
        command = ["nsenter", "-t", self._host.pid, "-m", *words]
        log = (self.folder / "log").open("ab")
        with log:
            process = subprocess.Popen(
                list(map(str, command)), env=self.environment, stderr=log, cwd="/", **options
            )
        self._started.append(process)
        return process

    def words(self):
        return ["--kubelet", self.places.kubelet, "--run", self.places.run]

    @staticmethod
    def first_of(process):
        """Return the first process of a pod, as the machine counts."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        return int(wait_for(children.read_text).split()[0])

    def everything_of(self, process):
        """Return all processes of a pod."""
        found, queue = [], [process.pid]
        while queue:
            pid = queue.pop()
            with suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    queue += map(int, (task / "children").read_text().split())
                found.append(pid)
        return found[1:]

    def end(self, process, number=signal.SIGKILL):
        """End a pod, all its processes at once, or by a signal to its first."""
        everything = self.everything_of(process)
        if process.poll() is None:
            if number == signal.SIGKILL:
                for pid in everything:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
                process.kill()
            else:
                os.kill(self.first_of(process), number)
        process.communicate(timeout=SECONDS)
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in everything), SECONDS)

    # What is seen

    def seen(self, path):
        """Return a path of the host's, as this test can open it."""
        return Path(f"/proc/{self._host.pid}/root{path}")

    def table(self):
        return list(parse_table(self.seen_table().split(b"\n")))

    def seen_table(self):
        return Path(f"/proc/{self._host.pid}/mountinfo").read_bytes()

    def mounted(self, path):
        """Return what is mounted at a place of the host's."""
        return [entry for entry in self.table() if entry.mountpoint == Path(path)]

    def log(self):
        return (self.folder / "log").read_text(errors="replace")[-6000:]

    def sign(self):
        try:
            return json.loads(self.places.sign.read_text())
        except (OSError, ValueError):
            return {}

    def wait_until_serving(self, *, kept=True, since=0.0):
        """Wait until the mount is served, and kept by the shelf."""

        def is_so():
            sign = self.sign()
            return sign.get("serving") and sign["at"] > since and (sign["kept"] or not kept)

        wait_for(is_so, SECONDS, what=self.log)

    # The kubelet's calls

    def wait_for_driver(self):
        wait_for(self._answers, SECONDS, what=self.log)

    def _answers(self):
        try:
            with self.channel() as channel:
                rpc.IdentityStub(channel).GetPluginInfo(csi.GetPluginInfoRequest(), timeout=1)
        except grpc.RpcError:
            return False
        return True

    def channel(self):
        return grpc.insecure_channel(f"unix:{self.places.socket}")

    def target(self, pod, name="data"):
        """Return a pod's target, and make what the kubelet makes of it."""
        path = self.targets / pod / "volumes/kubernetes.io~csi" / name
        path.mkdir(parents=True, exist_ok=True)
        return path / "mount"

    def publish(
        self, volume, target, attributes, *, seconds=SECONDS, mode="MULTI_NODE_READER_ONLY"
    ):
        with self.channel() as channel:
            rpc.NodeStub(channel).NodePublishVolume(
                csi.NodePublishVolumeRequest(
                    volume_id=volume,
                    target_path=str(target),
                    volume_capability=capability(mode),
                    volume_context=attributes,
                ),
                timeout=seconds,
            )

    def unpublish(self, volume, target, *, seconds=SECONDS):
        with self.channel() as channel:
            rpc.NodeStub(channel).NodeUnpublishVolume(
                csi.NodeUnpublishVolumeRequest(volume_id=volume, target_path=str(target)),
                timeout=seconds,
            )

    def stats(self, volume, target):
        with self.channel() as channel:
            return rpc.NodeStub(channel).NodeGetVolumeStats(
                csi.NodeGetVolumeStatsRequest(volume_id=volume, volume_path=str(target)),
                timeout=SECONDS,
            )


class Reader:
    """An application that reads."""

    def __init__(self, process):
        self._process = process
        self.digest = process.stdout.readline().strip()

    def wait_for_rounds(self, count=2):
        """Wait until it has read everything so often again, rightly."""
        for _ in range(count):
            line = self._process.stdout.readline().strip()
            assert line.isdigit(), f"{line!r}: {self._process.poll()}"


def now():
    return RUNTIME.monotonic()
