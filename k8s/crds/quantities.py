"""Sizes and times as Kubernetes' users write them: ``100Gi``, ``1.5G``, ``30s``, ``1h30m``.

A bare letter is decimal here (``1G`` is a thousand million), as everywhere in Kubernetes; in cachefs' own
configuration it is binary. Whoever writes a custom resource is Kubernetes' user.
"""

import math
import re
from decimal import Decimal

from cachefs.core.names import printable
from cachefs.errors import ConfigError

_UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
    "Ei": 2**60,
}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E)?$"
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
TEXT_LENGTH_MAX = 32
"""Of either."""
_SIZE_MAX = 2**63 - 1
"""What Kubernetes' own quantities end at."""

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E)?", re.ASCII)
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", re.ASCII)


def parse_quantity(value: object, where: str) -> int:
    """Return bytes: of ``100Gi``, of ``1.5G``, of a plain number. What is no whole byte is rounded up.

    Raises:
        ConfigError: It is no size; ``where`` says which field.
    """
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    match = _SIZE.fullmatch(text) if len(text) <= TEXT_LENGTH_MAX else None
    if match is None:
        raise ConfigError(
            f"not a size: {printable(repr(value)[:40])}", subject=where, hint="write 100Gi or 1.5T"
        )
    size = math.ceil(Decimal(match[1]) * _UNITS[match[2] or ""])
    if size > _SIZE_MAX:
        raise ConfigError("more than Kubernetes can count", subject=where)
    return size


def parse_duration(value: object, where: str) -> float:
    """Return seconds: of ``250ms``, ``30s``, ``5m``, ``1h30m``, ``7d``.

    Raises:
        ConfigError: It is no duration; ``where`` says which field.
    """
    text = value if isinstance(value, str) and len(value) <= TEXT_LENGTH_MAX else ""
    parts = list(_PART.finditer(text))
    if not text or "".join(part[0] for part in parts) != text:
        raise ConfigError(
            f"not a duration: {printable(repr(value)[:40])}",
            subject=where,
            hint="write 30s, 5m, 1h30m or 7d",
        )
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)


def show_seconds(seconds: float) -> str:
    """Return a duration as the coordinator reads it, in seconds: ``5400s``, ``0.25s``."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
