"""Datasets: what ``kind: Dataset`` declares. ``NAME`` in the namespace ``NS`` is the coordinator's ``NS/NAME``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cachefs.core.datasets import DEFAULT_POOL, Consistency, Dataset, OriginSpec
from cachefs.core.names import DatasetName, parse_path
from cachefs.k8s.crds import forms
from cachefs.k8s.crds.forms import Column, Definition, Document, Rule, Schema
from cachefs.k8s.crds.quantities import parse_duration, parse_quantity
from cachefs.k8s.crds.reading import Fields, fields_of
from cachefs.k8s.names import DATASETS

PHASES = ("Pending", "Listing", "Ready", "Warming", "Cached", "Failed")
CONDITIONS = ("Ready", "Cached", "Synced")
EVERYTHING = "/"
"""Among ``pins`` and paths to be kept warm: the whole dataset. No path of a file begins with it."""
EVERY_NAMESPACE = "*"
OPTIONS = ("credentials", "endpoint_url", "region", "anon", "addressing", "account")
"""All that an origin is told beside its URL; no secret is among them."""

_PATH_LENGTH_MAX = 1024
_PATHS_MAX = 256
_SHARES_MAX = 256

_PINNED = Consistency(None)

ReclaimPolicy = Literal["Delete", "Retain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """What is kept warm."""

    paths: tuple[str, ...] = ()
    """Files and folders; all for none."""
    rate: int = 0
    """Bytes a second, over all workers; 0 for no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """The claim that pods name to see a dataset."""

    enabled: bool = True
    follow_current: bool = False
    """A pod sees the version that is current while it runs, not the one that was when it began."""
    storage_bytes: int | None = None
    """What the claim says it asks for; ``None`` for what the dataset has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """What an object of the kind says."""

    name: DatasetName
    url: str
    options: Mapping[str, str] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    version: str | None = None
    """What shall be current: an id or a label; ``None`` for what the coordinator makes so."""
    consistency: Consistency = _PINNED
    pool: str = DEFAULT_POOL
    replicas: int = 1
    ttl_seconds: float | None = None
    versions_kept: int = 3
    pins: tuple[str, ...] = ()
    """As the coordinator has them: ``""`` is everything."""
    warm: Warm | None = None
    volume: Volume = Volume()
    shared_with: tuple[str, ...] = ()
    reclaim: ReclaimPolicy = "Delete"

    def serves(self, namespace: str) -> bool:
        """Say whether pods of a namespace may use the dataset."""
        return namespace == self.name.namespace or bool(
            {namespace, EVERY_NAMESPACE} & set(self.shared_with)
        )

    def dataset(self) -> Dataset:
        """Return the declaration that the coordinator takes."""
        return Dataset(
            name=self.name,
            origin=OriginSpec(self.url, dict(self.options)),
            include=self.include,
            exclude=self.exclude,
            consistency=self.consistency,
            pool=self.pool,
            replicas=self.replicas,
            pins=self.pins,
            ttl_seconds=self.ttl_seconds,
            versions_kept=self.versions_kept,
        )


def parse(document: Document) -> DatasetSpec:
    """Return what an object of the kind says.

    Raises:
        ConfigError: It makes no sense; its subject is the field.
    """
    spec, metadata = fields_of(document, "spec"), fields_of(document, "metadata")
    ttl = spec.optional("ttl", parse_duration)
    return DatasetSpec(
        name=DatasetName.parse(
            f"{metadata.needed_text('namespace')}/{metadata.needed_text('name')}"
        ),
        url=spec.needed_text("url"),
        options=spec.texts_by_name("options"),
        include=spec.texts("include"),
        exclude=spec.texts("exclude"),
        version=spec.text("version", "") or None,
        consistency=Consistency.parse(spec.text("consistency", "pinned")),
        pool=spec.text("pool", DEFAULT_POOL),
        replicas=spec.whole("replicas", 1),
        ttl_seconds=ttl or None,
        versions_kept=spec.whole("versionsKept", 3),
        pins=_paths(spec, "pins"),
        warm=_warm(spec),
        volume=_volume(spec),
        shared_with=spec.texts("sharedWith"),
        reclaim="Retain" if spec.text("reclaimPolicy", "Delete") == "Retain" else "Delete",
    )


def _paths(spec: Fields, name: str) -> tuple[str, ...]:
    """Return paths as the coordinator writes them."""
    return tuple("" if path == EVERYTHING else parse_path(path) for path in spec.texts(name))


def _warm(spec: Fields) -> Warm | None:
    warm = spec.inner("warm")
    if warm is None or not warm.flag("enabled", default=True):
        return None
    paths = _paths(warm, "paths")
    return Warm(paths=() if "" in paths else paths, rate=warm.optional("rate", parse_quantity) or 0)


def _volume(spec: Fields) -> Volume:
    volume = spec.inner("volume")
    if volume is None:
        return Volume()
    return Volume(
        enabled=volume.flag("enabled", default=True),
        follow_current=volume.flag("followCurrent", default=False),
        storage_bytes=volume.optional("storage", parse_quantity),
    )


def definition() -> Document:
    """Return what teaches the API server the kind."""
    return Definition(
        kind=DATASETS,
        short="cds",
        description="Files in an origin (a bucket, the Hugging Face Hub, an HTTP server), cached by a pool of workers.",
        spec=_spec(),
        status=_status(),
        columns=(
            Column("Phase", ".status.phase"),
            Column("Cached", ".status.cachedText", description="How much of it workers hold."),
            Column("Size", ".status.bytesText"),
            Column("Version", ".status.versionText"),
            Column("URL", ".spec.url", is_wide=True),
            Column("Pool", ".spec.pool", is_wide=True),
            forms.AGE,
        ),
        rules=(
            Rule(
                f"self.metadata.name.size() <= {forms.NAME_LENGTH_MAX}",
                f"a dataset's name has at most {forms.NAME_LENGTH_MAX} characters",
            ),
        ),
    ).document()


def _spec() -> Schema:
    return forms.fields(
        "What is wanted.",
        {**_where(), **_how(), **_who()},
        required=("url",),
        **forms.rules(
            Rule(
                "!has(self.version) || self.consistency == 'pinned'",
                "a version can be named only where consistency is pinned: otherwise the origin says what is current",
                field=".version",
            ),
        ),
    )


def _where() -> dict[str, Schema]:
    names = ", ".join(f"'{each}'" for each in OPTIONS)
    glob = forms.text("A glob; ** crosses folders.", most=_PATH_LENGTH_MAX, minLength=1)
    return {
        "url": forms.text(
            "Where the files are, such as s3://bucket/folder, gs://bucket/folder, az://container/folder, "
            "hf://org/model@revision or https://host/folder. A change makes a new version.",
            most=2048,
            pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://.+",
            **forms.rules(
                Rule(
                    "self.startsWith('hf://') || !self.matches('^[^:]+://[^/]*@')",
                    "a URL holds no user name and no password: name credentials in options",
                ),
            ),
        ),
        "options": forms.mapping(
            "How the origin is opened: endpoint_url, region, anon, addressing, account; and credentials, "
            "which is a reference that workers resolve: env:PREFIX, profile:NAME or file:PATH. Never a secret.",
            forms.text("The option's value.", most=_PATH_LENGTH_MAX),
            most=16,
            **forms.rules(
                Rule(
                    f"self.all(name, name in [{names}])",
                    f"options are {', '.join(OPTIONS)}; secrets are never written here",
                ),
                Rule(
                    "!('credentials' in self) || self['credentials'].matches('^(env|profile|file):.+')",
                    "credentials are a reference: env:PREFIX, profile:NAME or file:PATH",
                ),
            ),
        ),
        "include": forms.listing(
            "Globs; a file must match one of them, if there are any.", glob, most=_PATHS_MAX
        ),
        "exclude": forms.listing(
            "Globs; a file that matches one is left out.", glob, most=_PATHS_MAX
        ),
    }


def _how() -> dict[str, Schema]:
    path = forms.text("A file or a folder; / for all.", most=_PATH_LENGTH_MAX, minLength=1)
    return {
        "version": forms.text(
            "The version that shall be current: its id, the beginning of that, or a label. Without it, what was "
            "listed or published last.",
            most=forms.NAME_LENGTH_MAX,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        ),
        "consistency": forms.text(
            "When the current version may move without being told to: pinned (never), max_age=60s (an open that finds "
            "the listing older lists again), validate_on_open (each open does).",
            most=64,
            pattern=r"^(pinned|validate_on_open|max_age=[0-9]+(\.[0-9]+)?(ms|s|m|h|d)?)$",
            default="pinned",
        ),
        "pool": forms.name("The pool whose workers cache it.", default=DEFAULT_POOL),
        "replicas": forms.whole("On how many workers each block is kept.", 1, 64, default=1),
        "ttl": forms.duration(
            "Blocks that were not read for so long are evicted; without it, only to make room."
        ),
        "versionsKept": forms.whole("How many versions are remembered.", 1, 1000, default=3),
        "pins": forms.members(
            "Files and folders whose blocks are never evicted; / for all.", path, most=_PATHS_MAX
        ),
        "warm": forms.fields(
            "Keeps it warm: what the workers do not hold, they fill, also of each new version.",
            {
                "enabled": forms.flag("Whether it is kept warm.", default=True),
                "paths": forms.listing(
                    "Files and folders; all of them without it.", path, most=_PATHS_MAX
                ),
                "rate": forms.size("Bytes a second, over all workers; no limit without it."),
            },
        ),
    }


def _who() -> dict[str, Schema]:
    return {
        "volume": forms.fields(
            "The claim of the dataset's name, which pods name to see the files. It can only be read.",
            {
                "enabled": forms.flag("Whether there is one.", default=True),
                "followCurrent": forms.flag(
                    "A pod sees what is current while it runs, not what was current when it began.",
                    default=False,
                ),
                "storage": forms.size(
                    "What the claim says it asks for: quotas count it. What the dataset has without it."
                ),
            },
            default={},
        ),
        "sharedWith": forms.members(
            "Other namespaces whose pods may use the dataset; * for all.",
            forms.text(
                "A namespace, or *.",
                most=forms.NAME_LENGTH_MAX,
                pattern=r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$",
            ),
            most=_SHARES_MAX,
        ),
        "reclaimPolicy": forms.choice(
            "What becomes of the coordinator's dataset, and of what is cached of it, when this object is deleted. "
            "The origin's files are never touched.",
            "Delete",
            "Retain",
            default="Delete",
        ),
    }


def _status() -> dict[str, Any]:  # Any: a schema
    short = 128
    return forms.fields(
        "What is.",
        {
            "observedGeneration": forms.generation(),
            "phase": forms.choice("The state in one word.", *PHASES),
            "version": forms.text("The id of the version that is current.", most=short),
            "versionText": forms.text("The beginning of that, for people.", most=short),
            "files": forms.count("How many files that version has."),
            "bytes": forms.count("How many bytes they have."),
            "bytesText": forms.text("The same for people: 4.2 GiB.", most=short),
            "cachedBytes": forms.count("How many of these bytes workers hold."),
            "cachedPercent": forms.whole("The same as a share, rounded down.", 0, 100),
            "cachedText": forms.text("The same for people: 37 %.", most=short),
            "claim": forms.text("The name of the volume claim.", most=253),
            "conditions": forms.conditions(*CONDITIONS),
        },
    )
