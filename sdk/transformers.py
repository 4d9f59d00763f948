"""transformers' door: models whose parameters are the cache's own pages, tokenizers, processors.

::

    from transformers import AutoModelForCausalLM, AutoTokenizer
    from cachefs.sdk.transformers import load

    model = load(AutoModelForCausalLM, "cachefs://llama")
    tokenizer = load(AutoTokenizer, "cachefs://llama")

Configuration and tokenizer go through a private folder of copies. The weights do not: the model is
made of tensors that are there already (``state_dict=``), views of the worker's file or memory filled
by the reader, and its parameters are that very memory. If they are to be elsewhere or otherwise in
the end (``device_map``, ``quantization_config``, tensor parallelism), the library takes one at a
time, and of each only the part that it wants.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import transformers
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

from cachefs.config.schema import ReaderConfig
from cachefs.core.names import printable
from cachefs.errors import ConfigError
from cachefs.sdk.folders import LocalFolder, is_pickle, is_weights
from cachefs.sdk.safetensors import safe_open
from cachefs.sdk.torch import check_pickles, dtype_of, without_memory

Kind = TypeVar("Kind")

_PLACING = ("device_map", "distributed_config", "quantization_config", "tp_plan", "tp_size")
"""Arguments with which the parameters are not the tensors that were loaded."""
_TAKES_SLICES = int(transformers.__version__.partition(".")[0]) >= 5
"""Earlier versions take whole tensors only, and copy them."""
_BY_FILE = ("gguf_file", "variant")
"""Arguments that name files."""
_NOT_FOR_CONFIGURATION = (*_PLACING, "dtype", "torch_dtype", "trust_remote_code")
"""Arguments of which the configuration makes nothing, or something else."""
_REFUSED = {
    "revision": "name the version in the reference: cachefs://name@version",
    "state_dict": "load() brings the weights itself",
}


def load(
    kind: type[Kind],
    reference: str,
    *arguments: Any,  # Any: the library's
    backend: str = "auto",
    allow_pickle: bool = False,
    state: str | Path | None = None,
    reader: ReaderConfig | None = None,
    **options: Any,  # Any: the library's
) -> Any:  # Any: automatic classes return something else than themselves
    """Return ``kind.from_pretrained(reference, *arguments, **options)``.

    Remote code is run if ``trust_remote_code=True`` is among the options, and never else.

    Args:
        kind: Anything with ``from_pretrained``: a model's class, an automatic one, a tokenizer, a
            processor, a configuration.
        reference: ``cachefs://name[@version][/path]``, the path being of a folder.
        arguments: For ``from_pretrained``.
        backend: ``mmap``, ``pread`` or ``auto``, as for :class:`cachefs.sdk.safetensors.safe_open`.
        allow_pickle: Whether to load weights from a pickle if there is no other file, with
            ``weights_only=True``; it wants torch 2.10.
        state: The state folder of ``cachefs up``; found by itself otherwise.
        reader: How to read.
        options: For ``from_pretrained``. ``subfolder`` is one in the dataset.

    Raises:
        ConfigError: An option that does not fit, or the weights are a pickle.
        SafetensorsError: A file or the index is malformed; nothing was allocated for tensors.
        NotKnownError: There is no such dataset.
        CacheFSError: It could not be read.
        OSError: A file that the library wants is not in the dataset.

    Example:
        >>> model = load(AutoModel, "cachefs://llama", dtype="bfloat16")
    """
    for name, hint in _REFUSED.items():
        if options.get(name) is not None:
            raise ConfigError(f"load() does not take {name}=", hint=hint)
    if subfolder := options.pop("subfolder", ""):
        reference = f"{reference.rstrip('/')}/{subfolder}"
    if not _is_model(kind):
        leave_out = is_weights
    elif allow_pickle:
        check_pickles(reference)
        options["weights_only"] = True
        leave_out = _nothing
    elif any(options.get(name) is not None for name in _BY_FILE):
        leave_out = is_pickle
    else:
        with LocalFolder(reference, leave_out=is_weights, state=state, config=reader) as folder:
            return _load_model(kind, folder, arguments, backend, options)
    with LocalFolder(reference, leave_out=leave_out, state=state, config=reader) as folder:
        return _by_path(kind, folder, arguments, options)


def _is_model(kind: type[Any]) -> bool:  # Any: of the library
    return issubclass(kind, PreTrainedModel) or _is_automatic(kind)


def _is_automatic(kind: type[Any]) -> bool:  # Any: of the library
    """Say whether a class chooses the model's class by the configuration."""
    return not issubclass(kind, PreTrainedModel) and hasattr(kind, "from_config")


