"""diffusers' door: pipelines and their models, read by path from a private folder of links.

::

    from diffusers import DiffusionPipeline
    from cachefs.sdk.diffusers import load

    pipeline = load(DiffusionPipeline, "cachefs://sd")

A pipeline is several models in subfolders, which the library finds and opens by itself. So it gets
paths: links to the worker's files, whose tensors it maps, for what is whole on this node, and copies
of the rest. Of weights that are there in several forms, only the one that will be read is copied.
"""

import re
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import Any

from cachefs.config.schema import ReaderConfig
from cachefs.errors import ConfigError
from cachefs.sdk.dataset import open_reference
from cachefs.sdk.folders import LocalFolder, files_below, is_weights

_VARIANT = re.compile(r"(.*?)\.([A-Za-z0-9_]+?)((?:-\d{5}-of-\d{5})?\.safetensors)")
"""``name.fp16.safetensors`` and ``name.fp16-00001-of-00002.safetensors``."""


def load(
    kind: Any,  # Any: of the library
    reference: str,
    *,
    into: str | Path | None = None,
    state: str | Path | None = None,
    reader: ReaderConfig | None = None,
    **options: Any,  # Any: the library's
) -> Any:  # Any: of the library
    """Return ``kind.from_pretrained(reference, **options)``.

    Pickles are never loaded, and remote code only with ``trust_remote_code=True`` among the options.

    Args:
        kind: A pipeline's class, a model's, a scheduler's.
        reference: ``cachefs://name[@version][/path]``, the path being of a folder.
        into: Where to copy what is not whole on this node; where temporary files go by default.
        state: The state folder of ``cachefs up``; found by itself otherwise.
        reader: How to read.
        options: For ``from_pretrained``.

    Raises:
        ConfigError: An option that does not fit.
        NotKnownError: There is no such dataset.
        CapacityError: There is no room for the files that must be copied.
        CacheFSError: It could not be read.
        OSError: A file that the library wants is not in the dataset.

    Example:
        >>> pipeline = load(DiffusionPipeline, "cachefs://sd", variant="fp16")
    """
    if options.get("revision") is not None:
        raise ConfigError(
            "load() does not take revision=",
            hint="name the version in the reference: cachefs://name@version",
        )
    if options.get("use_safetensors") is False:
        raise ConfigError("load() reads safetensors only", hint="leave use_safetensors= out")
    dataset, inside = open_reference(reference, state=state, config=reader)
    with dataset:
        paths = {path for _, path in files_below(dataset, inside)}
    with LocalFolder(
        reference,
        leave_out=unwanted(paths, options.get("variant")),
        into=into,
        state=state,
        config=reader,
    ) as folder:
        return kind.from_pretrained(folder.path, **options)


def unwanted(paths: Collection[str], variant: str | None) -> Callable[[str], bool]:
    """Return what says of a path that it is not read: another format of weights, another variant.

    Args:
        paths: Of all files.
        variant: The variant that was asked for. A folder that has it not is read without one.
    """
    folders = {PurePosixPath(path).parent for path in paths if _variant_of(path) == variant}
    is_pipeline = "model_index.json" in paths

    def is_unwanted(path: str) -> bool:
        if not path.endswith(".safetensors"):
            return is_weights(path)
        if is_pipeline and "/" not in path:
            return True  # all models in one file, for other programs
        has_it = variant is not None and PurePosixPath(path).parent in folders
        return _variant_of(path) != (variant if has_it else None)

    return is_unwanted


def _variant_of(path: str) -> str | None:
    found = _VARIANT.fullmatch(PurePosixPath(path).name)
    return found[2] if found else None
