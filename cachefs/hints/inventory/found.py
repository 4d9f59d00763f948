"""What is found for a reading."""

from dataclasses import dataclass

from cachefs.core.hints.spread import Spread
from cachefs.core.hints.spreading import scaled
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.hints.inventory.spreads import Kept
from cachefs.hints.inventory.versions import Named


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where the bytes are that a reading names."""

    dataset: DatasetName
    version: VersionId
    spread: Spread
    """``spread.origin`` is the key of ``links.origins``."""
    files: int
    """How many are read."""
    exact: bool = True
    """``False``: the files that the patterns choose are still being sorted out, which takes long only for
    many thousands; meanwhile the spread is that of all files."""
    revision: int = 0
    """Grows whenever what is found for this reading changes: for whoever watches it."""
    looked_at: float = 0.0
    """The monotonic moment at which the spread was made."""

    @classmethod
    def of(cls, named: Named, kept: Kept, *, exact: bool = True, share: float = 1.0) -> "Found":
        """Return what is kept of a version, or of a share of it if that is like the whole."""
        return cls(
            dataset=named.dataset,
            version=named.id,
            spread=kept.spread if share == 1 else scaled(kept.spread, share),
            files=kept.files,
            exact=exact,
            revision=kept.revision,
            looked_at=kept.made_at,
        )
