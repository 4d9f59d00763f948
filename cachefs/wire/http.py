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
``GET /v1/digests/<file>``      block digests of a file: ``size`` bytes each, zeros where unknown
``GET /metrics``                Prometheus text
``GET /healthz``                200 while the process can serve
==============================  ==================================================================

The coordinator serves the same paths for view, versions, manifests and digests, so that a reader
asks either with the same words.

A request for bytes that the worker does not hold waits for their fill. With
``Cache-Control: only-if-cached`` it is answered 504 instead (RFC 9111 §5.2.1.7). When the range is
whole blocks, the answer carries their digests. Failures have ``Content-Type: application/json`` and
the body of :mod:`cachefs.wire.failures`; a failure after the first byte closes the connection, so
that a short body can never be taken for a whole one.
"""

import json
from typing import Any

from cachefs.core.membership import Member, View

DIGESTS_HEADER = "X-CacheFS-Digests"
"""Hexadecimal digests of the served blocks, separated by commas."""
SOURCE_HEADER = "X-CacheFS-Source"
"""Where the worker had the bytes from: memory, disk, peer or origin."""
EPOCH_HEADER = "X-CacheFS-Epoch"
"""The epoch of the answerer's view; a reader that sees a newer one than its own refreshes."""
ONLY_CACHED = "only-if-cached"

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
