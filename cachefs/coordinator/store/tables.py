"""The schema.

Lists and mappings that are only ever read whole are JSON text: both engines store text alike. Names
of datasets are written in full (``namespace/name``). Times are seconds since 1970, for people;
nothing is decided by comparing two machines' clocks, but for what is counted in days.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

COUNTERS = Table(
    "counters",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""``epoch`` numbers the views; ``catalogue`` grows with every change of datasets, versions or pins,
and ``pins`` with every change of what workers must keep or let go; ``pools`` is what changes of
pools, and warm-ups with a key, queue up at; ``hints`` grows with every change of reservations;
``executors`` grows while somebody asks for the programs that are handed out; ``events`` numbers the events, in the order of their transactions (a sequence would not)."""

MANIFESTS = Table(
    "manifests",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("encoded", LargeBinary, nullable=False),
)

DATASETS = Table(
    "datasets",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("include", Text, nullable=False),
    Column("exclude", Text, nullable=False),
    Column("consistency", Text, nullable=False),
    Column("pool", Text, nullable=False),
    Column("replicas", Integer, nullable=False),
    Column("pins", Text, nullable=False),
    Column("ttl_seconds", Double),
    Column("versions_kept", Integer, nullable=False),
    Column("current", Text),
    Column("listed_at", Double, nullable=False),
)

