"""The control plane's door: the gRPC service ``cachefs.v1.Coordinator``.

Each method turns a message into a call of :class:`~cachefs.coordinator.service.Coordinator` and the
answer into a message. What both doors show has one form, that of the HTTP API's
:mod:`~cachefs.coordinator.bodies`. Token, errors and message sizes are the control server's business
(:mod:`cachefs.transport.control`). Health can be asked without the token; reflection cannot.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cachefs.config.secrets import Secret
from cachefs.coordinator import bodies, warmbodies
from cachefs.coordinator.answers import Renewal
from cachefs.coordinator.declaring import DatasetChange
from cachefs.coordinator.residency import Reported
from cachefs.coordinator.service import Coordinator
from cachefs.coordinator.warming import FailedFill, WarmOptions
from cachefs.core.blocks import FileVersionId
from cachefs.core.datasets import Consistency, Dataset, Version
from cachefs.core.jobs import WarmJob
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName, WorkerId
from cachefs.core.residency import encode_mask
from cachefs.ports import Runtime
from cachefs.transport.control import ControlServer
from cachefs.wire import digests, failures, messages
from cachefs.wire.proto import cachefs_pb2 as pb
from cachefs.wire.proto import cachefs_pb2_grpc as rpc

M = TypeVar("M", bound=Message)
SERVICE = pb.DESCRIPTOR.services_by_name["Coordinator"].full_name

_THREADS = 32
"""Calls at once; a watcher of a warm-up keeps one."""
_PART_BYTES = 1024 * 1024
_WATCH_SECONDS = 0.5
_PAGE_MAX = 1000


class CoordinatorServicer(rpc.CoordinatorServicer):
    """Answers the control plane's calls."""

    def __init__(self, coordinator: Coordinator, runtime: Runtime, *, digest_size: int) -> None:
        """Answer from a coordinator."""
        self._coordinator = coordinator
        self._runtime = runtime
        self._digest_size = digest_size

    def Register(  # noqa: N802 - the service's spelling, as of all that follow
        self, request: pb.RegisterRequest, _context: grpc.ServicerContext
    ) -> pb.RegisterResponse:
        """Admit a worker."""
        member = messages.member_from_message(request.member)
        view = self._coordinator.members.register(member, request.fingerprint)
        return pb.RegisterResponse(
            view=messages.view_to_message(view),
            lease_seconds=self._coordinator.cluster.lease_seconds,
        )

    def Renew(  # noqa: N802
        self, request: pb.RenewRequest, _context: grpc.ServicerContext
    ) -> pb.RenewResponse:
        """Extend a worker's lease, and take its report."""
        renewed = self._coordinator.renew(_renewal(request))
        return pb.RenewResponse(
            view=None if renewed.view is None else messages.view_to_message(renewed.view),
            want_residency=renewed.want_residency,
            pins=None if renewed.pins is None else messages.retention_to_message(renewed.pins),
            dropped=renewed.dropped,
        )

    def Leave(  # noqa: N802
        self, request: pb.LeaveRequest, _context: grpc.ServicerContext
    ) -> pb.LeaveResponse:
        """Take a worker's goodbye."""
        self._coordinator.members.leave(WorkerId(request.worker), request.incarnation)
        return pb.LeaveResponse()

    def GetView(  # noqa: N802
        self, _request: pb.GetViewRequest, _context: grpc.ServicerContext
    ) -> pb.View:
        """Return the view."""
        return messages.view_to_message(self._coordinator.members.view)

    def AddDataset(  # noqa: N802
        self, request: pb.AddDatasetRequest, _context: grpc.ServicerContext
    ) -> pb.Dataset:
        """Declare a dataset."""
        dataset = _dataset_from_message(request.dataset)
        return _dataset(self._coordinator.catalogue.add(dataset, dict(request.checksums)))

    def ChangeDataset(  # noqa: N802
        self, request: pb.ChangeDatasetRequest, _context: grpc.ServicerContext
    ) -> pb.Dataset:
        """Change how a dataset is kept."""
        given = {
            name: getattr(request, name)
            for name in ("replicas", "pool", "ttl_seconds", "current")
            if request.HasField(name)
        }
        if request.HasField("consistency"):
            given["consistency"] = Consistency.parse(request.consistency)
        change = DatasetChange(pin=tuple(request.pin), unpin=tuple(request.unpin), **given)
        name = DatasetName.parse(request.name)
        return _dataset(self._coordinator.change(name, change))

    def RemoveDataset(  # noqa: N802
        self, request: pb.RemoveDatasetRequest, _context: grpc.ServicerContext
    ) -> pb.RemoveDatasetResponse:
        """Forget a dataset."""
        self._coordinator.catalogue.remove(DatasetName.parse(request.name))
        return pb.RemoveDatasetResponse()

    def ListDatasets(  # noqa: N802
        self, _request: pb.ListDatasetsRequest, _context: grpc.ServicerContext
    ) -> pb.ListDatasetsResponse:
        """Return every dataset."""
        datasets = self._coordinator.catalogue.every()
        return pb.ListDatasetsResponse(datasets=[_dataset(one) for one in datasets])

    def UpdateDataset(  # noqa: N802
        self, request: pb.UpdateDatasetRequest, _context: grpc.ServicerContext
    ) -> pb.Version:
        """List an origin again."""
        return _version(self._coordinator.catalogue.update(DatasetName.parse(request.name)))

    def ListVersions(  # noqa: N802
        self, request: pb.ListVersionsRequest, _context: grpc.ServicerContext
    ) -> pb.ListVersionsResponse:
        """Return a dataset's versions, the newest first."""
        versions = self._coordinator.catalogue.versions(DatasetName.parse(request.dataset))
        return pb.ListVersionsResponse(versions=[_version(one) for one in versions])

    def Resolve(  # noqa: N802
        self, request: pb.ResolveRequest, _context: grpc.ServicerContext
    ) -> pb.ResolveResponse:
        """Return a version by id or prefix, or the current one."""
        resolved = self._coordinator.catalogue.resolve(
            DatasetName.parse(request.dataset), request.version or None
        )
        return pb.ResolveResponse(
            version=_version(resolved.version), pool=resolved.pool, replicas=resolved.replicas
        )

    def GetManifest(  # noqa: N802
        self, request: pb.GetManifestRequest, _context: grpc.ServicerContext
    ) -> Iterator[pb.ManifestPart]:
        """Return a manifest's encoding in parts."""
        encoded = self._coordinator.catalogue.manifest(request.version).encoded
        for at in range(0, len(encoded), _PART_BYTES):
            yield pb.ManifestPart(encoded=encoded[at : at + _PART_BYTES])

    def GetDigests(  # noqa: N802
        self, request: pb.GetDigestsRequest, _context: grpc.ServicerContext
    ) -> pb.GetDigestsResponse:
        """Return the known digests of a file version's blocks."""
        known = self._coordinator.digests(FileVersionId(request.file_version))
        return pb.GetDigestsResponse(digests=digests.pack(known, self._digest_size))

    def GetHolders(  # noqa: N802
        self, request: pb.GetHoldersRequest, _context: grpc.ServicerContext
    ) -> pb.GetHoldersResponse:
        """Return which members hold which blocks of a file version."""
        coordinator = self._coordinator
        file_version = FileVersionId(request.file_version)
        masks = coordinator.residency.masks([file_version], coordinator.members.view)
        held: dict[WorkerId, int] = {}
        for (worker, _), mask in masks.get(file_version, {}).items():
            held[worker] = held.get(worker, 0) | mask
        return pb.GetHoldersResponse(
            holders=[
                pb.Holder(worker=worker, blocks=encode_mask(mask)) for worker, mask in held.items()
            ]
        )

    def StartWarm(  # noqa: N802
        self, request: pb.StartWarmRequest, _context: grpc.ServicerContext
    ) -> pb.WarmJob:
        """Ask for files to be filled."""
        options = WarmOptions(
            request.key,
            request.zone,
            request.copies,
            request.rate,
            request.map,
            tuple(request.workers),
        )
        return _job(
            self._coordinator.warm(
                DatasetName.parse(request.dataset),
                request.version or None,
                tuple(request.paths),
                options,
            )
        )

    def GetWarm(  # noqa: N802
        self, request: pb.GetWarmRequest, _context: grpc.ServicerContext
    ) -> pb.WarmJob:
        """Return a warm-up."""
        return _job(self._coordinator.warming.get(request.id))

    def WatchWarm(  # noqa: N802
        self, request: pb.GetWarmRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WarmJob]:
        """Return a warm-up whenever it has changed, until it has ended."""
        last: WarmJob | None = None
        while context.is_active():
            job = self._coordinator.warming.get(request.id)
            if job != last:
                yield _job(job)
                last = job
            if not job.active:
                return
            self._runtime.sleep(_WATCH_SECONDS)

    def ListWarm(  # noqa: N802
        self, _request: pb.ListWarmRequest, _context: grpc.ServicerContext
    ) -> pb.ListWarmResponse:
        """Return the newest warm-ups."""
        jobs = self._coordinator.warming.every(limit=_PAGE_MAX)
        return pb.ListWarmResponse(jobs=[_job(one) for one in jobs])

    def CancelWarm(  # noqa: N802
        self, request: pb.GetWarmRequest, _context: grpc.ServicerContext
    ) -> pb.WarmJob:
        """End a warm-up."""
        return _job(self._coordinator.warming.cancel(request.id))

    def ListEvents(  # noqa: N802
        self, request: pb.ListEventsRequest, _context: grpc.ServicerContext
    ) -> pb.ListEventsResponse:
        """Return the events after one."""
        limit = min(request.limit or _PAGE_MAX, _PAGE_MAX)
        events = self._coordinator.events.after(request.after, limit=limit)
        return pb.ListEventsResponse(events=[pb.Event(**one._asdict()) for one in events])


