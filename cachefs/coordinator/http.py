"""The HTTP API: for people, the command line, the SDK, and readers that look for metadata.

``/openapi.json`` describes it. Routes are plain functions, which the framework runs in threads.
Every failure is a document of :mod:`cachefs.wire.failures` under its HTTP status. View, resolved
versions, manifests and digests have the form of :mod:`cachefs.wire.http`, as workers serve them.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

import cachefs
from cachefs.config.secrets import Secret
from cachefs.coordinator import bodies, warmbodies
from cachefs.coordinator.belonging import check_file, check_version
from cachefs.coordinator.duties import Duty
from cachefs.coordinator.gate import Gate
from cachefs.coordinator.poolroutes import map_routes, pool_routes
from cachefs.coordinator.service import Coordinator
from cachefs.coordinator.store.datasets import full
from cachefs.coordinator.warming import WarmOptions
from cachefs.core.blocks import FileVersionId, block_count
from cachefs.core.datasets import OriginSpec
from cachefs.core.names import DatasetName, WorkerId
from cachefs.errors import CacheFSError, ClusterError, ConfigError, NotKnownError
from cachefs.ports import Runtime
from cachefs.wire import digests, failures
from cachefs.wire.http import EPOCH_HEADER, VersionHead, encode_version

_LOG = logging.getLogger("cachefs.coordinator")

_PAGE_MAX = 1000
_BLOCKS_MAX = 10_000
_JSON = "application/json"
_BYTES = "application/octet-stream"
_IMMUTABLE = {"Cache-Control": "private, max-age=31536000, immutable"}

Name = Annotated[str, Query(max_length=200, alias="dataset")]
Whose = Annotated[str | None, Query(max_length=200, alias="dataset")]
"""The dataset in whose name it is asked, which a reading token has to say."""
Version = Annotated[str, Query(max_length=63)]
Part = Annotated[str, Path(max_length=63)]
Id = Annotated[str, Path(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=_PAGE_MAX)]


def make_app(
    coordinator: Coordinator,
    runtime: Runtime,
    token: Secret,
    *,
    exposition: Callable[[], bytes],
    request_limit_bytes: int,
    duties: Sequence[Duty] = (),
) -> Gate:
    """Return the application, behind its gate; with the routes of the process's duties."""
    app = FastAPI(
        title="cachefs coordinator",
        version=cachefs.__version__,
        docs_url=None,
        redoc_url=None,
        responses={
            "4XX": {"model": bodies.FailureBody, "description": "The caller can do something"},
            "5XX": {"model": bodies.FailureBody, "description": "Somebody else must"},
        },
    )
    for exception, handler in (
        (CacheFSError, _failed),
        (RequestValidationError, _invalid),
        (HTTPException, _unrouted),
        (Exception, _broken),
    ):
        app.add_exception_handler(exception, handler)
    app.include_router(_dataset_routes(coordinator))
    app.include_router(_history_routes(coordinator))
    app.include_router(_version_routes(coordinator))
    app.include_router(_member_routes(coordinator))
    app.include_router(_file_routes(coordinator))
    app.include_router(pool_routes(coordinator.pools))
    app.include_router(map_routes(coordinator.maps))
    app.include_router(_process_routes(coordinator, runtime, exposition))
    for duty in duties:
        for router in duty.routers:
            app.include_router(router)
    return Gate(
        app,
        token,
        request_limit_bytes=request_limit_bytes,
        admits=lambda path, presented: any(duty.admits(path, presented) for duty in duties),
    )


def _dataset_routes(coordinator: Coordinator) -> APIRouter:
    router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
    catalogue = coordinator.catalogue

    @router.get("")
    def list_datasets(
        after: Annotated[str, Query(max_length=200)] = "", limit: Limit = _PAGE_MAX
    ) -> bodies.DatasetsBody:
        """List datasets, sorted by full name."""
        start = full(DatasetName.parse(after)) if after else ""
        found = catalogue.every(after=start, limit=limit + 1)
        more = len(found) > limit
        return bodies.DatasetsBody(
            datasets=[bodies.DatasetBody.of(one) for one in found[:limit]],
            next=str(found[limit - 1].name) if more else None,
        )

    @router.post("", status_code=201)
    def add_dataset(body: bodies.NewDatasetBody) -> bodies.DatasetBody:
        """Declare a dataset and list its origin; when that fails, nothing has changed."""
        return bodies.DatasetBody.of(catalogue.add(body.value(), body.checksums))

    @router.get("/{namespace}/{name}")
    def get_dataset(namespace: Part, name: Part) -> bodies.DatasetBody:
        """Return a dataset."""
        return bodies.DatasetBody.of(catalogue.get(_name(namespace, name)))

    @router.patch("/{namespace}/{name}")
    def change_dataset(
        namespace: Part, name: Part, body: bodies.DatasetChangeBody
    ) -> bodies.DatasetBody:
        """Change how a dataset is kept, or which version is current."""
        return bodies.DatasetBody.of(coordinator.change(_name(namespace, name), body.value()))

    @router.put("/{namespace}/{name}")
    def declare_dataset(
        namespace: Part, name: Part, body: bodies.NewDatasetBody
    ) -> bodies.DatasetBody:
        """Make a dataset as it is declared here; its origin is listed if other files are meant."""
        declared = body.value()
        if declared.name != _name(namespace, name):
            raise ConfigError("the path names another dataset", subject=str(declared.name))
        if body.checksums:
            raise ConfigError("checksums are given when a dataset is added", subject=body.name)
        return bodies.DatasetBody.of(coordinator.declare(declared))

    @router.delete("/{namespace}/{name}", status_code=204)
    def remove_dataset(namespace: Part, name: Part) -> None:
        """Forget a dataset; workers drop its blocks, and the origin is not touched."""
        catalogue.remove(_name(namespace, name))

    @router.post("/{namespace}/{name}/update")
    def update_dataset(namespace: Part, name: Part) -> bodies.VersionBody:
        """List the origin again, and make what it holds the current version."""
        return bodies.VersionBody.of(catalogue.update(_name(namespace, name)))

    return router


