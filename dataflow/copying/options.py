"""How a copy is made, and what it is made with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cachefs.dataflow.copying.asking import REQUEST_BYTES_MIN
from cachefs.dataflow.copying.plans import PART_BYTES
from cachefs.dataflow.spec.arguments import Verification
from cachefs.origins.destinations import Destination
from cachefs.ports import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """How files are copied."""

    key: str
    """Of the step: who resumes has the same."""
    verify: Verification
    parallel: int
    rate: int = 0
    """Bytes a second, of all threads; 0 for no limit."""
    part_bytes: int = PART_BYTES


class Ends(NamedTuple):
    """What is copied from, and to. The caller's to close."""

    source: Origin
    spent: Callable[[], int]
    """Bytes that were taken from an origin, since the source was opened."""
    destination: Destination
    there: Callable[[], Origin]
    """Opens what reads at the destination; the same at each call."""
    request_bytes_min: int = REQUEST_BYTES_MIN
    """Of a request to the source, however slow it is."""
    charged: bool = False
    """Whether the source's origin may charge for what is taken from it."""
