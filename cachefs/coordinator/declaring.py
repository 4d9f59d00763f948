"""Declaring: what may be said about a dataset, and what a change of it makes of it. Pure."""

from dataclasses import dataclass, replace

from cachefs.core.datasets import Consistency, Dataset, OriginSpec, Version
from cachefs.core.names import parse_name, parse_path, printable
from cachefs.core.pools import Pool
from cachefs.core.tenants import Tenants, declared
from cachefs.errors import ConfigError, NotAllowedError

REPLICAS_MAX = 64
SHARED_REPLICAS_MAX = 2
"""Of a dataset whose namespace is not trusted, in a pool that it shares: one copy besides the first keeps it
readable while a worker is away, and each one more takes its size again from everybody else's."""
_HUB, _REVISION = "hf://", "@"
"""``hf://org/model@commit/folder`` is what ``hf://org/model/folder`` was pinned to."""
VERSIONS_KEPT_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetChange:
    """What shall be different; ``None`` for what stays."""

    replicas: int | None = None
    consistency: Consistency | None = None
    pool: str | None = None
    pin: tuple[str, ...] = ()
    unpin: tuple[str, ...] = ()
    ttl_seconds: float | None = None
    """0 takes the time to live away."""
    current: str | None = None
    """A version that is kept: its id, an unambiguous prefix of that, or a label."""

    @property
    def touches_pins(self) -> bool:
        """Whether other blocks may be pinned, or have a time to live, afterwards."""
        return bool(self.pin or self.unpin or self.current) or self.ttl_seconds is not None


def check_dataset(dataset: Dataset) -> None:
    """Check what a declaration says, but for what only the origin knows.

    Raises:
        ConfigError: Something in it is not acceptable.
    """
    parse_name(dataset.name.namespace, kind="namespace")
    parse_name(dataset.name.name, kind="dataset")
    parse_name(dataset.pool, kind="pool")
    if not 1 <= dataset.replicas <= REPLICAS_MAX:
        raise ConfigError(f"replicas must be from 1 to {REPLICAS_MAX}")
    if not 1 <= dataset.versions_kept <= VERSIONS_KEPT_MAX:
        raise ConfigError(f"versions_kept must be from 1 to {VERSIONS_KEPT_MAX}")
    if dataset.ttl_seconds is not None and not 0 < dataset.ttl_seconds < float("inf"):
        raise ConfigError("ttl must be longer than nothing")
    for pin in dataset.pins:
        if pin:
            parse_path(pin)


def check_keeping(dataset: Dataset, pool: Pool, tenants: Tenants) -> None:
    """Check that a dataset takes no more of a pool than its namespace may: pinned bytes are never evicted.

    Raises:
        NotAllowedError: It pins, or has more than :data:`SHARED_REPLICAS_MAX` replicas, in a pool that
            others use, too, and its namespace is not trusted.
    """
    namespace = dataset.name.namespace
    if pool.exclusive == namespace or tenants.is_trusted(namespace):
        return
    hint = f"choose a pool that is exclusive to the namespace {namespace}"
    if dataset.pins:
        raise NotAllowedError(
            f"datasets of this namespace are not pinned in the pool {pool.name}, which others use",
            subject=str(dataset.name),
            hint=hint,
        )
    if dataset.replicas > SHARED_REPLICAS_MAX:
        raise NotAllowedError(
            f"datasets of this namespace have at most {SHARED_REPLICAS_MAX} replicas in the pool "
            f"{pool.name}, which others use",
            subject=str(dataset.name),
            hint=hint,
        )


def check_digest(path: str, digest: str) -> None:
    """Check a checksum that somebody gave for a file.

    Raises:
        ConfigError: It is none.
    """
    algorithm, colon, value = digest.partition(":")
    if not (algorithm and colon and value and digest.isascii() and digest.isprintable()):
        raise ConfigError(
            f"not a checksum: {printable(digest)!r}",
            subject=printable(path),
            hint="write algorithm:hex, such as sha256:…",
        )


def changed(old: Dataset, change: DatasetChange) -> Dataset:
    """Return a dataset with a change made to it, but for the version that is current."""
    pins = [pin for pin in old.pins if pin not in change.unpin]
    pins += [pin for pin in change.pin if pin not in pins]
    ttl_seconds = old.ttl_seconds if change.ttl_seconds is None else change.ttl_seconds or None
    return replace(
        old,
        replicas=old.replicas if change.replicas is None else change.replicas,
        consistency=change.consistency or old.consistency,
        pool=old.pool if change.pool is None else change.pool,
        pins=tuple(pins),
        ttl_seconds=ttl_seconds,
    )


def listed_from(dataset: Dataset, version: Version) -> OriginSpec:
    """Return where a version without a label is from: the dataset's origin, unless it is elsewhere.

    A version's own origin is pinned down, and to go back to a commit of a branch must not mean to stay there.
    """
    ours, its = (
        origin.url.partition(_REVISION)[0].rstrip("/")
        for origin in (dataset.origin, version.origin)
    )
    is_same = ours == its or (its.startswith(_HUB) and ours.startswith(f"{its}/"))
    return dataset.origin if is_same else declared(version.origin)


def means(dataset: Dataset) -> tuple[object, ...]:
    """Return what a dataset says of which files are its own."""
    return (dataset.origin.identity, dict(dataset.origin.options), dataset.include, dataset.exclude)


def difference(old: Dataset, new: Dataset) -> str:
    """Say in a phrase what is different between two states of a dataset."""
    fields = (
        "replicas",
        "consistency",
        "pool",
        "pins",
        "ttl_seconds",
        "include",
        "exclude",
        "versions_kept",
        "current",
    )
    return ", ".join(
        f"{field} {getattr(old, field)} → {getattr(new, field)}"
        for field in fields
        if getattr(old, field) != getattr(new, field)
    )
