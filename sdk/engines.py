"""Engines: what the loaders of vLLM and SGLang have in common, their options and their weights.

An engine asks for a checkpoint's tensors one after the other and copies out of each what its rank
needs. A file that is whole on the node is given as views: a rank touches the pages of its share, and
all ranks share them in the page cache. Other files are read into memory of our own within a budget,
ahead of the engine; it does not keep what it was given. If there are several ranks, large tensors of
such files are *deferred*: read when a layer has said which range it takes, and only that.
"""

import dataclasses
import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from cachefs.config.schema import ReaderConfig
from cachefs.core.names import printable
from cachefs.errors import ConfigError, NotKnownError
from cachefs.sdk.dataset import Dataset, open_reference
from cachefs.sdk.folders import files_below, is_pickle, is_reference
from cachefs.sdk.frameworks import Tensor
from cachefs.sdk.safetensors import load_file
from cachefs.sdk.safetensors.header import TensorEntry
from cachefs.sdk.safetensors.opening import open_target
from cachefs.sdk.safetensors.sources import Source
from cachefs.sdk.safetensors.tensors import BACKENDS, Tensors
from cachefs.transport.runtime import ThreadRuntime

MEMORY_BYTES = 4 * 1024**3
"""For tensors on their way, in every rank. It is more if the largest tensor needs more."""
DEFERRED_BYTES_MIN = 256 * 1024
"""A smaller tensor is read with its neighbours: it takes less than a request of its own."""
_TENSORS_AT_ONCE = 3
"""Of the largest that fit into the budget: the one in use, the next, and one that is being read."""
_OF_TRAINING = {"optimizer", "scaler", "scheduler", "training_args"}
"""Pickles that lie beside the weights and are none."""
_READER = ReaderConfig()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """What ``--model-loader-extra-config`` says."""

    dataset: str = ""
    """``cachefs://name[@version][/path]`` of the weights, if the model's own name does not say it."""
    backend: str = "auto"
    """``mmap``, ``pread`` or ``auto``, as for :class:`cachefs.sdk.safetensors.safe_open`."""
    device: str = "cpu"
    """Where the engine is given the tensors: ``cpu``, or ``cuda`` by way of pinned buffers."""
    memory_bytes: int = 0
    """Most memory for tensors on their way, in each rank; 0 for 4 GiB, or what the largest needs."""
    concurrency: int = _READER.connections_limit
    """Blocks that each rank fetches at once."""
    deadline_seconds: float = _READER.deadline_seconds
    """For one read; there are many in a load."""
    allow_pickle: bool = False
    """Whether to load pickles if there is nothing else, with ``weights_only=True``."""

    @property
    def reader(self) -> ReaderConfig:
        """How to read. What is wanted is known, so nothing is guessed."""
        return ReaderConfig(
            connections_limit=self.concurrency,
            deadline_seconds=self.deadline_seconds,
            readahead_bytes=0,
        )


def parse_options(given: object) -> LoaderOptions:
    """Return the options that somebody typed as JSON.

    Raises:
        ConfigError: An unknown name, a value of another type or out of bounds; says which.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"the loader's extra config must be an object, not {_kind(given)}")
    known = {each.name: each for each in dataclasses.fields(LoaderOptions)}
    for name, value in given.items():
        if name not in known:
            raise ConfigError(
                f"the loader's extra config has no {printable(str(name))!r}",
                hint=f"it has {', '.join(known)}",
            )
        expected = type(known[name].default)
        allowed = (int, float) if expected is float else (expected,)
        if not isinstance(value, allowed) or (expected is not bool and isinstance(value, bool)):
            raise ConfigError(f"{name} must be of type {expected.__name__}, not {_kind(value)}")
    options = LoaderOptions(**given)
    _check(options)
    return options


def _kind(value: object) -> str:
    return type(value).__name__


def _check(options: LoaderOptions) -> None:
    if options.dataset and not is_reference(options.dataset):
        raise ConfigError(
            f"dataset must be cachefs://name[@version], not {printable(options.dataset)!r}"
        )
    if options.backend not in BACKENDS:
        raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}")
    if options.device.partition(":")[0] not in {"cpu", "cuda"}:
        raise ConfigError("device must be cpu, cuda or cuda:N")
    if options.memory_bytes < 0:
        raise ConfigError("memory_bytes must not be negative")
    if options.concurrency < 1:
        raise ConfigError("concurrency must be at least 1")
    if not 0 < options.deadline_seconds < float("inf"):
        raise ConfigError("deadline_seconds must be more than 0")


def iter_weights(
    reference: str,
    options: LoaderOptions,
    *,
    subfolder: str = "",
    patterns: Sequence[str] | None = None,
    is_wanted: Callable[[str], bool] | None = None,
    ranks: int = 1,
) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and tensors of a checkpoint, for torch.

    Do not keep a tensor when you ask for the next one; copy what you need of it.

    Args:
        reference: ``cachefs://name[@version][/path]``, the path being of a folder or a file.
        options: How to load.
        subfolder: Of the reference's folder.
        patterns: Of the files in that folder, as a shell has them; all that belong together by
            default.
        is_wanted: Says of a tensor's name whether to read it.
        ranks: How many share the layers; each calls this.

    Raises:
        SafetensorsError: A file or the index is malformed; nothing was allocated for tensors.
        ConfigError: A pickle, or no such device or backend.
        NotKnownError: There is no such dataset or file.
        CapacityError: Tensors were kept, and take the whole budget.
        CacheFSError: A tensor could not be read.
    """
    dataset, inside = open_reference(reference, config=options.reader)
    with dataset:
        folder = "/".join(part for part in (inside, subfolder) if part)
        files = _matching(dataset, folder, patterns) if patterns is not None else []
        pickles = [path for path in files or _pickles(dataset, folder) if is_pickle(path)]
        if options.allow_pickle and pickles:
            yield from _unpickled(dataset, pickles, options, is_wanted)
            return
        with ExitStack() as owned:
            checkpoint = owned.enter_context(
                open_target(
                    tuple(files) or folder, dataset=dataset, state=None, config=None, ahead=False
                )
            )
            tensors = owned.enter_context(
                Tensors(
                    ThreadRuntime(),
                    checkpoint,
                    framework="pt",
                    device=options.device,
                    backend=options.backend,
                )
            )
            wanted = {
                name: (shard.source, entry)
                for shard, entries in checkpoint.entries()
                for name, entry in entries.items()
                if is_wanted is None or is_wanted(name)
            }
            later = {}
            if ranks > 1 and options.device == "cpu":
                later = {
                    name: each[1] for name, each in wanted.items() if _can_wait(*each, options)
                }
            now = {name: entry.size for name, (_, entry) in wanted.items() if name not in later}
            yield from _stream(tensors, now, options)
            yield from _deferred(tensors, later)


