"""The boundary of a scheduler's request: what goes in as bytes, and that nothing bad comes out.

A scheduler that is told of a failure may refuse to place a pod, or to create it. So a failure of ours,
expected or a bug, ends here: it is logged, and the scheduler is told whatever changes nothing. Only a
body that is not even JSON is answered as the failure it is, since nobody knows what would change nothing.
"""

import json
import logging
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Response

from cachefs.errors import CacheFSError

_LOG = logging.getLogger("cachefs.hints")

Answer = TypeVar("Answer")


async def _read(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(_read)]
"""A request's whole body: the route parses it in its own thread, and not where all requests pass."""

JSON_BODY = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}
"""What OpenAPI shows of it."""


def harmless(work: Callable[[], Answer], otherwise: Callable[[], Answer], *, asker: str) -> Answer:
    """Return what work returns; should it fail, log that, and return what changes nothing.

    Args:
        work: Makes the answer.
        otherwise: Makes the answer that says that we have no opinion.
        asker: Who asks, for the log.
    """
    try:
        return work()
    except CacheFSError as error:
        _LOG.warning("no hint", extra={"asker": asker, "failure": str(error)})
    except Exception:  # noqa: BLE001 - the boundary of a request: a bug must not stop a scheduler
        _LOG.exception("a hint met a bug", extra={"asker": asker})
    return otherwise()


def answer(value: Any) -> Response:  # Any: JSON
    """Return a value as the response."""
    return Response(json.dumps(value, separators=(",", ":")), media_type="application/json")