def open_server(
    coordinator: Coordinator,
    runtime: Runtime,
    *,
    host: str,
    port: int,
    token: Secret,
    more: Sequence[Callable[[ControlServer], Sequence[str]]] = (),
) -> ControlServer:
    """Bind the control plane's port, with health and reflection; ``start`` begins to answer.

    Args:
        coordinator: What answers.
        runtime: Its clock.
        host: To bind.
        port: Likewise; 0 for any free one.
        token: What callers must show.
        more: Each adds services to the server, and returns their full names.

    Raises:
        ClusterError: The address is taken or is not ours.
    """
    server = ControlServer(host, port, token, threads=_THREADS)
    servicer = CoordinatorServicer(
        coordinator, runtime, digest_size=digests.digest_size(coordinator.cluster.digest)
    )
    rpc.add_CoordinatorServicer_to_server(servicer, server.server)  # type: ignore[no-untyped-call]  # generated
    ours = [SERVICE, *(name for add in more for name in add(server))]
    checks = health.HealthServicer()
    for name in ("", *ours):
        checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server.server)
    names = (*ours, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server.server)
    return server


def _renewal(request: pb.RenewRequest) -> Renewal:
    return Renewal(
        worker=WorkerId(request.worker),
        incarnation=request.incarnation,
        epoch=request.epoch,
        residency=[
            Reported(FileVersionId(one.file_version), one.tier, one.resident, one.digests)
            for one in request.residency
        ],
        residency_is_whole=request.residency_is_whole,
        failures=[
            FailedFill(
                DatasetName.parse(one.dataset),
                VersionId(one.version),
                FileVersionId(one.file_version),
                one.index,
                failures.decode(one.failure.encode()),
            )
            for one in request.failures
        ],
        statistics=request.statistics,
        suspects=[WorkerId(one) for one in request.suspects],
        pins_revision=request.pins_revision,
    )


def _dataset_from_message(message: pb.Dataset) -> Dataset:
    plain = Dataset(
        name=DatasetName.parse(message.name), origin=messages.origin_from_message(message.origin)
    )
    return Dataset(
        name=plain.name,
        origin=plain.origin,
        include=tuple(message.include),
        exclude=tuple(message.exclude),
        consistency=Consistency.parse(message.consistency or "pinned"),
        pool=message.pool or plain.pool,
        replicas=message.replicas or plain.replicas,
        pins=tuple(message.pins),
        ttl_seconds=message.ttl_seconds if message.HasField("ttl_seconds") else None,
        versions_kept=message.versions_kept or plain.versions_kept,
    )


def _dataset(dataset: Dataset) -> pb.Dataset:
    return _message(bodies.DatasetBody.of(dataset), pb.Dataset())


def _version(version: Version) -> pb.Version:
    return _message(bodies.VersionBody.of(version), pb.Version())


def _job(job: WarmJob) -> pb.WarmJob:
    return _message(warmbodies.WarmJobBody.of(job), pb.WarmJob())


def _message(body: bodies.Body, message: M) -> M:
    """Say in a message what the HTTP API says in a body: the fields have the same names."""
    return ParseDict(body.model_dump(exclude_none=True), message)
