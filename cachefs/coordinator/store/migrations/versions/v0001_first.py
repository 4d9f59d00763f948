"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table, and the counters' rows."""
    _catalogue()
    _members()
    _history()
    for counter in ("epoch", "catalogue", "events"):
        op.execute(f"INSERT INTO counters (name, value) VALUES ('{counter}', 0)")  # noqa: S608 - constants


def _catalogue() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "manifests",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("encoded", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "datasets",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("include", sa.Text, nullable=False),
        sa.Column("exclude", sa.Text, nullable=False),
        sa.Column("consistency", sa.Text, nullable=False),
        sa.Column("pool", sa.Text, nullable=False),
        sa.Column("replicas", sa.Integer, nullable=False),
        sa.Column("pins", sa.Text, nullable=False),
        sa.Column("ttl_seconds", sa.Double),
        sa.Column("versions_kept", sa.Integer, nullable=False),
        sa.Column("current", sa.Text),
        sa.Column("listed_at", sa.Double, nullable=False),
    )
    op.create_table(
        "versions",
        sa.Column(
            "dataset", sa.Text, sa.ForeignKey("datasets.name", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("id", sa.Text, sa.ForeignKey("manifests.id"), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("client_reason", sa.Text, nullable=False),
        sa.Column("file_count", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("listed_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("dataset", "id"),
    )
    op.create_table(
        "block_digests",
        sa.Column("file_version", sa.Text, primary_key=True),
        sa.Column("digests", sa.LargeBinary, nullable=False),
    )


def _members() -> None:
    op.create_table(
        "members",
        sa.Column("worker", sa.Text, primary_key=True),
        sa.Column("incarnation", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("zone", sa.Text, nullable=False),
        sa.Column("pool", sa.Text, nullable=False),
        sa.Column("weight", sa.Double, nullable=False),
        sa.Column("data_address", sa.Text, nullable=False),
        sa.Column("control_address", sa.Text, nullable=False),
        sa.Column("socket_path", sa.Text, nullable=False),
        sa.Column("draining", sa.Boolean, nullable=False),
    )
    op.create_table(
        "renewals",
        sa.Column(
            "worker", sa.Text, sa.ForeignKey("members.worker", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("renewals", sa.BigInteger, nullable=False),
        sa.Column("residency_known", sa.Boolean, nullable=False),
        sa.Column("statistics", sa.Text, nullable=False),
    )
    op.create_table(
        "reports",
        sa.Column("worker", sa.Text, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("whole", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "residency",
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("file_version", sa.Text, nullable=False),
        sa.Column("tier", sa.Text, nullable=False),
        sa.Column("resident", sa.LargeBinary, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("worker", "file_version", "tier"),
    )
    op.create_index("ix_residency_worker_revision", "residency", ["worker", "revision"])
    op.create_table(
        "suspects",
        sa.Column("worker", sa.Text, primary_key=True),
        sa.Column("reports", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "leaders",
        sa.Column("duty", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("renewals", sa.BigInteger, nullable=False),
    )


def _history() -> None:
    op.create_table(
        "warm_jobs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("paths", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("bytes_total", sa.BigInteger, nullable=False),
        sa.Column("blocks_total", sa.BigInteger, nullable=False),
        sa.Column("bytes_done", sa.BigInteger, nullable=False),
        sa.Column("blocks_done", sa.BigInteger, nullable=False),
        sa.Column("failure", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double, nullable=False),
        sa.Column("released", sa.Boolean, nullable=False),
    )
    op.create_index("ix_warm_jobs_released", "warm_jobs", ["released"])
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
    )
