"""Datasets and their versions.

A dataset names an origin; a version is one immutable manifest of it. Reads name a version, or take
the dataset's *current* one at the time they open. The consistency policy says when the current
version may move:

- ``pinned``: only when somebody says ``cachefs dataset update``;
- ``max_age=60s``: an open that finds the last listing older than that lists the origin again;
- ``validate_on_open``: every open lists again.

Whatever the policy, an open file stays on the version it was opened at.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.errors import ConfigError

DEFAULT_POOL = "default"

_MAX_AGE = re.compile(r"max_age=(\d+(?:\.\d+)?)(ms|s|m|h|d)?", re.ASCII)
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Consistency:
    """When the current version of a dataset may move without being told to."""

    max_age_seconds: float | None
    """Age of a listing after which an open lists again; 0 on every open; ``None`` never."""

    @classmethod
    def parse(cls, text: str) -> "Consistency":
        """Parse ``pinned``, ``max_age=60s`` or ``validate_on_open``."""
        if text == "pinned":
            return cls(None)
        if text == "validate_on_open":
            return cls(0.0)
        match = _MAX_AGE.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"not a consistency policy: {text!r}",
                hint="use pinned, max_age=60s or validate_on_open",
            )
        return cls(float(match[1]) * _UNIT_SECONDS[match[2] or "s"])

    def __str__(self) -> str:
        """Return the text that parses back."""
        if self.max_age_seconds is None:
            return "pinned"
        if self.max_age_seconds == 0:
            return "validate_on_open"
        return f"max_age={self.max_age_seconds:g}s"

    def is_due(self, listed_seconds_ago: float) -> bool:
        """Say whether an open must list the origin again first."""
        return self.max_age_seconds is not None and listed_seconds_ago >= self.max_age_seconds


@dataclass(frozen=True, slots=True)
class OriginSpec:
    """Where the files of a dataset are, and how to open it. Never holds a secret."""

    url: str
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of the store (``endpoint_url``, ``region``, ``anon``) and ``credentials``, which is a
    reference: ``profile:NAME``, ``env:PREFIX`` or ``file:PATH``; absent for the platform's chain."""

    @property
    def identity(self) -> str:
        """What makes two specs name the same bytes: the URL and where it is served."""
        return f"{self.url.rstrip('/')}\0{self.options.get('endpoint_url', '')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What somebody declared, and which version is current."""

    name: DatasetName
    origin: OriginSpec
    include: tuple[str, ...] = ()
    """Globs (``**`` crosses folders); a file must match one, if there are any."""
    exclude: tuple[str, ...] = ()
    """Globs; a file that matches one is left out."""
    consistency: Consistency = Consistency(None)
    pool: str = DEFAULT_POOL
    replicas: int = 1
    """On how many workers each block is kept."""
    pins: tuple[str, ...] = ()
    """Paths (``""`` for all) whose blocks are never evicted."""
    ttl_seconds: float | None = None
    """Blocks unread for so long are evicted; ``None``: only to make room."""
    versions_kept: int = 3
    current: VersionId | None = None
    """``None`` until the origin was listed for the first time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a dataset, without its file list."""

    id: VersionId
    dataset: DatasetName
    origin: OriginSpec
    """The dataset's origin with anything that moves pinned down (a Hub branch to its commit)."""
    client: str
    """The origin client that was chosen: ``obstore``, ``fsspec``, ``local``, ``http`` or ``hub``."""
    client_reason: str
    file_count: int
    size: int
    """Bytes of all files."""
    listed_at: float
    """Seconds since 1970, by the coordinator's clock."""
