"""What a check of ``cachefs doctor`` finds."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    level: Level
    message: str
    advice: str = ""
    """What to do about it; empty when there is nothing to do."""
