"""Units: ``64MiB``, ``30s`` and ``7d`` as people write them, bytes and seconds as code wants them."""

import re

from cachefs.errors import ConfigError

_SIZES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "k": 2**10,
    "m": 2**20,
    "g": 2**30,
    "t": 2**40,
}
"""A bare letter is binary, as in ``dd`` and Kubernetes' users' habits with ``Gi``."""
_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.ASCII | re.IGNORECASE)
_BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def parse_size(text: str) -> int:
    """Return bytes: ``4GiB``, ``500MB``, ``1048576``.

    Raises:
        ConfigError: It is not a size.
    """
    value, unit = _quantity(text, "size", "write it like 4GiB, 500MB or 1048576")
    unit = unit.lower().removesuffix("i") + ("ib" if unit.lower().endswith("i") else "")
    if unit not in _SIZES:
        raise ConfigError(f"not a size: {text!r}", hint="units are B, KiB, MiB, GiB, TiB, KB, MB …")
    return round(value * _SIZES[unit])


def parse_rate(text: str) -> float:
    """Return bytes a second: ``25Gbit``, ``25Gbit/s``, ``3GB/s``, ``800MiB``.

    Raises:
        ConfigError: It is not a rate.
    """
    value, unit = _quantity(
        text.removesuffix("/s"), "rate", "write it like 25Gbit, 3GB/s or 800MiB"
    )
    unit = unit.lower()
    if unit.endswith("bit") and unit.removesuffix("it") in _SIZES:
        return value * _SIZES[unit.removesuffix("it")] / 8
    if unit not in _SIZES:
        raise ConfigError(f"not a rate: {text!r}", hint="units are Gbit, GB, GiB, Mbit, MB …")
    return value * _SIZES[unit]


def parse_duration(text: str) -> float:
    """Return seconds: ``250ms``, ``30s``, ``5m``, ``2h``, ``7d``.

    Raises:
        ConfigError: It is not a duration.
    """
    value, unit = _quantity(text, "duration", "write it like 250ms, 30s, 5m, 2h or 7d")
    if unit.lower() not in _SECONDS:
        raise ConfigError(f"not a duration: {text!r}", hint="units are ms, s, m, h, d")
    return value * _SECONDS[unit.lower()]


def format_size(size: float) -> str:
    """Return bytes for people, with three significant digits: ``86.7 MiB``."""
    value = float(size)
    for unit in _BINARY_UNITS:
        if abs(value) < 1024 or unit == _BINARY_UNITS[-1]:
            break
        value /= 1024
    if unit == "B":
        return f"{value:.0f} B"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f} {unit}"


def format_duration(seconds: float) -> str:
    """Return seconds for people: ``85 ms``, ``4.2 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def _quantity(text: str, kind: str, hint: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ConfigError(f"not a {kind}: {text!r}", hint=hint)
    return float(match[1]), match[2]