def _nothing(path: str) -> bool:
    del path
    return False


def _by_path(
    kind: Any, folder: LocalFolder, arguments: tuple[Any, ...], options: dict[str, Any]
) -> Any:  # Any: of the library
    made = kind.from_pretrained(folder.path, *arguments, **options)
    _name(made, folder)
    return made


def _load_model(
    kind: Any,
    folder: LocalFolder,
    arguments: tuple[Any, ...],
    backend: str,
    options: dict[str, Any],
) -> Any:  # Any: of the library
    config, options = _configure(kind, folder, options)
    concrete = kind
    if _is_automatic(kind):
        trust = options.get("trust_remote_code")
        with without_memory():
            concrete = type(kind.from_config(config, trust_remote_code=trust))
    file = Path(folder.path, "generation_config.json")
    if concrete.can_generate() and file.is_file() and options.get("generation_config") is None:
        options["generation_config"] = GenerationConfig.from_pretrained(folder.path)
    with ExitStack() as owned:
        weights = owned.enter_context(
            safe_open(folder.inside, "pt", backend=backend, dataset=folder.dataset)
        )
        if _TAKES_SLICES and any(options.get(name) is not None for name in _PLACING):
            state_dict = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
            _choose_dtype(config, state_dict, options)
        else:
            state_dict = weights.get_tensors()
        model = concrete.from_pretrained(
            None, *arguments, config=config, state_dict=state_dict, **options
        )
    _name(model, folder)
    return model


def _configure(
    kind: Any, folder: LocalFolder, options: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:  # Any: of the library
    """Return the configuration, changed by the options that it knows, and the other options."""
    options = dict(options)
    config = options.pop("config", None)
    if config is not None and not isinstance(config, str | Path):
        return config, options
    kept = {name: options.pop(name) for name in _NOT_FOR_CONFIGURATION if name in options}
    source = AutoConfig
    if not _is_automatic(kind) and kind.config_class is not None:
        source = kind.config_class
    elif "trust_remote_code" in kept:
        options["trust_remote_code"] = kept["trust_remote_code"]
    config, rest = source.from_pretrained(
        config or folder.path, return_unused_kwargs=True, **options
    )
    return config, {**rest, **kept}


def _choose_dtype(config: Any, slices: dict[str, Any], options: dict[str, Any]) -> None:
    """Say of which dtype the weights are, if nobody does: the library cannot ask a slice."""
    asked = options.get("dtype", options.get("torch_dtype"))
    if asked not in (None, "auto") or getattr(config, "dtype", None) is not None:
        return
    kinds = (dtype_of(each.get_dtype()) for each in slices.values())
    options.pop("torch_dtype", None)
    options["dtype"] = next((kind for kind in kinds if kind.is_floating_point), None)


def _name(made: Any, folder: LocalFolder) -> None:  # Any: of the library
    """Have an object say whence it is, in place of a folder that will be gone."""
    for each, name in ((getattr(made, "config", made), "_name_or_path"), (made, "name_or_path")):
        if getattr(each, name, None) in {folder.path, "None"}:
            setattr(each, name, printable(folder.reference))