def _history_routes(coordinator: Coordinator) -> APIRouter:
    router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
    catalogue = coordinator.catalogue

    @router.get("/{namespace}/{name}/versions")
    def list_versions(namespace: Part, name: Part) -> bodies.VersionsBody:
        """List the versions that are kept, the newest first."""
        dataset = _name(namespace, name)
        found = catalogue.versions(dataset)
        labels = catalogue.labels(dataset)
        return bodies.VersionsBody(
            versions=[bodies.VersionBody.of(one, labels.get(one.id, ())) for one in found]
        )

    @router.post("/{namespace}/{name}/versions", status_code=201)
    def publish_version(
        namespace: Part, name: Part, body: bodies.NewVersionBody
    ) -> bodies.VersionBody:
        """List an origin as a version of the dataset, and label it; what is current stays current."""
        origin = OriginSpec(body.origin.url, dict(body.origin.options))
        dataset = _name(namespace, name)
        version = catalogue.publish(dataset, origin, body.label)
        return bodies.VersionBody.of(version, catalogue.labels(dataset).get(version.id, ()))

    return router


def _version_routes(coordinator: Coordinator) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["metadata"])
    digest_size = digests.digest_size(coordinator.cluster.digest)

    @router.get("/view", response_model=bodies.ViewBody)
    async def get_view() -> Response:
        """Return the members at the newest epoch."""
        # It is in memory: what waits for nothing needs no thread, and is answered when all are busy.
        headers = {EPOCH_HEADER: str(coordinator.members.view.epoch)}
        return Response(coordinator.members.encoded_view, media_type=_JSON, headers=headers)

    @router.get("/versions", response_model=bodies.ResolvedBody)
    def resolve(name: Name, version: Version = "") -> Response:
        """Return a version by id or prefix, or the current one by the consistency policy."""
        dataset = DatasetName.parse(name)
        found = coordinator.catalogue.resolve(dataset, version or None)
        coordinator.uses.note(dataset)
        head = VersionHead(
            found.version.dataset,
            found.version.id,
            found.version.origin,
            found.version.client,
            found.pool,
            found.replicas,
            found.version.listed_at,
        )
        return Response(encode_version(head), media_type=_JSON)

    @router.get("/manifests/{version}", responses={200: {"content": {_BYTES: {}}}})
    def get_manifest(version: Id, name: Whose = None) -> Response:
        """Return a manifest: one JSON array a line, sorted by path."""
        if name is not None:
            check_version(coordinator.catalogue, DatasetName.parse(name), version)
        encoded = coordinator.catalogue.manifest(version).encoded
        return Response(encoded, media_type=_BYTES, headers=_IMMUTABLE)

    @router.get("/digests/{file_version}", responses={200: {"content": {_BYTES: {}}}})
    def get_digests(file_version: Id, name: Whose = None) -> Response:
        """Return a file version's block digests, packed; zeros where one is not known."""
        if name is not None:
            check_file(coordinator.catalogue, DatasetName.parse(name), FileVersionId(file_version))
        known = coordinator.digests(FileVersionId(file_version))
        return Response(digests.pack(known, digest_size), media_type=_BYTES)

    return router


def _member_routes(coordinator: Coordinator) -> APIRouter:
    router = APIRouter(prefix="/v1/members", tags=["members"])

    @router.get("")
    def list_members() -> bodies.MembersBody:
        """List the members with what is known of them."""
        found = coordinator.member_statuses()
        return bodies.MembersBody(members=[bodies.MemberStatusBody.of(one) for one in found])

    @router.post("/{worker}/drain")
    def drain(worker: Part, body: bodies.DrainBody) -> bodies.DrainedBody:
        """Make a worker hand over what only it holds, or say what that would be."""
        return bodies.DrainedBody.of(coordinator.drain(WorkerId(worker), dry_run=body.dry_run))

    return router


