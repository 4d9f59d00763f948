"""The worker's control server: what the coordinator asks of it, over gRPC."""

# ruff: noqa: N802, ARG002 - the generated class decides over names and arguments

import json
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from cachefs.core.blocks import FileVersionId, block_count
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName, WorkerId
from cachefs.core.residency import decode_mask, encode_mask, indexes
from cachefs.ports import FileRef, Runtime
from cachefs.wire import messages
from cachefs.wire.proto import cachefs_pb2 as pb
from cachefs.wire.proto import cachefs_pb2_grpc as rpc
from cachefs.workers.drain import Drain
from cachefs.workers.filling.accounts import ByteAccounts
from cachefs.workers.filling.filler import Filler
from cachefs.workers.filling.warming import JobTerms
from cachefs.workers.knowledge import Knowledge
from cachefs.workers.pins import Pins
from cachefs.workers.proving.prover import Prover
from cachefs.workers.storage.store import TieredStore

METADATA_SECONDS = 8.0
"""Longest wait for the file list of a version that shall be warmed; less than the caller waits."""
TELL_SECONDS = 3.0
"""Longest that an eviction waits for the coordinator to know of it; less than the caller waits."""


class WorkerControl(rpc.WorkerServicer):
    """Implements the ``Worker`` service; errors are raised, the server turns them into statuses."""

    def __init__(
        self,
        runtime: Runtime,
        store: TieredStore,
        filler: Filler,
        knowledge: Knowledge,
        drain: Drain,
        *,
        prover: Prover,
        pins: Pins,
        block_size: int,
        served: ByteAccounts,
        statistics: Callable[[], Mapping[str, Any]],
        tell: Callable[[float], bool],
    ) -> None:
        """Act on the parts of one worker."""
        self._runtime = runtime
        self._store = store
        self._filler = filler
        self._prover = prover
        self._pins = pins
        self._knowledge = knowledge
        self._drain = drain
        self._block_size = block_size
        self._served = served
        self._statistics = statistics
        self._tell = tell

    def Stat(self, request: pb.StatRequest, context: grpc.ServicerContext) -> pb.StatResponse:
        """Return the statistics."""
        return pb.StatResponse(statistics=json.dumps(self._statistics()))

    def Warm(self, request: pb.WarmRequest, context: grpc.ServicerContext) -> pb.WarmResponse:
        """Fill blocks ahead of use; returns before they are filled."""
        if not request.wanted:
            self._filler.warm(request.job, {})
            return pb.WarmResponse()
        deadline = self._runtime.monotonic() + METADATA_SECONDS
        resolved = self._knowledge.resolve(
            DatasetName.parse(request.dataset), VersionId(request.version), deadline=deadline
        )
        wanted: dict[FileRef, list[int]] = {}
        for each in request.wanted:
            entry = resolved.manifest.by_file_version.get(FileVersionId(each.file_version))
            if entry is None:
                continue
            count = block_count(entry.size, self._block_size)
            mask = decode_mask(each.blocks, count)
            wanted[resolved.file(entry)] = list(indexes(mask))
        self._store.check_fits(wanted)
        terms = JobTerms(float(request.rate), request.from_peers, WorkerId(request.source) or None)
        self._filler.warm(request.job, wanted, terms)
        # It reads in order what the warm-up fills, and so ends soon after it.
        self._prover.begin(file for file, blocks in wanted.items() if 0 in blocks)
        return pb.WarmResponse()

    def Pin(self, request: pb.PinRequest, context: grpc.ServicerContext) -> pb.PinResponse:
        """Take over the pins of a newer revision; what is older is ignored."""
        pins = messages.retention_from_message(request.pins)
        return pb.PinResponse(revision=self._pins.push(pins))

    def Evict(self, request: pb.EvictRequest, context: grpc.ServicerContext) -> pb.EvictResponse:
        """Evict file versions, or bring them from memory to disk, but for those in use or pinned."""
        names = [FileVersionId(name) for name in request.file_versions]
        size, refused = (self._store.demote if request.only_memory else self._store.evict)(names)
        # Whoever warms next must not find these blocks in the coordinator's record.
        self._tell(TELL_SECONDS)
        return pb.EvictResponse(bytes=size, refused=list(refused))

    def Explain(
        self, request: pb.ExplainRequest, context: grpc.ServicerContext
    ) -> pb.ExplainResponse:
        """Return what is here of a file version, and what was done with it."""
        name = FileVersionId(request.file_version)
        resident = self._store.inspect(name)
        return pb.ExplainResponse(
            tier=resident.medium if resident else "",
            resident=encode_mask(resident.resident) if resident else b"",
            leased=self._store.is_leased(name),
            pinned=self._store.is_pinned(name),
            served_bytes=dict(self._served.of(name)),
            filled_bytes=dict(self._filler.filled.of(name)),
        )

    def GetResident(
        self, request: pb.GetResidentRequest, context: grpc.ServicerContext
    ) -> pb.GetResidentResponse:
        """Return which blocks are here, of many file versions at once."""
        found = map(self._store.inspect, messages.unpack_file_versions(request.file_versions))
        return pb.GetResidentResponse(
            resident=[encode_mask(each.resident) if each else b"" for each in found]
        )

    def Drain(self, request: pb.DrainRequest, context: grpc.ServicerContext) -> pb.DrainResponse:
        """Begin to drain, or say how far it has come; ``dry_run`` only plans."""
        progress = self._drain.plan() if request.dry_run else self._drain.begin()
        return pb.DrainResponse(
            blocks=progress.blocks,
            bytes=progress.size,
            seconds=progress.seconds,
            done=progress.done,
        )
