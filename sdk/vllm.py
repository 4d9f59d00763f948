"""vLLM's door: ``--load-format cachefs --model cachefs://name``.

vLLM calls :func:`register` in each of its processes, by the entry point group
``vllm.general_plugins``. It registers the load format, and has vLLM take ``cachefs://`` for a place
that is no repository of the Hub, as it takes ``s3://``: vLLM brings configuration and tokenizer of
such a model to a local folder before it looks at them, and remembers whence the weights are to come.
For our scheme that folder is :func:`cachefs.sdk.folders.keep_settings`'s, and the reference that is
remembered has the version in it, so that all ranks load the same one.

The loader is vLLM's own but for where tensors come from: how they get into the model, which experts a
rank needs, and whether all parameters were there, is decided by vLLM.
"""

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from vllm.config import ModelConfig
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.engine import arg_utils
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.model_loader.ep_weight_filter import should_skip_weight

from cachefs.core.names import printable
from cachefs.errors import ConfigError
from cachefs.sdk.dataset import open_reference
from cachefs.sdk.engines import iter_weights, parse_options
from cachefs.sdk.folders import is_reference, keep_settings, pin

LOAD_FORMAT = "cachefs"
_MARK = "_cachefs_replaced"

_log = logging.getLogger("cachefs.sdk")


class Loader(DefaultModelLoader):  # type: ignore[misc]  # vLLM is not there when types are checked
    """Loads weights of a dataset. Implements vLLM's ``BaseModelLoader``."""

    counter_before_loading_weights: float = 0.0
    """When it began; vLLM says how long it took."""

    def __init__(self, load_config: Any) -> None:  # Any: vLLM's LoadConfig
        """Take our options out of the extra config.

        Raises:
            ConfigError: One of them is wrong.
        """
        self.options = parse_options(load_config.model_loader_extra_config or {})
        super().__init__(dataclasses.replace(load_config, model_loader_extra_config={}))
        self._reference = ""
        self._model = ""

    def download_model(self, model_config: Any) -> None:  # Any: vLLM's ModelConfig
        """Have the cluster bring the weights in; a load need not wait for it.

        Raises:
            ConfigError: The configuration names no dataset.
            CacheFSError: There is no such dataset, or the cluster cannot be reached.
        """
        reference = self._find(model_config)
        dataset, inside = open_reference(reference)
        with dataset:
            dataset.prefetch(*([inside] if inside else []))

    def load_weights(self, model: Any, model_config: Any) -> None:  # Any: vLLM's
        """Load the weights into a model.

        Raises:
            ConfigError: The configuration names no dataset, or something that we cannot do.
            CacheFSError: They could not be read.
        """
        self._reference = self._find(model_config)
        self._model = model_config.model
        super().load_weights(model, model_config)

    def _find(self, model_config: Any) -> str:  # Any: vLLM's ModelConfig
        """Return the reference of the weights, with a version."""
        named = (
            self.options.dataset,
            getattr(model_config, "model_weights", ""),
            model_config.model,
        )
        for each in named:
            if is_reference(each):
                return pin(each)
        raise ConfigError(
            "load format cachefs wants a dataset",
            subject=printable(str(model_config.model)),
            hint='--model cachefs://name, or --model-loader-extra-config \'{"dataset": "cachefs://name"}\'',
        )

    def _get_weights_iterator(
        self,
        source: Any,  # Any: vLLM's Source
    ) -> Iterator[tuple[str, Any]]:  # Any: tensors
        """Yield the tensors of one source, as vLLM's own loader asks for them."""
        if getattr(self.load_config, "safetensors_load_strategy", None) == "torchao":
            raise ConfigError("load format cachefs does not rebuild torchao's tensors")
        if source.model_or_path == self._model:
            reference = self._reference
        elif is_reference(source.model_or_path):
            reference = source.model_or_path
        else:  # weights that the model brings from elsewhere
            other = dataclasses.replace(self.load_config, load_format="auto")
            yield from DefaultModelLoader(other)._get_weights_iterator(source)
            return
        is_unused = getattr(source, "is_unused_weight", None)

        def is_wanted(name: str) -> bool:
            if is_unused is not None and is_unused(name):
                return False
            return not should_skip_weight(name, self.local_expert_ids)

        found = iter_weights(
            reference,
            self.options,
            subfolder=getattr(source, "subfolder", None) or "",
            patterns=source.allow_patterns_overrides,
            is_wanted=is_wanted,
            ranks=get_tensor_model_parallel_world_size(),
        )
        if not self.counter_before_loading_weights:
            self.counter_before_loading_weights = time.perf_counter()
        for name, tensor in found:
            yield source.prefix + name, tensor


def register() -> None:
    """Register the load format and the scheme; it may be called any number of times.

    A version of vLLM that lacks what we build on is left alone, and told so: it may be serving models
    that are none of ours.
    """
    changes = (
        (arg_utils, "is_cloud_storage", _knowing_the_scheme),
        (ModelConfig, "maybe_pull_model_tokenizer_for_runai", _keeping_settings),
        (arg_utils.EngineArgs, "create_load_config", _pinning_the_dataset),
    )
    missing = [name for owner, name, _ in changes if not hasattr(owner, name)]
    if missing:
        _log.error("no load format cachefs: this vLLM has no %s", ", ".join(missing))
        return
    register_model_loader(LOAD_FORMAT)(Loader)
    for owner, name, change in changes:
        _replace(owner, name, change)


def _replace(owner: Any, name: str, change: Callable[[Any], Any]) -> None:  # Any: vLLM's
    """Put a changed function in a function's place, once."""
    original = getattr(owner, name)
    if not hasattr(original, _MARK):
        changed = functools.wraps(original)(change(original))
        setattr(changed, _MARK, True)
        setattr(owner, name, changed)


def _knowing_the_scheme(original: Callable[[str], bool]) -> Callable[[str], bool]:
    def is_cloud_storage(model_or_path: str) -> bool:
        return is_reference(model_or_path) or original(model_or_path)

    return is_cloud_storage


def _keeping_settings(original: Callable[[Any, str, str], None]) -> Callable[[Any, str, str], None]:
    def maybe_pull(self: Any, model: str, tokenizer: str) -> None:  # Any: a ModelConfig
        if is_reference(model) and not self.model_weights:
            if self.revision is not None:
                raise ConfigError(
                    "--revision is for the Hub's models",
                    hint=f"name the version in the reference: {printable(model)}@VERSION",
                )
            folder, self.model_weights = keep_settings(model)
            self.model = str(folder)
            if tokenizer == model:
                self.tokenizer = tokenizer = self.model
        if is_reference(tokenizer):
            self.tokenizer = str(keep_settings(tokenizer)[0])
        original(self, self.model, self.tokenizer)

    return maybe_pull


def _pinning_the_dataset(original: Callable[[Any], Any]) -> Callable[[Any], Any]:  # Any: vLLM's
    """Have all ranks load the version that the first process found."""

    def create_load_config(self: Any) -> Any:  # Any: EngineArgs, LoadConfig
        config = original(self)
        if config.load_format == LOAD_FORMAT:
            options = parse_options(config.model_loader_extra_config or {})
            if options.dataset:
                config.model_loader_extra_config = {
                    **config.model_loader_extra_config,
                    "dataset": pin(options.dataset),
                }
        return config

    return create_load_config
