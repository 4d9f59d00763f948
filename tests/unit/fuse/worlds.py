"""A cluster that is a dictionary, and mounts of it without a kernel."""

import errno

from cachefs.client.reader import Reader
from cachefs.config.schema import ClusterConfig, ReaderConfig
from cachefs.core.blocks import block_range
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry, Manifest, name_file_version
from cachefs.core.membership import Member, View
from cachefs.core.names import DatasetName, WorkerId
from cachefs.errors import CoordinatorUnavailableError, NotKnownError
from cachefs.fuse.showing.attributes import ROOT, MountOptions
from cachefs.fuse.showing.currents import KeptVersion
from cachefs.fuse.showing.memory import NoVersions, VolatileMemory
from cachefs.fuse.showing.operations import show_all, show_dataset
from cachefs.ports import FetchedBlock, ResolvedVersion
from cachefs.transport.runtime import ThreadRuntime
from cachefs.wire.digests import digester

BLOCK = 1000
MODEL = DatasetName.parse("model")
LISTED_AT = 1_600_000_000.25
_MEMBER = Member(
    worker=WorkerId("w"),
    incarnation="1",
    node="n",
    zone="",
    pool="default",
    weight=1.0,
    data_address="nowhere:1",
    control_address="nowhere:2",
    socket_path="",
)


def manifest_of(files):
    """Return a manifest of path → content."""
    return Manifest.of(
        FileEntry(
            path,
            len(content),
            f"token of {path}",
            "",
            name_file_version(
                "memory", path=path, size=len(content), token=content.hex()[:40], digest=""
            ),
        )
        for path, content in files.items()
    )


class Clock(ThreadRuntime):
    """A runtime whose clock can be moved forward."""

    ahead = 0.0

    def monotonic(self):
        return super().monotonic() + self.ahead


class Cloud:
    """Coordinator, workers and lists at once: metadata, blocks and catalogue of a mount."""

    def __init__(self):
        self.runtime = Clock()
        self.versions = {}
        self.contents = {}
        self.up = True
        self.failure = None
        """Raised by each fetch of a block."""
        self.asked = []
        self.cluster = ClusterConfig(block_size=BLOCK)
        self.reader = Reader(
            self.runtime,
            ReaderConfig(local=False, deadline_seconds=0.3),
            self.cluster,
            metadata=self,
            blocks=self,
        )

    def put(self, name, files, listed_at=LISTED_AT):
        """Make a version the current one of a dataset; return its id."""
        dataset = DatasetName.parse(str(name))
        manifest = manifest_of(files)
        for entry in manifest.files:
            self.contents[entry.file_version] = files[entry.path]
        spec = OriginSpec("memory://origin")
        resolved = ResolvedVersion(dataset, spec, "fsspec", "default", 1, manifest, listed_at)
        self.versions.setdefault(dataset, []).append(resolved)
        return manifest.id

    def drop(self, name):
        del self.versions[DatasetName.parse(str(name))]

    def show(self, version=None, *, memory=None, versions=None, **options):
        options = MountOptions(uid=7, gid=8, **options)
        return show_dataset(
            self.reader,
            MODEL,
            version,
            options,
            memory=memory or VolatileMemory(),
            versions=versions or NoVersions(),
            catalogue=Catalogue(self),
        )

    def show_all(self, *, memory=None, versions=None, **options):
        options = MountOptions(uid=7, gid=8, **options)
        return show_all(
            self.reader,
            options,
            memory=memory or VolatileMemory(),
            versions=versions or NoVersions(),
            catalogue=Catalogue(self),
        )

    def _ask(self, what):
        self.asked.append(what)
        if not self.up:
            raise CoordinatorUnavailableError("it is down")

    # Metadata
    def view(self, *, deadline):
        return View(1, (_MEMBER,))

    def resolve(self, name, version, *, deadline):
        self._ask("resolve")
        for each in reversed(self.versions.get(name, [])):
            if each.manifest.id.startswith(version or ""):
                return each
        raise NotKnownError("no such version", subject=str(name))

    def digests(self, file, *, deadline):
        self._ask("digests")
        return ()

    # Blocks
    def fetch(self, member, request):
        if self.failure is not None:
            raise self.failure
        where = block_range(request.index, request.file.entry.size, BLOCK)
        content = self.contents[request.file.entry.file_version]
        request.into[:] = content[where.offset : where.end]
        return FetchedBlock(digester(self.cluster.digest)(request.into), "memory")

    # Catalogue, for the two lists and the residency
    def datasets(self, *, timeout_seconds):
        self._ask("datasets")
        return sorted(self.versions)

    def residency(self, name, version, path, *, timeout_seconds):
        self._ask("residency")
        return {"here": 1, "workers": {"w": 1}}


class Catalogue:
    """The lists of a cloud, whose ``versions`` is a dictionary already."""

    def __init__(self, cloud):
        self._cloud = cloud
        self.datasets = cloud.datasets
        self.residency = cloud.residency

    def versions(self, name, *, timeout_seconds):
        self._cloud._ask("versions")
        found = self._cloud.versions.get(name)
        if found is None:
            raise NotKnownError("no such dataset", subject=str(name))
        return [KeptVersion(each.manifest.id, each.listed_at) for each in reversed(found)]


def number_of(call, *arguments):
    """Return the number that a call fails with."""
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return None


def walk(operations, path):
    """Look a path up from the top, segment by segment; return its attributes."""
    node, found = ROOT, operations.getattr(ROOT)
    for segment in path.encode().split(b"/") if path else []:
        found = operations.lookup(node, segment)
        node = found.attributes.node
    return found.attributes


def names(operations, path=""):
    """Return the names in a folder."""
    return [name.decode() for name, _ in operations.listing(walk(operations, path).node)]


def content(operations, path):
    """Return a file's bytes."""
    opened = operations.open(walk(operations, path).node)
    try:
        with opened.views(0, opened.size) as views:
            return b"".join(views)
    finally:
        opened.close()
