"""Units in flows: durations, bytes and rates, as people write them.

Beyond what configuration files take, durations may be compound (``1h30m``), and rates are of bits or of
bytes: ``10Gb/s`` is what networks are sold by, ``1GB/s`` what disks are. In sizes the case of a ``b`` says
nothing (``10gb`` is ten gigabytes, as everywhere in cachefs); in rates a small ``b`` is a bit.
"""

import re

from cachefs.config.units import parse_size
from cachefs.errors import ConfigError

SECONDS_MAX = 366 * 86400.0
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d{1,12}(?:\.\d{1,9})?(?:ms|s|m|h|d))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"\d{1,18}(?:\.\d{1,9})? ?(?:[KMGT]i?)?B?", re.ASCII | re.IGNORECASE)
_RATE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?) ?([kKMGT]i?)?(b|B|bit)?(?:/s|ps)", re.ASCII)
_PREFIXES = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def duration(value: object) -> float:
    """Return seconds: ``500ms``, ``5s``, ``20m``, ``1h30m``, ``7d``; a number is in seconds.

    Raises:
        ConfigError: It is not a duration, or longer than a year.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and len(value) < 100 and _DURATION.fullmatch(value):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(value))
    else:
        raise ConfigError("not a duration", hint="write it like 500ms, 5s, 20m, 1h30m or 7d")
    if not 0 <= seconds <= SECONDS_MAX:
        raise ConfigError("not from 0 to 366 days")
    return seconds


def size(value: object) -> int:
    """Return bytes: ``400Gi``, ``400GiB``, ``10GB``, ``8M``; a number is in bytes.

    A bare letter is binary, as in all of cachefs: ``8M`` is ``8MiB``.

    Raises:
        ConfigError: It is not a size.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and _SIZE.fullmatch(value):
        text = value.replace(" ", "")
        return parse_size(f"{text}B" if text.lower().endswith("i") else text)
    raise ConfigError("not a size in bytes", hint="write it like 400GiB, 10GB or 1048576")


def rate(value: object) -> int:
    """Return bytes a second: ``10Gb/s`` is 1.25 GB/s, ``1GB/s``, ``500MiB/s``; 0 is no limit.

    Raises:
        ConfigError: It is not a rate.
    """
    if value == 0 and not isinstance(value, bool):
        return 0
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[3] is None:
        raise ConfigError("not a rate", hint="write it like 10Gb/s (bits) or 1GB/s (bytes)")
    prefix = _PREFIXES[(match[2] or "").replace("k", "K")]
    bits = 1 if match[3] == "B" else 8
    return round(float(match[1]) * prefix / bits)
