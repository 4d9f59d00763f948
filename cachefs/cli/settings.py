"""``cachefs config show`` and ``cachefs version``."""

import os
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from cachefs.cli import options
from cachefs.cli.rendering import print_facts, print_json, print_table

app = typer.Typer(
    name="config",
    help="Settings: what they are, and where each comes from.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.callback()
def config() -> None:
    """Settings: what they are, and where each comes from."""


@app.command()
def show(
    pattern: Annotated[
        str, typer.Argument(metavar="KEY", help="Only keys that begin with this.")
    ] = "",
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Show every setting, its effective value, and where that comes from.

    A setting is named section.key; in a YAML file the section is a mapping, and in the environment
    it is CACHEFS_SECTION__KEY. A file wins over the defaults, the environment over a file.
    """
    from cachefs.config.load import load
    from cachefs.core.names import printable
    from cachefs.core.nearest import did_you_mean
    from cachefs.errors import NotKnownError

    every = list(load(file=config, environment=os.environ))
    settings = [setting for setting in every if setting.key.startswith(pattern)]
    if not settings:
        raise NotKnownError(
            "no such setting",
            subject=printable(pattern),
            hint=did_you_mean(pattern, _names(setting.key for setting in every))
            or "`cachefs config show` lists all",
        )
    if as_json:
        print_json(
            [
                {"key": setting.key, "value": _plain(setting.value), "source": setting.source}
                for setting in settings
            ]
        )
    else:
        rows = [
            (setting.key, shown(setting.key, setting.value), setting.source) for setting in settings
        ]
        print_table(("KEY", "VALUE", "FROM"), rows)


def _names(keys: Iterable[str]) -> list[str]:
    """Return the names of all sections and settings: ``worker`` and ``worker.host``."""
    return sorted({name for key in keys for name in (key, key.partition(".")[0])})


def shown(key: str, value: Any) -> str:  # Any: as the setting's type says
    """Return a value as people write it."""
    from cachefs.config.units import format_duration, format_size

    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if key.endswith("_seconds") and value:
        return format_duration(value)
    if key.endswith(("_bytes", "_size", "bytes_rate")) and value:
        return format_size(value)
    return str(value)


def _plain(value: Any) -> Any:  # Any: as the setting's type says
    return list(value) if isinstance(value, tuple) else value


def version(as_json: options.Json = False) -> None:
    """Show the versions of cachefs, Python and the kernel."""
    import platform

    from cachefs import __version__
    from cachefs.config.schema import ClusterConfig

    facts = {
        "cachefs": __version__,
        "wire": ClusterConfig().wire_version,
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
    if as_json:
        print_json(facts)
    else:
        print_facts(facts.items())