VERSIONS = Table(
    "versions",
    METADATA,
    Column("dataset", Text, ForeignKey("datasets.name", ondelete="CASCADE"), nullable=False),
    Column("id", Text, ForeignKey("manifests.id"), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("url", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("client_reason", Text, nullable=False),
    Column("file_count", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("listed_at", Double, nullable=False),
    PrimaryKeyConstraint("dataset", "id"),
)
"""``number`` orders a dataset's versions by when they were last found in the origin."""

LABELS = Table(
    "labels",
    METADATA,
    Column("dataset", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("options", Text, nullable=False),
    PrimaryKeyConstraint("dataset", "label"),
    ForeignKeyConstraint(
        ["dataset", "version"], ["versions.dataset", "versions.id"], ondelete="CASCADE"
    ),
)
"""Other names of versions. ``url`` and ``options`` say which origin the version was listed in, as
somebody wrote it: what moves there (a branch) is not pinned."""

BLOCK_DIGESTS = Table(
    "block_digests",
    METADATA,
    Column("file_version", Text, primary_key=True),
    Column("digests", LargeBinary, nullable=False),
)
"""Packed as :mod:`cachefs.wire.digests` does it."""

MEMBERS = Table(
    "members",
    METADATA,
    Column("worker", Text, primary_key=True),
    Column("incarnation", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("pool", Text, nullable=False),
    Column("weight", Double, nullable=False),
    Column("data_address", Text, nullable=False),
    Column("control_address", Text, nullable=False),
    Column("socket_path", Text, nullable=False),
    Column("draining", Boolean, nullable=False),
)

RENEWALS = Table(
    "renewals",
    METADATA,
    Column("worker", Text, ForeignKey("members.worker", ondelete="CASCADE"), primary_key=True),
    Column("renewals", BigInteger, nullable=False),
    Column("residency_known", Boolean, nullable=False),
    Column("statistics", Text, nullable=False),
)
"""What changes with every renewal. Other coordinators see a worker live by ``renewals`` changing."""

REPORTS = Table(
    "reports",
    METADATA,
    Column("worker", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("whole", BigInteger, nullable=False),
    Column("gone_at", Double),
)
"""How often a worker's recorded residency has changed, and at which of these changes it reported
everything; it outlives the membership. ``gone_at`` is when it was found to be no member any more."""

RESIDENCY = Table(
    "residency",
    METADATA,
    Column("worker", Text, nullable=False),
    Column("file_version", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("resident", LargeBinary, nullable=False),
    Column("revision", BigInteger, nullable=False),
    PrimaryKeyConstraint("worker", "file_version", "tier"),
    Index("ix_residency_worker_revision", "worker", "revision"),
)
"""A row whose bitmap is empty says that the file version has left, for whoever reads only the
revisions since the last that it saw. A whole report deletes such rows; who has not seen that
report reads everything."""

WARM_JOBS = Table(
    "warm_jobs",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("dataset", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("paths", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("bytes_total", BigInteger, nullable=False),
    Column("blocks_total", BigInteger, nullable=False),
    Column("bytes_done", BigInteger, nullable=False),
    Column("blocks_done", BigInteger, nullable=False),
    Column("failure", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double, nullable=False),
    Column("released", Boolean, nullable=False),
    Column("key", Text, nullable=False, server_default=""),
    Column("zone", Text, nullable=False, server_default=""),
    Column("copies", Integer, nullable=False, server_default="0"),
    Column("rate", BigInteger, nullable=False, server_default="0"),
    Column("map", Text, nullable=False, server_default=""),
    Column("workers", Text, nullable=False, server_default=""),
    Index("ix_warm_jobs_released", "released"),
)
"""``released`` once the job has ended and the workers were told to forget it."""

RESIDENCY_MAPS = Table(
    "residency_maps",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("dataset", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("saved_at", Double, nullable=False),
    Column("blocks", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("encoded", LargeBinary, nullable=False),
    Index("ix_residency_maps_dataset", "dataset"),
)
"""Which blocks of a version were resident anywhere at a moment, to be warmed from later."""

POOLS = Table(
    "pools",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("wanted", Integer),
    Column("wanted_by_zone", Text, nullable=False),
    Column("least", Integer, nullable=False),
    Column("most", Integer),
    Column("exclusive", Text, nullable=False),
    Column("leaving", Text, nullable=False),
    Column("problem", Text, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
)
"""Pools as they shall be; one that nobody has said anything about has no row."""

POLICIES = Table(
    "policies",
    METADATA,
    Column("kind", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("document", Text, nullable=False),
    PrimaryKeyConstraint("kind", "scope"),
)
"""Policies that run by themselves. ``kind`` is ``pool`` or ``idle``; ``scope`` a pool's name, or a dataset's,
a namespace's, or empty for everything."""

DATASET_USES = Table(
    "dataset_uses",
    METADATA,
    Column("dataset", Text, primary_key=True),
    Column("uses", BigInteger, nullable=False),
    Column("used_at", Double, nullable=False),
)
"""Other coordinators see a dataset used by ``uses`` changing; ``used_at`` is for whoever starts later."""

RESERVATIONS = Table(
    "reservations",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("document", Text, nullable=False),
)
"""Places on nodes that are kept for jobs, and the jobs in line for some."""

LESSONS = Table(
    "lessons",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("document", Text, nullable=False),
)
"""What outcomes of hints have taught, whole."""

EVENTS = Table(
    "events",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("message", Text, nullable=False),
)

SUSPECTS = Table(
    "suspects",
    METADATA,
    Column("worker", Text, primary_key=True),
    Column("reports", BigInteger, nullable=False),
    Column("last_at", Double, nullable=False),
    Column("reason", Text, nullable=False),
)

LEADERS = Table(
    "leaders",
    METADATA,
    Column("duty", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("renewals", BigInteger, nullable=False),
)
"""Which of several coordinators does what only one should do."""

RUNS = Table(
    "runs",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("flow", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("group_name", Text, nullable=False),
    Column("key", Text),
    Column("cause", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("wants", Text, nullable=False),
    Column("ending", Text, nullable=False),
    Column("keep_cache", Boolean, nullable=False),
    Column("failure", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double, nullable=False),
    Column("owner", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("changes", BigInteger, nullable=False),
    UniqueConstraint("flow", "key"),
    Index("ix_runs_state", "state"),
    Index("ix_runs_number", "number"),
)
"""``number`` is a run's place in the queue. ``owner`` is the coordinator that carries it out, empty
while none does; only who knows ``fence``, which grows with each new owner, may write what happened.
``events`` numbers the run's events. ``changes`` grows whenever somebody else wrote what the owner
must look at: a wish, an answer."""

RUN_STEPS = Table(
    "run_steps",
    METADATA,
    Column("run", Text, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("id", Text, nullable=False),
    Column("place", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("not_before", Double, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("checkpoint", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("outputs", Text, nullable=False),
    Column("progress", Text, nullable=False),
    Column("failure", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double, nullable=False),
    PrimaryKeyConstraint("run", "id"),
)
"""``place`` counts the flow's steps in the order in which they were written; instances have that of their
step. ``answer`` is what a person said to a step that asks; empty, or a JSON object."""

RUN_EVENTS = Table(
    "run_events",
    METADATA,
    Column("run", Text, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("step", Text, nullable=False),
    Column("message", Text, nullable=False),
    PrimaryKeyConstraint("run", "number"),
)

RUN_OWNERS = Table(
    "run_owners",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("renewals", BigInteger, nullable=False),
)
"""The coordinators that carry out runs. Others see one live by ``renewals`` changing; a row that does
not change for a whole lease is deleted together with the ownership of all its runs."""

FLOWS = Table(
    "flows",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("registered_at", Double, nullable=False),
    Column("owner", Text, nullable=False, server_default=""),
)
"""Flows that something other than a person starts. ``owner`` is whatever a program that registered one wants to know
it by again."""

TRIGGERS = Table(
    "triggers",
    METADATA,
    Column("flow", Text, ForeignKey("flows.name", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    PrimaryKeyConstraint("flow", "number"),
)
"""``position`` is how far a trigger has looked: the last event's number, or the last second of which
a timetable was asked. For a webhook ``spec`` holds its token's digest."""

PROGRAMS = Table(
    "programs",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("run", Text, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("step", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("part", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("wanted", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("stop", Boolean, nullable=False),
    Column("report", Text, nullable=False),
    Index("ix_programs_state", "state"),
    Index("ix_programs_run", "run"),
)
"""Programs of steps that somebody else runs. ``wanted`` and ``stop`` are the step's, ``state`` and ``report`` what
whoever runs it has seen. ``part`` tells the programs of one attempt apart."""

TARGETS = Table(
    "targets",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("asked", BigInteger, nullable=False),
    Column("answered", BigInteger, nullable=False),
    Column("shape", Text, nullable=False),
    Column("revisions", Text, nullable=False),
    Column("report", Text, nullable=False),
)
"""Targets of rollouts that somebody else changes and looks at: whenever ``asked`` is greater than ``answered``.
``revisions`` are kept, so that an older one can come back."""
