"""``mount.cachefs``: what ``mount -t cachefs`` runs, so that ``/etc/fstab`` and systemd units work.

mount(8) calls it as ``mount.cachefs SOURCE DIR [-sfnv] [-o OPTIONS]``, when it is in ``/sbin``. It
returns when the mount is there, with the exit codes that mount(8) documents. The source is
``cachefs://NAME[@VERSION]``; with the option ``all`` it may be anything, and is ``cachefs`` by custom.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from cachefs.cli.mounting.request import Request
from cachefs.cli.mounting.starting import make_mount
from cachefs.cli.rendering import forgive_encodings, print_error
from cachefs.core.names import printable
from cachefs.errors import CacheFSError, ConfigError

_WRONG_CALL = 1
_FAILED = 32
"""As mount(8) has them."""
_SWITCHES = ("all", "allow_other", "follow_current", "nonempty", "no_recovery")
_VALUES = ("uid", "gid", "umask", "read_ahead", "engine", "state", "config")
_IGNORED = frozenset(
    {"ro", "rw", "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group"}
    | {"nofail", "_netdev", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "async", "sync"}
    | {"atime", "noatime", "relatime", "norelatime", "diratime", "nodiratime", "strictatime"}
    | {"nostrictatime", "lazytime", "nolazytime", "mand", "nomand", "silent", "loud"}
)
"""What mount(8) reads itself or hands to every file system. We mount ro, nosuid, nodev, noexec."""
_IGNORED_BEGINNINGS = ("x-", "X-", "comment=")


def run() -> int:
    """Mount as the arguments say; return mount(8)'s exit code."""
    forgive_encodings()
    parser = argparse.ArgumentParser(prog="mount.cachefs", description="Mount datasets of cachefs.")
    parser.add_argument("source", help="cachefs://NAME[@VERSION]; anything with the option all")
    parser.add_argument("folder", metavar="DIR", help="where the files shall be")
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="OPTIONS")
    parser.add_argument("-s", dest="sloppy", action="store_true", help="forgive unknown options")
    parser.add_argument("-f", dest="fake", action="store_true", help="only look at the options")
    parser.add_argument(
        "-n", action="store_true", help="do nothing to /etc/mtab, which we never do"
    )
    parser.add_argument("-v", action="store_true", help="nothing: there is no more to say")
    parser.add_argument("-t", dest="type", help="the type that mount(8) was told")
    arguments = parser.parse_args()
    try:
        request = parse_request(
            arguments.source, arguments.folder, arguments.options, sloppy=arguments.sloppy
        )
        if not arguments.fake:
            make_mount(request)
    except ConfigError as error:
        print_error(error)
        return _WRONG_CALL
    except CacheFSError as error:
        print_error(error)
        return _FAILED
    return 0


def parse_request(source: str, folder: str, options: list[str], *, sloppy: bool) -> Request:
    """Return what the arguments ask for.

    Raises:
        ConfigError: An option is unknown (unless ``sloppy``), lacks its value, or has none to have.
    """
    given: dict[str, str] = {}
    for name, value in _split(options):
        known = name in _SWITCHES or name in _VALUES
        if name in _SWITCHES and value:
            raise ConfigError(f"option {name} takes no value")
        if name in _VALUES and not value:
            raise ConfigError(f"option {name} needs a value", hint=f"{name}=…")
        if known:
            given[name] = value
        elif not sloppy and name not in _IGNORED:
            names = ", ".join((*_SWITCHES, *(f"{each}=" for each in _VALUES)))
            raise ConfigError(f"unknown option {printable(name)!r}", hint=f"there are {names}")
    return Request(
        # With `all`, mount(8) may have made a path of the source, if there is one of that name.
        reference="" if "all" in given else source,
        folder=folder,
        state=_path(given.get("state")),
        config=_path(given.get("config")),
        engine=given.get("engine"),
        read_ahead=given.get("read_ahead"),
        recovery=False if "no_recovery" in given else None,
        allow_other="allow_other" in given,
        uid=_number(given, "uid"),
        gid=_number(given, "gid"),
        umask=given.get("umask", "0"),
        follow_current="follow_current" in given,
        nonempty="nonempty" in given,
    )


def _split(options: list[str]) -> Iterator[tuple[str, str]]:
    for option in ",".join(options).split(","):
        name, _, value = option.partition("=")
        if name and not option.startswith(_IGNORED_BEGINNINGS):
            yield name.replace("-", "_"), value


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _number(given: dict[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is not None and not text.isdecimal():
        raise ConfigError(f"option {name} needs a number, not {printable(text)!r}")
    return None if text is None else int(text)


if __name__ == "__main__":
    sys.exit(run())
