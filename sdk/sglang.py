"""SGLang's door: ``--load-format cachefs --model-path cachefs://name``.

SGLang's load formats are a closed list, of which ``remote`` is for models that are somewhere else. A
*connector* then brings configuration and tokenizer to a local folder and yields the tensors; SGLang
has connectors for a few schemes, and lets plug-ins change its functions. It calls :func:`register` in
each of its processes, by the entry point group ``sglang.srt.plugins``. Two hooks do the rest:

* Before the server's arguments are looked at, our format becomes ``remote``, and the version that
  the model has at this moment is written into its name, so that all ranks load the same one.
* Our scheme has a connector, :class:`Connector`.

The loader's extra config does not reach a connector, so it goes through the environment, which the
processes of all ranks inherit.
"""

import fnmatch
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from sglang.srt import distributed, server_args
from sglang.srt.connector import BaseFileConnector
from sglang.srt.plugins.hook_registry import HookRegistry, HookType

from cachefs.core.names import printable
from cachefs.errors import ConfigError
from cachefs.sdk.dataset import open_reference
from cachefs.sdk.engines import LoaderOptions, iter_weights, parse_options
from cachefs.sdk.folders import SCHEME, files_below, is_reference, keep_settings, pin, pinned

LOAD_FORMAT = "cachefs"
OPTIONS_VARIABLE = "CACHEFS_SGLANG_OPTIONS"
"""Of the environment: the loader's extra config, as JSON."""
_PATHS = ("model_path", "tokenizer_path", "speculative_draft_model_path")
_ARGUMENTS = "sglang.srt.server_args.ServerArgs"
_CONNECTOR = "sglang.srt.connector.create_remote_connector"


class Connector(BaseFileConnector):  # type: ignore[misc]  # SGLang is not there when types are checked
    """A dataset, as SGLang wants it. Implements its ``BaseFileConnector``.

    The local folder stays when this is closed: all processes use the same.
    """

    def __init__(self, url: str) -> None:
        """Bring nothing yet. SGLang's own initialiser, which makes a folder, is left out."""
        self.url = url
        self.closed = False
        self.local_dir = ""

    def glob(self, allow_pattern: str | list[str]) -> list[str]:
        """Return references of the files that a pattern, or one of several, allows."""
        patterns = [allow_pattern] if isinstance(allow_pattern, str) else allow_pattern
        dataset, inside = open_reference(self.url)
        with dataset:
            return [
                pinned(dataset, entry.path)
                for entry, name in files_below(dataset, inside)
                if any(fnmatch.fnmatchcase(name, each) for each in patterns)
            ]

    def pull_files(
        self, allow_pattern: list[str] | None = None, ignore_pattern: list[str] | None = None
    ) -> None:
        """Bring everything but the weights to the local folder, whatever the patterns are."""
        del allow_pattern, ignore_pattern
        self.get_local_dir()

    def get_local_dir(self) -> str:
        """Return the folder with configuration and tokenizer."""
        if not self.local_dir:
            folder, self.url = keep_settings(self.url)
            self.local_dir = str(folder)
        return self.local_dir

    def weight_iterator(self, rank: int = 0) -> Iterator[tuple[str, Any]]:  # Any: tensors
        """Yield the names and tensors; SGLang's layers take a rank's share of them."""
        del rank
        ranks = (
            distributed.get_tensor_model_parallel_world_size()
            if distributed.model_parallel_is_initialized()
            else 1
        )
        return iter_weights(self.url, _options(os.environ.get(OPTIONS_VARIABLE)), ranks=ranks)

    def close(self) -> None:
        """Do no more: what a load opened, it closed when it ended."""
        self.closed = True


def register() -> None:
    """Register the load format and the hooks; SGLang applies them when all plug-ins have."""
    server_args.add_load_format_choices([LOAD_FORMAT])
    # Where arguments are looked at: in later versions, the second.
    for method in ("__post_init__", "resolve_once"):
        if hasattr(server_args.ServerArgs, method):
            HookRegistry.register(f"{_ARGUMENTS}.{method}", prepare_arguments, HookType.BEFORE)
    HookRegistry.register(_CONNECTOR, connect, HookType.AROUND)


def prepare_arguments(arguments: Any) -> None:  # Any: SGLang's ServerArgs
    """Pin the versions of what comes from datasets, and check the options, before SGLang looks.

    What is prepared is left as it is.

    Raises:
        ConfigError: Arguments do not fit each other, or an option is wrong.
        CacheFSError: There is no such dataset, or the cluster cannot be reached.
    """
    model = arguments.model_path
    if not is_reference(model):
        if arguments.load_format == LOAD_FORMAT:
            raise ConfigError(
                "load format cachefs wants a dataset",
                subject=printable(str(model)),
                hint="--model-path cachefs://name",
            )
        return
    if arguments.revision is not None:
        raise ConfigError(
            "--revision is for the Hub's models",
            hint=f"name the version in the reference: {printable(model)}@VERSION",
        )
    extra = arguments.model_loader_extra_config
    text = extra if isinstance(extra, str) else json.dumps(extra or {})
    options = _options(text)
    if options.dataset:
        raise ConfigError("SGLang's model path names the dataset", hint="leave dataset out")
    os.environ[OPTIONS_VARIABLE] = text
    if arguments.load_format == LOAD_FORMAT:
        arguments.load_format = "remote"
    if arguments.served_model_name is None:  # SGLang allows no colon in it
        arguments.served_model_name = model.removeprefix(SCHEME)
    for name in _PATHS:
        path = getattr(arguments, name, None)
        if is_reference(path) and (exact := pin(path)) != path:
            setattr(arguments, name, exact)


def connect(original: Callable[..., Any], url: str, *more: Any, **options: Any) -> Any:
    """Return a connector: ours for our scheme, SGLang's for others."""
    return Connector(url) if is_reference(url) else original(url, *more, **options)


def _options(text: str | None) -> LoaderOptions:
    try:
        given = json.loads(text or "{}")
    except ValueError as error:
        raise ConfigError(f"the loader's extra config is no JSON: {error}") from error
    return parse_options(given)
