"""Ranges of several files at once, read into one buffer."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from cachefs.client.reader import OpenFile
from cachefs.core.blocks import Range
from cachefs.ports import Runtime
from cachefs.sdk.parallel import run_all


class RangeOf(NamedTuple):
    """A range of a file."""

    path: str
    range: Range


def read_all(
    runtime: Runtime,
    open_file: Callable[[str], OpenFile],
    wanted: Sequence[RangeOf],
    buffer: memoryview,
) -> list[memoryview]:
    """Read ranges end to end into a buffer, and return the view of each.

    Raises:
        BaseException: What the first range to fail raised; no thread writes any more by then.
    """
    views = []
    at = 0
    for each in wanted:
        views.append(buffer[at : at + each.range.length])
        at += each.range.length
    with ExitStack() as owned:
        paths = dict.fromkeys(each.path for each in wanted)
        files = {path: owned.enter_context(open_file(path)) for path in paths}

        def read(each: RangeOf, view: memoryview) -> None:
            files[each.path].read_into(each.range.offset, view)

        calls = [partial(read, each, view) for each, view in zip(wanted, views, strict=True)]
        run_all(runtime, calls)
    return views
