"""Connections of the webhook's ports: who says nothing, or says it too slowly, is not waited for.

uvicorn waits for ever for a connection's first request, and for the rest of a head that has begun. The port
is open to the whole cluster, and connections are counted; so each head has a time limit here.
"""

import asyncio
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class BoundedProtocol(H11Protocol):
    """One connection."""

    head_seconds: ClassVar[float] = 5.0
    """From the connection, or from a head's first byte, until the head is there. API servers wait for 3 s in all."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # Any: as uvicorn has it
        """Begin, and wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes; wait for the rest if a head has begun."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.head_seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
