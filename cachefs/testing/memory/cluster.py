"""A few :class:`MemoryWorker` that hold one dataset, and readers on them, in a line of a test."""

from collections.abc import Mapping
from contextlib import ExitStack, closing

from cachefs.client.lenders import LocalFiles
from cachefs.client.reader import Reader
from cachefs.config.schema import ClusterConfig, ReaderConfig
from cachefs.config.secrets import Secret
from cachefs.core import placement
from cachefs.core.blocks import BlockId, FileVersionId
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry, Manifest, name_file_version
from cachefs.core.membership import View
from cachefs.core.names import DatasetName
from cachefs.ports import Closing, ResolvedVersion
from cachefs.testing.memory.worker import MemoryWorker
from cachefs.transport.blocks import HttpBlockSource
from cachefs.transport.metadata import HttpMetadata
from cachefs.transport.runtime import ThreadRuntime

DATASET = "model"
TOKEN = "token-of-a-test"  # noqa: S105 - it guards nothing
_WORKERS = 3


class MemoryCluster(Closing):
    """Workers on real sockets with files from a dictionary; everybody holds every block."""

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        block_size: int = 4096,
        replicas: int = 1,
    ) -> None:
        """Start three workers."""
        self.files = dict(files)
        self.cluster = ClusterConfig(block_size=block_size)
        self.runtime = ThreadRuntime()
        entries = [
            FileEntry(path, len(content), "1", "", self._name(path, content))
            for path, content in files.items()
        ]
        self.version = ResolvedVersion(
            DatasetName.parse(DATASET),
            OriginSpec("memory://origin"),
            "fsspec",
            "default",
            replicas,
            Manifest.of(entries),
        )
        contents = {self._name(path, content): content for path, content in files.items()}
        self.workers = [
            MemoryWorker(
                f"w{number}", TOKEN, block_size, contents, versions={DATASET: self.version}
            )
            for number in range(_WORKERS)
        ]
        self.show(*self.workers)
        self._owned = ExitStack()

    def _name(self, path: str, content: bytes) -> FileVersionId:
        return name_file_version("memory", path=path, size=len(content), token="1")  # noqa: S106

    def show(self, *workers: MemoryWorker, epoch: int = 1) -> None:
        """Let every worker answer with a view of these."""
        view = View(epoch, tuple(sorted((each.member for each in workers), key=lambda m: m.worker)))
        for worker in self.workers:
            worker.view = view

    def order(self, path: str, index: int) -> list[MemoryWorker]:
        """Return the workers in the placement order of a block: the owner first."""
        file_version = self.version.manifest.find(path).file_version
        view = self.workers[0].view
        order = placement.order(BlockId(file_version, index), view.members, pool="default")
        by_name = {worker.name: worker for worker in self.workers}
        return [by_name[member.worker] for member in order]

    def reader(
        self,
        config: ReaderConfig | None = None,
        *,
        local: LocalFiles | None = None,
    ) -> Reader:
        """Open a reader that knows the workers' addresses; it is closed with the cluster."""
        config = config or ReaderConfig()
        token = Secret(TOKEN)
        metadata = HttpMetadata(
            self.runtime,
            None,
            token,
            workers=[worker.address for worker in self.workers],
            timeout_seconds=1.0,
        )
        blocks = HttpBlockSource(
            self.runtime,
            token,
            block_size=self.cluster.block_size,
            stall_seconds=config.stall_seconds,
        )
        for part in (metadata, blocks):
            self._owned.enter_context(closing(part))
        return self._owned.enter_context(
            Reader(
                self.runtime, config, self.cluster, metadata=metadata, blocks=blocks, local=local
            )
        )

    def close(self) -> None:
        """Close readers, then workers."""
        self._owned.close()
        for worker in self.workers:
            worker.close()
