"""Quantities of Kubernetes: ``100Gi``, ``500m``, ``1e3``."""

import re
from decimal import Decimal
from typing import Final

from cachefs.testing.kubernetes.documents import Json

_NUMBER: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([a-zA-Z]*))")
_SUFFIXES: Final = {
    "": Decimal(1),
    **{
        unit: Decimal(1024) ** (n + 1)
        for n, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))
    },
    **{unit: Decimal(1000) ** (n + 1) for n, unit in enumerate(("k", "M", "G", "T", "P", "E"))},
    **{unit: Decimal(1000) ** -(n + 1) for n, unit in enumerate(("m", "u", "n"))},
}


def quantity(value: Json) -> Decimal | None:
    """Return what a quantity means; ``None`` for what is none."""
    found = _NUMBER.fullmatch(str(value))
    if found is None or (found[3] or "") not in _SUFFIXES:
        return None
    return Decimal(found[1] + (found[2] or "")) * _SUFFIXES[found[3] or ""]
