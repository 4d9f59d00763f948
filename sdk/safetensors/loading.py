"""Loading whole checkpoints: ``load_file``, and ``iter_tensors`` for what should not wait for the rest."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from cachefs.config.schema import ReaderConfig
from cachefs.errors import ConfigError
from cachefs.sdk.dataset import Dataset, open_reference
from cachefs.sdk.frameworks import Tensor, device_name
from cachefs.sdk.safetensors.checkpoints import PICKLE_SUFFIXES
from cachefs.sdk.safetensors.opening import SCHEME, Target, open_target
from cachefs.sdk.safetensors.plan import Slices
from cachefs.sdk.safetensors.tensors import Names, Tensors
from cachefs.transport.runtime import ThreadRuntime


def load_file(
    filename: Target | list[Target] | tuple[Target, ...],
    device: str | int = "cpu",
    *,
    framework: str = "pt",
    backend: str = "auto",
    allow_pickle: bool = False,
    dataset: Dataset | None = None,
    state: str | Path | None = None,
    config: ReaderConfig | None = None,
) -> dict[str, Tensor]:
    """Load all tensors of a file, or of a whole checkpoint.

    Args:
        filename: ``cachefs://name[@version][/path]`` or a path: of a file, an index or a folder; or
            several that make a checkpoint together.
        device: ``cpu``, or for torch ``cuda``, ``cuda:1``, ``1``.
        framework: ``pt``, ``numpy`` or ``jax``.
        backend: ``mmap``, ``pread`` or ``auto``, as for :class:`safe_open`.
        allow_pickle: Whether to unpickle a ``.bin`` or ``.pt`` with ``torch.load(weights_only=True)``,
            which wants torch 2.10.
        dataset: An open dataset, in which ``filename`` is a path; empty for all of it.
        state: The state folder of ``cachefs up``; found by itself otherwise.
        config: How to read.

    Returns:
        The tensors by name, with the shapes and dtypes of the file.

    Raises:
        SafetensorsError: A file or the index is malformed; nothing was allocated for tensors.
        ConfigError: A pickle, or no such framework, device or backend.
        NotKnownError: There is no such dataset or file.
        CacheFSError: It could not be read.

    Example:
        >>> weights = load_file("cachefs://llama")
    """
    if allow_pickle and isinstance(filename, str | os.PathLike):
        name = os.fspath(filename)
        if name.endswith(PICKLE_SUFFIXES):
            return _load_pickle(name, device_name(device), framework, dataset, state)
    checkpoint = open_target(filename, dataset=dataset, state=state, config=config, ahead=False)
    with (
        checkpoint,
        Tensors(
            ThreadRuntime(), checkpoint, framework=framework, device=device, backend=backend
        ) as tensors,
    ):
        return dict(tensors.stream())


def iter_tensors(
    filename: Target | list[Target] | tuple[Target, ...],
    *,
    names: Names = None,
    plan: Mapping[str, Slices] | None = None,
    framework: str = "pt",
    device: str | int = "cpu",
    budget_bytes: int | None = None,
    backend: str = "auto",
    dataset: Dataset | None = None,
    state: str | Path | None = None,
    config: ReaderConfig | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a checkpoint as they arrive.

    Tensors on this node come first; the others in the order of the files and their bytes. What a rank
    does not need is not read, down to the block (in the page cache of this node, to the byte). Every
    tensor is valid as long as you keep it.

    Args:
        filename: As for :func:`load_file`.
        names: Which tensors: their names, or a function that says yes.
        plan: Slices by name, of which only those are read: ``None`` for a whole tensor, a ``slice``
            of the first dimension, or a tuple of them, as :func:`rank_slices` makes one. Tensors that
            it does not name are left out.
        framework: ``pt``, ``numpy`` or ``jax``.
        device: As for :func:`load_file`.
        budget_bytes: Most memory for tensors at once, those that you keep included: drop or copy each
            one before you ask for the next. Views, and a device's memory, do not count.
        backend: As for :func:`load_file`.
        dataset: As for :func:`load_file`.
        state: As for :func:`load_file`.
        config: How to read.

    Raises:
        SafetensorsError: A file or the index is malformed; nothing was allocated for tensors.
        NotKnownError: There is no such dataset, file or tensor.
        ConfigError: A slice does not fit, or the budget is too small.
        CapacityError: The tensors that were kept take the whole budget.
        CacheFSError: A tensor could not be read.

    Example:
        >>> for name, tensor in iter_tensors("cachefs://llama", names=lambda n: ".mlp." in n):
        ...     parameters[name].copy_(tensor)
    """
    with ExitStack() as owned:
        checkpoint = owned.enter_context(
            open_target(filename, dataset=dataset, state=state, config=config, ahead=False)
        )
        tensors = owned.enter_context(
            Tensors(
                ThreadRuntime(), checkpoint, framework=framework, device=device, backend=backend
            )
        )
        found = tensors.stream(names=names, plan=plan, budget_bytes=budget_bytes, touch=True)
        return _yield_and_close(found, owned.pop_all())


def _yield_and_close(
    found: Iterator[tuple[str, Tensor]], owned: ExitStack
) -> Iterator[tuple[str, Tensor]]:
    with owned:
        yield from found


def _load_pickle(
    name: str,
    device: str,
    framework: str,
    dataset: Dataset | None,
    state: str | Path | None,
) -> dict[str, Tensor]:
    if framework not in {"pt", "torch", "pytorch"}:
        raise ConfigError("a pickle is loaded by torch only", subject=name)
    from cachefs.sdk import torch as door  # noqa: PLC0415 - only who asks for it needs torch

    with ExitStack() as owned:
        if dataset is not None:
            return door.load_pickle(owned.enter_context(dataset.open(name)), name, device)
        if name.startswith(SCHEME):
            opened, path = open_reference(name, state=state)
            owned.enter_context(opened)
            return door.load_pickle(owned.enter_context(opened.open(path)), name, device)
        return door.load_pickle(owned.enter_context(Path(name).open("rb")), name, device)
