"""Loading: where each value comes from, and which one wins.

Flag > environment > file > default. The file is YAML with one section per component; the
environment spells the same key as ``CACHEFS_<SECTION>__<KEY>`` (a nested key has one ``__`` more:
``CACHEFS_WORKER__FILL__ATTEMPTS_LIMIT``). Values may have units. An unknown key is an error that
names its line and the nearest key there is, because a misspelt limit is a limit that does not hold.

A section has the keys of its class in :mod:`cachefs.config.schema` that have a default; what has
none (a worker's name, its folder) is decided by whoever starts the process.
"""

import dataclasses
import difflib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cachefs.config.files import from_document, to_document
from cachefs.config.schema import (
    ClusterConfig,
    CoordinatorConfig,
    GatewayConfig,
    MountConfig,
    ReaderConfig,
    TierConfig,
    WorkerConfig,
)
from cachefs.config.units import parse_duration, parse_size
from cachefs.errors import ConfigError

T = TypeVar("T")

SECTIONS: Mapping[str, type[Any]] = {
    "cluster": ClusterConfig,
    "coordinator": CoordinatorConfig,
    "worker": WorkerConfig,
    "tier": TierConfig,
    "reader": ReaderConfig,
    "mount": MountConfig,
    "gateway": GatewayConfig,
}
"""The sections of a configuration file, in the order in which they are shown."""

_ENVIRONMENT_PREFIX = "CACHEFS_"
_NESTING = "__"
_FILE_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value."""

    key: str
    """``section.key`` or ``section.group.key``."""
    value: Any  # as the field's type says
    source: str
    """``default``, ``FILE:LINE``, ``$NAME``, or ``flag``."""


class Settings:
    """All settings of a process's environment, with where each came from."""

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        """Hold settings by key."""
        self._settings = dict(settings)

    def __iter__(self) -> Iterator[Setting]:
        """Yield every setting in the order of the schema."""
        return iter(self._settings.values())

    def with_flags(self, values: Mapping[str, Any]) -> "Settings":
        """Return settings in which flags (by key; ``None`` means not given) win."""
        flags = {
            key: Setting(key, _parse(key, value), "flag")
            for key, value in values.items()
            if value is not None
        }
        return Settings({**self._settings, **flags})

    def build(self, section: str, cls: type[T], **required: object) -> T:
        """Return a section's configuration.

        Args:
            section: Its name in :data:`SECTIONS`.
            cls: Its class.
            required: The values that have no default.
        """
        document: dict[str, Any] = {}
        for setting in self:
            first, *groups, last = setting.key.split(".")
            if first == section:
                target = document
                for group in groups:
                    target = target.setdefault(group, {})
                target[last] = to_document(setting.value)
        document.update({name: to_document(value) for name, value in required.items()})
        return from_document(cls, document, where=f"{section}.")


def defaults() -> Settings:
    """Return every setting at its default."""
    return Settings({key: Setting(key, value, "default") for key, value in _known().items()})


def load(*, file: Path | None, environment: Mapping[str, str]) -> Settings:
    """Return the settings of a file, if one is given, under those of the environment.

    Raises:
        ConfigError: A key is unknown or a value does not fit; says where.
    """
    settings = {setting.key: setting for setting in defaults()}
    if file is not None:
        for setting in _read_file(file):
            settings[setting.key] = setting
    for setting in _read_environment(environment):
        settings[setting.key] = setting
    return Settings(settings)


def _known() -> dict[str, Any]:
    """Return every key with its default."""
    known: dict[str, Any] = {}
    for section, cls in SECTIONS.items():
        known.update(_fields(cls, section))
    return known


def _fields(cls: type[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key = f"{prefix}.{field.name}"
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _fields(typing.cast("type[Any]", hints[field.name]), key)
        elif field.default is not dataclasses.MISSING:
            yield key, field.default


def _read_environment(environment: Mapping[str, str]) -> Iterator[Setting]:
    for name, text in environment.items():
        if not name.startswith(_ENVIRONMENT_PREFIX) or _NESTING not in name:
            continue
        key = name.removeprefix(_ENVIRONMENT_PREFIX).lower().replace(_NESTING, ".")
        _check_known(key, f"${name}")
        yield Setting(key, _parse(key, text, where=f"${name}"), f"${name}")


def _read_file(file: Path) -> Iterator[Setting]:
    import yaml  # noqa: PLC0415 - a reader without a file does not pay for it

    try:
        if file.stat().st_size > _FILE_BYTES_MAX:
            raise ConfigError("too large for a configuration file", subject=str(file))
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read the file: {reason.lower()}", subject=str(file)) from error
    try:
        # An alias can stand for itself a billion times; a configuration needs none.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ConfigError("aliases are not allowed", subject=str(file))
        root = yaml.compose(text, yaml.SafeLoader)
        if root is not None:
            yield from _walk(file, root, "")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        subject = f"{file}:{mark.line + 1}" if mark else str(file)
        reason = getattr(error, "problem", None) or "it cannot be read"
        raise ConfigError(f"not YAML: {reason}", subject=subject) from error


def _walk(file: Path, node: Any, prefix: str) -> Iterator[Setting]:  # Any: a node of PyYAML
    import yaml  # noqa: PLC0415 - as above

    where = f"{file}:{node.start_mark.line + 1}"
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{prefix or 'the file'} must be a mapping", subject=where)
    for key_node, value_node in node.value:
        where = f"{file}:{key_node.start_mark.line + 1}"
        key = f"{prefix}.{key_node.value}" if prefix else str(key_node.value)
        if any(known.startswith(f"{key}.") for known in _known()):
            yield from _walk(file, value_node, key)
            continue
        _check_known(key, where)
        constructor = yaml.SafeLoader("")
        value = constructor.construct_object(value_node, deep=True)
        yield Setting(key, _parse(key, value, where=where), where)


def _check_known(key: str, where: str) -> None:
    known = list(_known())
    if key in known:
        return
    nearest = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else "`cachefs config show` lists the keys"
    raise ConfigError(f"unknown key {key!r}", subject=where, hint=hint)


def _parse(key: str, value: Any, where: str = "") -> Any:  # Any: as the field's type says
    """Turn what a person wrote into the field's type."""
    default = _known()[key]
    try:
        return _convert(key, value, default)
    except (ConfigError, ValueError, TypeError) as error:
        message = error.message if isinstance(error, ConfigError) else str(error)
        raise ConfigError(f"{key}: {message}", subject=where) from error


def _convert(key: str, value: Any, default: Any) -> Any:  # Any: as the field's type says
    if isinstance(default, bool):
        words = {"true": True, "false": False}
        if str(value).lower() not in words:
            raise ConfigError(f"must be true or false, not {value!r}")
        return words[str(value).lower()]
    if isinstance(default, tuple):
        return tuple(value.split(",")) if isinstance(value, str) else tuple(map(str, value))
    if isinstance(default, int | float) and isinstance(value, str):
        if key.endswith("_seconds"):
            value = parse_duration(value)
        elif key.endswith(("_bytes", "_size", "bytes_rate")):
            value = parse_size(value)
        else:
            value = float(value)
    if isinstance(default, int) and value != int(value):
        raise ConfigError(f"must be a whole number, not {value!r}")
    if isinstance(default, str) and not isinstance(value, str):
        raise ConfigError(f"must be text, not {value!r}")
    return type(default)(value)
