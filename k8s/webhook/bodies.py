"""Bodies of requests: each has a limit and a time, and so have all of them together.

A body becomes some fifteen times as large when it is parsed. The port is open to the whole cluster, so what is
held at once is limited: who comes when there is no room is answered as one whose body is too long, and a pod
is created as it is.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

ROOM_BYTES = 16 * 1024 * 1024
"""Of all bodies: hundreds of pods as they are, or five of the largest that there can be."""
BODY_SECONDS = 3.0
"""For a body to arrive; API servers wait no longer for the answer."""


class Room:
    """Room for bodies, of one event loop."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._held = 0

    @asynccontextmanager
    async def body(self, request: Request, limit: int) -> AsyncIterator[bytes | None]:
        """Read a body, and hold its room until the end of the block.

        Args:
            request: Whose body.
            limit: How long it may be, in bytes.

        Yields:
            The body; ``None`` if it is too long, does not come in time, or there is no room for it.
        """
        parts: list[bytes] = []
        size = 0
        try:
            complete = False
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    async for part in request.stream():
                        if size + len(part) > limit or self._held + len(part) > ROOM_BYTES:
                            break
                        self._held += len(part)
                        size += len(part)
                        parts.append(part)
                    else:
                        complete = True
            except (TimeoutError, ClientDisconnect):
                pass
            yield b"".join(parts) if complete else None
        finally:
            self._held -= size
