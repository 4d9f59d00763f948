"""A coordinator in memory, on a real port: members, versions and digests, and nothing stored.

For tests of one worker, or of a few, that want to see what the worker says and to decide what it
hears. It can be stopped and started again on its port, with or without its memory.
"""

import threading
from collections.abc import Iterator
from typing import Self

import grpc

from cachefs.config.schema import ClusterConfig
from cachefs.config.secrets import Secret
from cachefs.core.blocks import FileVersionId
from cachefs.core.manifest import VersionId
from cachefs.core.membership import EMPTY_VIEW, Membership
from cachefs.core.names import DatasetName, WorkerId
from cachefs.core.residency import decode_mask, indexes
from cachefs.errors import ConfigError, NotKnownError
from cachefs.ports import ResolvedVersion, Runtime
from cachefs.transport.control import ControlServer
from cachefs.wire import digests, messages
from cachefs.wire.proto import cachefs_pb2 as pb
from cachefs.wire.proto import cachefs_pb2_grpc as rpc

# ruff: noqa: N802, ARG002, D102 - the generated class decides over names, arguments and meaning


class MemoryCoordinator(rpc.CoordinatorServicer):
    """Implements the part of the ``Coordinator`` service that workers call."""

    def __init__(self, runtime: Runtime, cluster: ClusterConfig, token: Secret) -> None:
        """Listen on any free port; :meth:`start` begins to answer."""
        self._runtime = runtime
        self._cluster = cluster
        self._token = token
        self._lock = threading.Lock()
        self._size = digests.digest_size(cluster.digest)
        self.versions: list[ResolvedVersion] = []
        """What can be resolved; the last one of a dataset is current."""
        self.renewals: list[pb.RenewRequest] = []
        """Every renewal that was answered."""
        self.answer = pb.RenewResponse()
        """What each renewal is answered, besides the view."""
        self.known: dict[FileVersionId, dict[int, bytes]] = {}
        """Digests by file version and block."""
        self.held: dict[WorkerId, dict[tuple[FileVersionId, str], bytes]] = {}
        """What each worker holds, by file version and tier."""
        self._port = 0
        self.forget()
        self._server: ControlServer | None = None

    def forget(self) -> None:
        """Lose all members, as after every lease has run out."""
        with self._lock:
            self._membership = Membership(
                EMPTY_VIEW, lease_seconds=self._cluster.lease_seconds, now=self._runtime.monotonic()
            )

    @property
    def address(self) -> str:
        """``host:port``, the same after a restart."""
        return f"127.0.0.1:{self._port}"

    @property
    def membership(self) -> Membership:
        """The members."""
        return self._membership

    def start(self) -> Self:
        """Begin to answer."""
        self._server = ControlServer("127.0.0.1", self._port, self._token)
        self._port = self._server.port
        rpc.add_CoordinatorServicer_to_server(self, self._server.server)  # type: ignore[no-untyped-call]  # generated
        self._server.start()
        return self

    def close(self) -> None:
        """Stop answering; :meth:`start` begins again. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.close(grace_seconds=0.0)

    def Register(
        self, request: pb.RegisterRequest, context: grpc.ServicerContext
    ) -> pb.RegisterResponse:
        if request.fingerprint != self._cluster.fingerprint():
            raise ConfigError("the worker's cluster configuration differs")
        member = messages.member_from_message(request.member)
        with self._lock:
            view = self._membership.register(member, self._runtime.monotonic())
        return pb.RegisterResponse(
            view=messages.view_to_message(view), lease_seconds=self._cluster.lease_seconds
        )

    def Renew(self, request: pb.RenewRequest, context: grpc.ServicerContext) -> pb.RenewResponse:
        with self._lock:
            view = self._membership.renew(
                WorkerId(request.worker), request.incarnation, self._runtime.monotonic()
            )
            self.renewals.append(request)
            held_now = self.held.setdefault(WorkerId(request.worker), {})
            if request.residency_is_whole:
                held_now.clear()
            for each in request.residency:
                key = (FileVersionId(each.file_version), each.tier)
                held_now[key] = each.resident
                if not each.digests:
                    continue
                held = indexes(decode_mask(each.resident, len(each.resident) * 8))
                named = digests.unpack(each.digests, self._size)
                known = self.known.setdefault(FileVersionId(each.file_version), {})
                known |= {
                    index: digest for index, digest in zip(held, named, strict=True) if digest
                }
            answer = pb.RenewResponse()
            answer.CopyFrom(self.answer)
        if view.epoch != request.epoch:
            answer.view.CopyFrom(messages.view_to_message(view))
        return answer

    def Leave(self, request: pb.LeaveRequest, context: grpc.ServicerContext) -> pb.LeaveResponse:
        with self._lock:
            self._membership.leave(WorkerId(request.worker), self._runtime.monotonic())
        return pb.LeaveResponse()

    def GetView(self, request: pb.GetViewRequest, context: grpc.ServicerContext) -> pb.View:
        return messages.view_to_message(self._membership.view)

    def Resolve(
        self, request: pb.ResolveRequest, context: grpc.ServicerContext
    ) -> pb.ResolveResponse:
        name = DatasetName.parse(request.dataset)
        found = [
            each
            for each in self.versions
            if each.dataset == name and each.manifest.id.startswith(request.version)
        ]
        if not found:
            raise NotKnownError("no such version", subject=request.dataset)
        version = pb.Version(
            id=found[-1].manifest.id,
            dataset=request.dataset,
            origin=messages.origin_to_message(found[-1].origin),
            client=found[-1].client,
        )
        return pb.ResolveResponse(version=version, pool=found[-1].pool, replicas=found[-1].replicas)

    def GetManifest(
        self, request: pb.GetManifestRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ManifestPart]:
        wanted = VersionId(request.version)
        for each in self.versions:
            if each.manifest.id == wanted:
                yield pb.ManifestPart(encoded=each.manifest.encoded)
                return
        raise NotKnownError("no such version", subject=wanted)

    def GetDigests(
        self, request: pb.GetDigestsRequest, context: grpc.ServicerContext
    ) -> pb.GetDigestsResponse:
        known = self.known.get(FileVersionId(request.file_version), {})
        count = max(known, default=-1) + 1
        packed = digests.pack([known.get(index) for index in range(count)], self._size)
        return pb.GetDigestsResponse(digests=packed)

    def GetHolders(
        self, request: pb.GetHoldersRequest, context: grpc.ServicerContext
    ) -> pb.GetHoldersResponse:
        with self._lock:
            holders = [
                pb.Holder(worker=worker, blocks=resident)
                for worker, held in self.held.items()
                for (name, _), resident in held.items()
                if name == request.file_version
            ]
        return pb.GetHoldersResponse(holders=holders)
