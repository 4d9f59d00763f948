"""What a server makes of a document that it was sent: numbers written otherwise, and nothing where nothing was said.

The API server writes ``1024Mi`` as ``1Gi`` and ``0.5`` as ``500m``, and leaves out what is empty. Whoever compares
without knowing that finds a difference for ever.
"""

import re
from collections.abc import Mapping
from decimal import Decimal

_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?", re.ASCII)
_UNITS: Mapping[str | None, Decimal] = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def says(found: object, wanted: object) -> bool:
    """Say whether what a server shows says all that it was told, whatever it says besides."""
    if isinstance(wanted, Mapping):
        there = found if isinstance(found, Mapping) else {}
        return all(says(there.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list | tuple):
        there_all = found if isinstance(found, list | tuple) else ()
        return len(there_all) == len(wanted) and all(map(says, there_all, wanted))
    if found == wanted or (found is None and wanted == ""):
        return True
    one, other = _number(found), _number(wanted)
    return one is not None and one == other


def _number(value: object) -> Decimal | None:
    match = _NUMBER.fullmatch(str(value)) if isinstance(value, str | int | float) else None
    return None if match is None else Decimal(match[1]) * _UNITS[match[2]]
