"""Tensors of open files: as views of a file that is whole on this node, or in memory of their own.

Which of the two is the *backend*: ``mmap`` for views, ``pread`` for memory of one's own, ``auto`` for
views where they can be had. Views cost nothing, share the node's page cache with every other
process, and may be written without anybody else seeing it. A tensor on a device is always brought
by way of pinned buffers.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from cachefs.core.blocks import Range
from cachefs.core.names import printable
from cachefs.errors import ConfigError, NotKnownError
from cachefs.ports import Closing, Runtime
from cachefs.sdk.frameworks import Framework, Tensor, device_name, find_framework
from cachefs.sdk.memory import MappedFile, populate
from cachefs.sdk.parallel import run_all
from cachefs.sdk.safetensors.checkpoints import Checkpoint
from cachefs.sdk.safetensors.header import TensorEntry
from cachefs.sdk.safetensors.plan import (
    Slices,
    Wanted,
    bounds_of,
    make_batches,
    pieces,
    select,
    want,
)
from cachefs.sdk.safetensors.sources import Source
from cachefs.sdk.safetensors.streaming import DevicePlace, HostPlace, Job, Place, Stream
from cachefs.sdk.staging import Staging

BACKENDS = ("auto", "mmap", "pread")
Names = Iterable[str] | Callable[[str], bool] | None
"""Which tensors: these, those for which a function says yes, or all."""


class _Part(NamedTuple):
    """What is wanted of one file."""

    source: Source
    wanted: list[Wanted]
    slices: Mapping[str, Slices]


class Tensors(Closing):
    """Makes tensors of a checkpoint's bytes. Safe from any thread, except for :meth:`stream`."""

    def __init__(
        self,
        runtime: Runtime,
        checkpoint: Checkpoint,
        *,
        framework: str,
        device: str | int,
        backend: str,
    ) -> None:
        """Leave the checkpoint to the caller to close.

        Raises:
            ConfigError: There is no such framework, device or backend.
        """
        if backend not in BACKENDS:
            raise ConfigError(f"no backend {printable(backend)!r}", hint=f"one of {BACKENDS}")
        self._runtime = runtime
        self._checkpoint = checkpoint
        self._backend = backend
        self._framework: Framework = find_framework(framework)
        self._owned = ExitStack()
        self._place = self._make_place(device_name(device))
        self._lock = threading.Lock()
        self._mapped: dict[Source, MappedFile] = {}

    def get(self, name: str, slices: Slices = None) -> Tensor:
        """Return one tensor, or a slice of it.

        Raises:
            NotKnownError: There is no such tensor.
            ConfigError: The slice does not fit, or the framework has no such dtype.
            CacheFSError: It could not be read.
        """
        shard, entry = self._checkpoint.find(name)
        mapped = self._map(shard.source)
        if mapped is not None:
            return self._view(mapped, entry, slices)
        (batch,) = make_batches([want(entry, slices)], limit_bytes=None)
        memory, _ = self._place.memory(batch.size)
        tickets: list[object] = []

        def bring(at: int) -> None:
            tickets.append(memory.fill(shard.source, parts[at]))

        parts = list(pieces(batch, self._place.piece_bytes))
        run_all(self._runtime, [partial(bring, at) for at in range(len(parts))], threads=2)
        for ticket in tickets:
            memory.settle(ticket)
        return memory.tensor(batch.tensors[0])

    def stream(
        self,
        *,
        names: Names = None,
        plan: Mapping[str, Slices] | None = None,
        budget_bytes: int | None = None,
        touch: bool = False,
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield tensors, file by file, in the order of their bytes, as they arrive.

        Args:
            names: Which of them.
            plan: Slices by name; those that it does not name are left out.
            budget_bytes: Most memory at once.
            touch: Whether views are mapped ahead of their use, by a thread; to start it takes longer
                than all the rest.

        Raises:
            NotKnownError: There is no such tensor; before anything is read.
            ConfigError: A slice does not fit, or the budget is too small; likewise.
            CacheFSError: A tensor could not be read.
        """
        parts = self._select(names, plan)
        views = [(part, self._map(part.source)) for part in parts]
        jobs = _make_jobs([part for part, mapped in views if mapped is None], budget_bytes)
        ahead = [
            (mapped, [run for each in part.wanted for run in _short(each)])
            for part, mapped in views
            if mapped is not None and touch
        ]
        if ahead:
            populate(self._runtime, ahead)
        return self._yield_all(views, jobs, budget_bytes)

    def close(self) -> None:
        """Let go of what is not a tensor."""
        self._mapped.clear()
        self._owned.close()

    def _yield_all(
        self,
        views: list[tuple[_Part, MappedFile | None]],
        jobs: list[Job],
        budget_bytes: int | None,
    ) -> Iterator[tuple[str, Tensor]]:
        for part, mapped in views:
            if mapped is not None:
                for each in part.wanted:
                    yield (
                        each.entry.name,
                        self._view(mapped, each.entry, part.slices.get(each.entry.name)),
                    )
        if jobs:
            with Stream(self._runtime, jobs, self._place, budget_bytes=budget_bytes) as stream:
                yield from stream

    def _select(self, names: Names, plan: Mapping[str, Slices] | None) -> list[_Part]:
        chosen = self._chosen(names, plan)
        parts = []
        for shard, tensors in self._checkpoint.entries():
            slices = {name: chosen[name] for name in tensors if name in chosen}
            if slices:
                wanted = select(tensors, slices)
                wanted.sort(key=lambda each: (each.runs[0].offset, each.entry.size))
                parts.append(_Part(shard.source, wanted, slices))
        return parts

    def _chosen(self, names: Names, plan: Mapping[str, Slices] | None) -> Mapping[str, Slices]:
        known = self._checkpoint.names
        chosen: dict[str, Slices] = dict(plan) if plan is not None else dict.fromkeys(known)
        if callable(names):
            chosen = {name: cut for name, cut in chosen.items() if names(name)}
        elif names is not None:
            for name in (asked := dict.fromkeys(names)):
                if name not in known:
                    raise NotKnownError("no such tensor", subject=printable(name))
            chosen = {name: cut for name, cut in chosen.items() if name in asked}
        for name in chosen:
            if name not in known:
                raise NotKnownError("no such tensor", subject=printable(name))
        return chosen

    def _map(self, source: Source) -> MappedFile | None:
        """Return a mapping of a file; ``None`` if its tensors are to have memory of their own.

        Raises:
            ConfigError: Views were asked for and cannot be had.
        """
        if self._backend == "pread" or not isinstance(self._place, HostPlace):
            return None
        with self._lock:
            mapped = self._mapped.get(source)
        if mapped is not None:
            return mapped
        whole = source.whole()
        if whole is not None:
            mapped = MappedFile(whole.fileno(), source.size)
            with self._lock:
                return self._mapped.setdefault(source, mapped)
        if self._backend == "mmap":
            raise ConfigError(
                "the file is not whole on this node, and cannot be mapped",
                subject=printable(source.name),
                hint="warm it, or leave the choice with backend='auto'",
            )
        return None

    def _view(self, mapped: MappedFile, entry: TensorEntry, slices: Slices) -> Tensor:
        memory = mapped.view[entry.offset : entry.offset + entry.size]
        tensor = self._framework.view(memory, entry.dtype, entry.shape)
        if slices is not None:
            index = tuple(slice(start, stop) for start, stop in bounds_of(entry, slices))
            tensor = tensor[(*index, ...)]
        return self._framework.finish(tensor)

    def _make_place(self, device: str) -> Place:
        copier = self._framework.copier(device)
        if copier is None:
            return HostPlace(self._framework)
        staging = self._owned.enter_context(Staging(self._runtime, copier))
        return DevicePlace(self._framework, copier, staging)


def _make_jobs(parts: list[_Part], budget_bytes: int | None) -> list[Job]:
    """Return the batches of files, none of which is larger than a third of a budget if it can be.

    Two are there at once, the consumer's and the next; with a third, reading need not wait.

    Raises:
        ConfigError: A tensor and its neighbour are larger than the budget.
    """
    limit = None if budget_bytes is None else budget_bytes // 3
    jobs = [
        Job(part.source, batch)
        for part in parts
        for batch in make_batches(part.wanted, limit_bytes=limit)
    ]
    if budget_bytes is not None:
        sizes = [0, *(job.batch.size for job in jobs)]
        for job, before in zip(jobs, sizes, strict=False):
            if job.batch.size + before > budget_bytes:
                raise ConfigError(
                    f"a budget of {budget_bytes} bytes does not hold this tensor and the one before:"
                    f" {job.batch.size + before} bytes",
                    subject=printable(job.batch.tensors[0].entry.name),
                )
    return jobs


def _short(wanted: Wanted) -> list[Range]:
    """Return what to map ahead: a few long ranges, no thousands of rows."""
    if len(wanted.runs) > 16:
        return [Range(wanted.runs[0].offset, wanted.runs[-1].end - wanted.runs[0].offset)]
    return [run for run in wanted.runs if run.length]
