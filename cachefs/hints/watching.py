"""Watching hints: server-sent events, a hint in a line of JSON whenever it says something else.

A watcher names datasets, and is told where a job that reads them would be ready soonest: at once, and
again whenever the inventory has changed so that the answer differs. All who watch the same datasets share
one answer. At most two hints a second are sent; a comment now and then shows that the line is alive.

This is asynchronous, as the watching of flows is: a watcher waits most of its time, and a thread for each
would leave none for requests.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, Protocol

import anyio
from starlette.concurrency import run_in_threadpool

from cachefs.core.hints.answer import Hint, NodeHint
from cachefs.core.hints.asking import Question, Reading
from cachefs.errors import CacheFSError, CapacityError
from cachefs.hints.bodies import HintBody
from cachefs.ports import Runtime
from cachefs.wire import failures

UPDATE_SECONDS = 0.5
"""How often an answer is looked at."""
_ALIVE_SECONDS = 10.0
"""How long a watcher hears nothing, at most."""
_SHARED_LIMIT = 256
"""Different questions whose last answer is kept for whoever watches them, too."""


class Asked(Protocol):
    """What answers."""

    @property
    def revision(self) -> int:
        """Grows whenever an answer may differ."""
        ...

    def answer(self, question: Question) -> Hint:
        """Return a hint."""
        ...


class _Answer(NamedTuple):
    revision: int
    hint: Hint


class Watchers:
    """Who is told of hints. Streams belong to the server's one thread; the rest is safe from any."""

    def __init__(self, service: Asked, runtime: Runtime, *, limit: int) -> None:
        """Serve at most ``limit`` at once."""
        self._service = service
        self._turn = runtime.condition()
        self._limit = limit
        self._count = 0
        self._closed = False
        self._answers: dict[tuple[tuple[Reading, ...], int], _Answer] = {}

    def close(self) -> None:
        """End all streams within :data:`UPDATE_SECONDS`; from any thread."""
        self._closed = True

    @property
    def closed(self) -> bool:
        """Whether all streams are to end."""
        return self._closed

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one who watches.

        Raises:
            CapacityError: There are as many as may be.
        """
        with self._turn:
            if self._count >= self._limit:
                raise CapacityError(
                    f"{self._limit} watch hints already",
                    hint="ask for a hint now and then, or see coordinator.hints.watchers_limit",
                )
            self._count += 1
        try:
            yield
        finally:
            with self._turn:
                self._count -= 1

    async def hints(self, question: Question) -> AsyncGenerator[bytes]:
        """Yield a hint whenever it says something else; the first at once.

        Raises:
            CapacityError: There are as many who watch as may be.
        """
        with self.counted():
            async for line in self._lines(question):
                yield line

    async def _lines(self, question: Question) -> AsyncIterator[bytes]:
        shown: object = None
        quiet = 0.0
        while not self._closed:
            try:
                hint = await self._ask(question)
            except CacheFSError as error:
                yield b"event: failure\ndata: %b\n\n" % failures.encode(error)
                return
            if (said := what_it_says(hint)) != shown:
                shown = said
                yield b"data: %b\n\n" % HintBody.of(hint).model_dump_json().encode()
                quiet = 0.0
            elif quiet >= _ALIVE_SECONDS:
                yield b": nothing has changed\n\n"
                quiet = 0.0
            await anyio.sleep(UPDATE_SECONDS)
            quiet += UPDATE_SECONDS

    async def _ask(self, question: Question) -> Hint:
        """Return the answer that somebody has had since anything changed, or a new one."""
        revision = self._service.revision
        key = (question.readings, question.limit)
        before = self._answers.get(key)
        if before is not None and before.revision == revision:
            return before.hint
        hint = await run_in_threadpool(self._service.answer, question)
        self._answers.pop(key, None)
        self._answers[key] = _Answer(revision, hint)
        while len(self._answers) > _SHARED_LIMIT:
            del self._answers[next(iter(self._answers))]
        return hint


def what_it_says(hint: Hint) -> object:
    """Return what matters of a hint to one who watches: not when it was given, nor by whom heard."""
    return (hint.degraded, [_plain(node) for node in hint.nodes])


def _plain(node: NodeHint) -> NodeHint:
    """Leave out what changes all the time and means nothing: ages, and tenths of a second."""
    parts = node.breakdown
    rounded = parts._replace(
        slot=round(parts.slot, 1),
        image=round(parts.image, 1),
        data=round(parts.data, 1),
        load=round(parts.load, 1),
        init=round(parts.init, 1),
    )
    return replace(
        node,
        age_seconds=0.0,
        confidence=round(node.confidence, 1),
        ready=node.ready._replace(p50=round(node.ready.p50, 1), p90=round(node.ready.p90, 1)),
        breakdown=rounded,
        arriving_seconds=round(node.arriving_seconds),
        transfers=(),
        score=round(node.score),
        idle_usd=0.0,
    )
