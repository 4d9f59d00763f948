r"""The HTTP/1.1 data plane: what a worker serves, and what a reader or a peer asks.

Every request carries ``Authorization: Bearer <token>``; ``/healthz`` alone does not need it. So::

    curl -H "Authorization: Bearer $(cat token)" -r 0-99 \
        'http://127.0.0.1:4000/v1/files/<file version>?dataset=ns/name&version=<version id>'

==============================  ==================================================================
``GET /v1/files/<file>``        bytes of a file version, with or without ``Range``; 206 or 200
``HEAD /v1/files/<file>``       its size, as ``Content-Length``
``GET /v1/view``                the view, as JSON (:func:`encode_view`)
``GET /v1/versions?dataset=``   a resolved version, as JSON, without its manifest
    ``&version=``
``GET /v1/manifests/<version>`` a manifest's encoding
    ``?dataset=``
``GET /v1/digests/<file>``      block digests of a file: ``size`` bytes each, zeros where unknown
    ``?dataset=&version=``
``GET /v1/proofs/<file>``       the same of *all* blocks, once the file was proven; workers only
    ``?dataset=&version=``
``GET /metrics``                Prometheus text
``GET /healthz``                200 while the process can serve
==============================  ==================================================================

The coordinator serves the same paths for view, versions, manifests and digests, so that a reader
asks either with the same words. Who names a dataset is answered 404 for a version or file that is not one
of its own; only the cluster's token may leave the dataset out (:mod:`cachefs.config.reading`).

A request for bytes that the worker does not hold waits for their fill; meanwhile the worker sends
``102 Processing`` every ``PROGRESS_SECONDS``, so that the asker can tell a slow origin (wait) from
a stalled worker (ask the next one, which would read the origin a second time). With
``Cache-Control: only-if-cached`` it is answered 504 instead (RFC 9111 §5.2.1.7). With ``no-cache``
(§5.2.1.4) the worker first checks its own copy against its digest, and drops it if it has rotted: a
reader that was served a wrong block asks so once more. When the range is
whole blocks, the answer carries their digests.

Who asks for a range of one block and says in ``X-CacheFS-Zone`` where it is, may be answered 307: the block
is being sent to many, and ``X-CacheFS-Replica`` names a worker that shall be asked with ``from-peers``
(an extension of ``Cache-Control``). That one takes a copy from another worker if it must, or answers 504.

A file whose digest is known beforehand is *proven* (:mod:`cachefs.workers.proving.prover`) before a byte of
it is served. ``102`` then says in ``X-CacheFS-Progress`` how far that is, and ``only-if-cached`` is
answered 504 until it is done. With ``&unproven=1`` a worker asks for the bytes all the same, because
it is the one that proves, or has its own blocks compared before it serves them.

Failures have ``Content-Type: application/json`` and
the body of :mod:`cachefs.wire.failures`; a failure after the first byte closes the connection, so
that a short body can never be taken for a whole one.
"""

import json
from typing import Any, NamedTuple
from urllib.parse import urlencode

from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import Manifest, VersionId
from cachefs.core.membership import Member, View
from cachefs.core.names import DatasetName
from cachefs.ports import FileRef, ResolvedVersion

DIGESTS_HEADER = "X-CacheFS-Digests"
"""Hexadecimal digests of the served blocks, separated by commas."""
SOURCE_HEADER = "X-CacheFS-Source"
"""Where the worker had the bytes from: memory, disk, peer or origin."""
PROGRESS_HEADER = "X-CacheFS-Progress"
"""What a worker is busy with while its asker waits."""
ZONE_HEADER = "X-CacheFS-Zone"
"""Where the asker is, empty if it does not know; who sends it may be referred to a replica."""
REPLICA_HEADER = "X-CacheFS-Replica"
"""The worker that shall be asked instead."""
EPOCH_HEADER = "X-CacheFS-Epoch"
"""The epoch of the answerer's view; a reader that sees a newer one than its own refreshes."""
ONLY_CACHED = "only-if-cached"
FROM_PEERS = "from-peers"
VERIFY = "no-cache"

PROGRESS_SECONDS = 1.0
"""How often a worker that waits for a fill says that it is alive; well below a reader's patience."""

HEADER_BYTES_MAX = 16 * 1024
"""A request's or answer's head may not be longer."""


def encode_view(view: View) -> bytes:
    """Return a view as JSON."""
    members = [
        {name: getattr(member, name) for name in Member.__dataclass_fields__}
        for member in view.members
    ]
    return json.dumps({"epoch": view.epoch, "members": members}).encode()


def decode_view(encoded: bytes) -> View:
    """Parse what :func:`encode_view` wrote; unknown fields of a newer version are ignored."""
    document: dict[str, Any] = json.loads(encoded)
    known = Member.__dataclass_fields__
    members = tuple(
        Member(**{name: value for name, value in member.items() if name in known})
        for member in document["members"]
    )
    return View(int(document["epoch"]), members)


class VersionHead(NamedTuple):
    """A resolved version without its manifest, which is asked for by id, once."""

    dataset: DatasetName
    version: VersionId
    origin: OriginSpec
    client: str
    pool: str
    replicas: int
    listed_at: float

    def with_manifest(self, manifest: Manifest) -> ResolvedVersion:
        """Return the whole."""
        return ResolvedVersion(
            self.dataset,
            self.origin,
            self.client,
            self.pool,
            self.replicas,
            manifest,
            self.listed_at,
        )


def encode_version(resolved: ResolvedVersion | VersionHead) -> bytes:
    """Return what ``GET /v1/versions?dataset=&version=`` answers, as JSON."""
    version = resolved.version if isinstance(resolved, VersionHead) else resolved.manifest.id
    return json.dumps(
        {
            "dataset": str(resolved.dataset),
            "version": version,
            "origin": {"url": resolved.origin.url, "options": dict(resolved.origin.options)},
            "client": resolved.client,
            "pool": resolved.pool,
            "replicas": resolved.replicas,
            "listed_at": resolved.listed_at,
        }
    ).encode()


def decode_version(encoded: bytes) -> VersionHead:
    """Parse what :func:`encode_version` wrote."""
    document: dict[str, Any] = json.loads(encoded)
    origin = document["origin"]
    return VersionHead(
        DatasetName.parse(document["dataset"]),
        VersionId(document["version"]),
        OriginSpec(origin["url"], dict(origin["options"])),
        document["client"],
        document["pool"],
        int(document["replicas"]),
        float(document.get("listed_at", 0.0)),  # what older releases kept lacks it
    )


def file_target(file: FileRef, *, kind: str = "files", unproven: bool = False) -> str:
    """Return the request target of a file version's bytes, or of its digests or proof."""
    query = urlencode({"dataset": str(file.dataset), "version": file.version})
    return f"/v1/{kind}/{file.entry.file_version}?{query}{'&unproven=1' * unproven}"