def _file_routes(coordinator: Coordinator) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["blocks"])
    warming = coordinator.warming

    @router.get("/residency/{namespace}/{name}")
    def get_residency(namespace: Part, name: Part, version: Version = "") -> bodies.ResidencyBody:
        """Return how much of a version is resident, and where."""
        found = coordinator.summary(_name(namespace, name), version or None)
        return bodies.ResidencyBody.of(*found)

    @router.get("/explain")
    def explain(
        name: Name,
        path: Annotated[str, Query(max_length=4095)],
        version: Version = "",
        first: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=_BLOCKS_MAX)] = _BLOCKS_MAX,
    ) -> bodies.ExplanationBody:
        """Return where the blocks of a file are, and where reads of it came from."""
        found = coordinator.explain(
            DatasetName.parse(name), version or None, path, first=first, limit=limit
        )
        total = block_count(found.entry.size, coordinator.cluster.block_size)
        return bodies.ExplanationBody.of(found, first=first, blocks_total=total)

    @router.post("/evict")
    def evict(body: bodies.FilesBody) -> bodies.EvictedBody:
        """Make all workers drop the blocks of some files."""
        name = DatasetName.parse(body.dataset)
        return bodies.EvictedBody.of(coordinator.evict(name, body.version or None, body.paths))

    @router.post("/warm", status_code=201)
    def start_warm(body: warmbodies.NewWarmBody) -> warmbodies.WarmJobBody:
        """Ask for files to be filled ahead of use; returns at once."""
        started = coordinator.warm(
            DatasetName.parse(body.dataset),
            body.version or None,
            body.paths,
            WarmOptions(body.key, body.zone, body.copies, body.rate, body.map, tuple(body.workers)),
        )
        return warmbodies.WarmJobBody.of(started)

    @router.get("/warm")
    def list_warm(limit: Limit = _PAGE_MAX) -> warmbodies.WarmJobsBody:
        """List warm-ups, the newest first."""
        found = warming.every(limit=limit)
        return warmbodies.WarmJobsBody(jobs=[warmbodies.WarmJobBody.of(one) for one in found])

    @router.get("/warm/{job}")
    def get_warm(job: Id) -> warmbodies.WarmJobBody:
        """Return a warm-up."""
        return warmbodies.WarmJobBody.of(warming.get(job))

    @router.delete("/warm/{job}")
    def cancel_warm(job: Id) -> warmbodies.WarmJobBody:
        """End a warm-up; what it has filled stays."""
        return warmbodies.WarmJobBody.of(warming.cancel(job))

    return router


def _process_routes(
    coordinator: Coordinator, runtime: Runtime, exposition: Callable[[], bytes]
) -> APIRouter:
    router = APIRouter(tags=["process"])
    cluster = coordinator.cluster

    @router.get("/v1/events")
    def list_events(
        after: Annotated[int, Query(ge=0)] = 0, limit: Limit = _PAGE_MAX
    ) -> bodies.EventsBody:
        """List events after one, the oldest first."""
        return bodies.EventsBody.of(coordinator.events.after(after, limit=limit))

    @router.get("/v1/cluster")
    async def get_cluster() -> bodies.ClusterBody:
        """Return what all processes agree on."""
        return bodies.ClusterBody(
            block_size=cluster.block_size,
            digest=cluster.digest,
            lease_seconds=cluster.lease_seconds,
            wire_version=cluster.wire_version,
            fingerprint=cluster.fingerprint(),
            version=cachefs.__version__,
            now=runtime.wall(),
        )

    @router.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
    def get_metrics() -> Response:
        """Return Prometheus metrics."""
        return Response(exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/healthz", responses={200: {"content": {"text/plain": {}}}})
    async def get_health() -> Response:
        """Answer while the process can serve, be its store there or not; needs no token."""
        return Response(b"ok\n", media_type="text/plain")

    return router


def _name(namespace: str, name: str) -> DatasetName:
    return DatasetName.parse(f"{namespace}/{name}")


def _answer(error: CacheFSError) -> JSONResponse:
    return JSONResponse(failures.to_document(error), status_code=failures.http_status(error))


def _failed(_: Request, error: Any) -> Response:  # Any: registered for its class
    return _answer(error)


def _invalid(_: Request, error: Any) -> Response:  # Any: likewise
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _answer(ConfigError(f"the request does not fit: {first['msg']}", subject=where))


def _unrouted(_: Request, error: Any) -> Response:  # Any: likewise
    answer = _answer(NotKnownError(str(error.detail).lower(), hint="see /openapi.json"))
    answer.status_code = error.status_code
    return answer


def _broken(request: Request, error: Any) -> Response:  # Any: likewise
    # The server's request boundary: a bug is logged with its trace by the server, and answered.
    _LOG.error(
        "a request met a bug", extra={"path": request.url.path, "kind": type(error).__name__}
    )
    return _answer(ClusterError("the coordinator met a bug; its log says more"))
