"""Watching a run: server-sent events, a line of JSON for each update.

The first update holds all steps, later ones those that have changed. An update comes at least once a
second while something moves; a comment now and then shows that the line is alive. The stream ends when
the run is over, or the server is.

This is asynchronous, as nothing else of ours but the gate is: a watcher waits most of its time, and
a thread for each would leave none for requests.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace

import anyio
from starlette.concurrency import run_in_threadpool

from cachefs.dataflow.engine.answers import RunStatus
from cachefs.dataflow.engine.service import FlowService
from cachefs.dataflow.records import StepRecord
from cachefs.dataflow.serving.bodies import RunStatusBody
from cachefs.errors import CacheFSError, CapacityError
from cachefs.wire import failures

UPDATE_SECONDS = 0.5
"""How often a run is looked at."""
_ALIVE_SECONDS = 10.0
"""How long a watcher hears nothing, at most."""


class Watchers:
    """Who is told of runs. Made and used by the server's one thread, but for :meth:`close`."""

    def __init__(self, service: FlowService, *, limit: int) -> None:
        """Serve at most ``limit`` at once."""
        self._service = service
        self._limit = limit
        self._count = 0
        self._closed = False

    def close(self) -> None:
        """End all streams within :data:`UPDATE_SECONDS`; from any thread."""
        self._closed = True

    async def updates(self, first: RunStatus) -> AsyncGenerator[bytes]:
        """Yield updates of a run until it is over; the first comes at once.

        Raises:
            CapacityError: There are as many who watch as may be.
        """
        if self._count >= self._limit:
            raise CapacityError(
                f"{self._limit} watch runs already",
                hint="ask for the run now and then, or see coordinator.flows.watchers_limit",
            )
        self._count += 1
        try:
            async for line in _updates(self._service, first, lambda: self._closed):
                yield line
        finally:
            self._count -= 1


async def _updates(
    service: FlowService, first: RunStatus, ended: Callable[[], bool]
) -> AsyncIterator[bytes]:
    status, shown = first, dict[str, StepRecord]()
    before: object = None
    quiet = 0.0
    while True:
        changed = tuple(step for step in status.steps if shown.get(step.id) != step)
        if changed or (status.run, status.progress) != before:
            shown.update((step.id, step) for step in changed)
            before = (status.run, status.progress)
            part = replace(status, steps=changed)
            yield b"data: %b\n\n" % RunStatusBody.of(part).model_dump_json().encode()
            quiet = 0.0
        elif quiet >= _ALIVE_SECONDS:
            yield b": nothing has changed\n\n"
            quiet = 0.0
        if status.run.over or ended():
            return
        await anyio.sleep(UPDATE_SECONDS)
        quiet += UPDATE_SECONDS
        try:
            status = await run_in_threadpool(service.get, status.run.id, known=status)
        except CacheFSError as error:
            yield b"event: failure\ndata: %b\n\n" % failures.encode(error)
            return