def _stream(
    tensors: Tensors, sizes: Mapping[str, int], options: LoaderOptions
) -> Iterator[tuple[str, Tensor]]:
    budget = options.memory_bytes or max(
        MEMORY_BYTES, _TENSORS_AT_ONCE * max(sizes.values(), default=0)
    )
    if options.device == "cpu":
        yield from tensors.stream(names=sizes, budget_bytes=budget, touch=True)
        return
    # A device's memory is not counted by the stream: it gets no more to do than there is room for.
    for group in groups(sizes, budget):
        yield from tensors.stream(names=group)


def _can_wait(source: Source, entry: TensorEntry, options: LoaderOptions) -> bool:
    """Say whether a tensor is to be read when a layer has taken its share of it."""
    if entry.size < DEFERRED_BYTES_MIN or len(entry.shape) < 2:
        return False
    return options.backend == "pread" or source.whole() is None


def _deferred(tensors: Tensors, entries: Mapping[str, TensorEntry]) -> Iterator[tuple[str, Tensor]]:
    if not entries:
        return
    from cachefs.sdk.deferred import defer  # noqa: PLC0415 - it needs torch

    for name, entry in entries.items():
        tensor = defer(partial(tensors.get, name), entry.dtype, entry.shape)
        yield name, tensors.get(name) if tensor is None else tensor


def groups(sizes: Mapping[str, int], limit: int) -> Iterator[list[str]]:
    """Yield names in order, in groups whose sizes make no more than a limit if they can.

    Args:
        sizes: By name, in bytes.
        limit: In bytes; a larger one is a group by itself.
    """
    group: list[str] = []
    total = 0
    for name, size in sizes.items():
        if group and total + size > limit:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    if group:
        yield group


def _matching(dataset: Dataset, folder: str, patterns: Sequence[str]) -> list[str]:
    """Return the files of the first pattern that any match, as engines look for them."""
    found = [(entry.path, name) for entry, name in files_below(dataset, folder)]
    for pattern in patterns:
        depth = pattern.count("/")
        matching = [
            path
            for path, name in found
            if name.count("/") == depth and fnmatch.fnmatchcase(name, pattern)
        ]
        if matching:
            return matching
    raise NotKnownError(
        f"no file matches {', '.join(map(printable, patterns))}",
        subject=printable(f"{dataset.name}/{folder}"),
    )


def _pickles(dataset: Dataset, folder: str) -> list[str]:
    """Return the pickles of a folder that holds no safetensors."""
    direct = [entry.path for entry, name in files_below(dataset, folder) if "/" not in name]
    if any(path.endswith(".safetensors") for path in direct):
        return []
    return [
        path for path in direct if is_pickle(path) and PurePosixPath(path).stem not in _OF_TRAINING
    ]


def _unpickled(
    dataset: Dataset,
    paths: Sequence[str],
    options: LoaderOptions,
    is_wanted: Callable[[str], bool] | None,
) -> Iterator[tuple[str, Tensor]]:
    for path in paths:
        loaded: dict[str, Any] = load_file(  # Any: a tensor
            path, options.device, allow_pickle=True, dataset=dataset
        )
        for name in list(loaded):
            tensor = loaded.pop(name)
            if is_wanted is None or is_wanted(name):
                yield name, tensor
