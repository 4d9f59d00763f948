"""Streams: answers that go on, as server-sent events.

A stream that begins only when its answer is sent has taken none of what it will need when whoever asked reads
the answer's head: two could be let in where there is room for one, and the second would fail within an
answer that said that all is well. So a stream is begun before it is answered with.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing


async def begun(lines: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Wait for the first of some lines, and return all of them.

    Raises:
        CacheFSError: What keeps the stream from beginning.
    """
    first = await anext(lines, b"")
    return _resumed(first, lines)


async def _resumed(first: bytes, lines: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(lines):
        yield first
        async for line in lines:
            yield line
