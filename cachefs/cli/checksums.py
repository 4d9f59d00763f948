"""What ``dataset add`` reads: checksum files and options."""

import re
from pathlib import Path

from cachefs.core.names import parse_path, printable
from cachefs.errors import ConfigError

_FILE_BYTES_MAX = 256 * 1024 * 1024
_LINE = re.compile(r"(\\?)([0-9a-fA-F]+) [ *](.+)")
_ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}
"""By hexadecimal digits, as the tools md5sum, sha1sum, sha256sum and sha512sum print them."""
_ESCAPES = {r"\\": "\\", r"\n": "\n", r"\r": "\r"}


def read_checksums(file: Path) -> dict[str, str]:
    r"""Return ``algorithm:hex`` by path, from a file as ``sha256sum`` writes it.

    A line that begins with a backslash has a name in which ``\n``, ``\r`` and ``\\`` are escaped.

    Raises:
        ConfigError: The file cannot be read, or a line is something else; says which.
    """
    try:
        if file.stat().st_size > _FILE_BYTES_MAX:
            raise ConfigError("too large for a checksum file", subject=printable(str(file)))
        lines = file.read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot read the file: {reason.lower()}", subject=printable(str(file))
        ) from error
    checksums: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.removesuffix("\r"))
        if match is None or len(match[2]) not in _ALGORITHMS:
            raise ConfigError(
                "not a line of sha256sum",
                subject=f"{printable(str(file))}:{number}",
                hint="each line is a hexadecimal digest, two spaces, and a path",
            )
        path = match[3]
        if match[1]:
            path = re.sub(r"\\[\\nr]", lambda escape: _ESCAPES[escape[0]], path)
        path = parse_path(path.removeprefix("./"))
        checksums[path] = f"{_ALGORITHMS[len(match[2])]}:{match[2].lower()}"
    return checksums


def parse_option(text: str) -> tuple[str, str]:
    """Return the key and the value of ``key=value``.

    Raises:
        ConfigError: There is no ``=`` or no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"not an option: {printable(text)!r}", hint="write --option key=value")
    return key, value
