"""Process configuration files: how a supervisor tells a process what it is.

The file is the JSON form of the dataclasses in :mod:`cachefs.config.schema`:
``{"cluster": {…}, "worker": {…}}``. It is written by ``cachefs up`` and by the operator on
Kubernetes, not by people; they write YAML with units, which :mod:`cachefs.config.load` reads.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from cachefs.config.schema import ClusterConfig
from cachefs.errors import ConfigError

T = TypeVar("T")


def to_document(config: Any) -> Any:  # Any: a dataclass, or a value of one of its fields
    """Return the JSON form of a configuration."""
    if dataclasses.is_dataclass(config):
        return {
            field.name: to_document(getattr(config, field.name))
            for field in dataclasses.fields(config)
        }
    if isinstance(config, tuple | list):
        return [to_document(item) for item in config]
    if isinstance(config, Path):
        return str(config)
    return config


def from_document(cls: type[T], document: Mapping[str, Any], *, where: str = "") -> T:
    """Build a configuration from its JSON form.

    Raises:
        ConfigError: A key is unknown or missing, or a value has the wrong type; names the key.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # T is a dataclass
    for key in document:
        if key not in fields:
            raise ConfigError("unknown key", subject=f"{where}{key}")
    values = {key: _value(hints[key], value, f"{where}{key}") for key, value in document.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(
            "a key is missing", subject=where or cls.__name__, hint=str(error)
        ) from error


def _value(hint: Any, value: Any, where: str) -> Any:  # Any: types are data here
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError("must be a mapping", subject=where)
        return from_document(typing.cast("type[Any]", hint), value, where=f"{where}.")
    origin = get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError("must be a list", subject=where)
        item = get_args(hint)[0]
        return tuple(_value(item, one, f"{where}[{at}]") for at, one in enumerate(value))
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in get_args(hint) if option is not type(None))
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"must be {hint.__name__}, not {value!r}", subject=where)
    return value


def read_process_config(path: Path, section: str, cls: type[T]) -> tuple[ClusterConfig, T]:
    """Read a process's configuration file.

    Args:
        path: The JSON file.
        section: What the process is: ``worker``, ``coordinator`` …
        cls: The dataclass of that section.

    Raises:
        ConfigError: The file cannot be read or does not fit.
    """
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError("cannot read the file", subject=str(path), hint=str(error)) from error
    if not isinstance(document, dict) or set(document) != {"cluster", section}:
        raise ConfigError(f"must have the keys cluster and {section}", subject=str(path))
    return (
        from_document(ClusterConfig, document["cluster"], where="cluster."),
        from_document(cls, document[section], where=f"{section}."),
    )


def write_process_config(
    path: Path, section: str, cluster: ClusterConfig, config: Any
) -> None:  # Any: a dataclass
    """Write a process's configuration file; nothing in it is secret."""
    document = {"cluster": to_document(cluster), section: to_document(config)}
    path.write_text(json.dumps(document, indent=2) + "\n")
