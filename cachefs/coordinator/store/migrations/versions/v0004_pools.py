"""Pools, residency maps, and what else a warm-up can be told."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables, and the columns with what warm-ups did so far."""
    op.create_table(
        "pools",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("wanted", sa.Integer),
        sa.Column("wanted_by_zone", sa.Text, nullable=False),
        sa.Column("least", sa.Integer, nullable=False),
        sa.Column("most", sa.Integer),
        sa.Column("exclusive", sa.Text, nullable=False),
        sa.Column("leaving", sa.Text, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "residency_maps",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("saved_at", sa.Double, nullable=False),
        sa.Column("blocks", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("encoded", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_residency_maps_dataset", "residency_maps", ["dataset"])
    for column in ("key", "zone", "map"):
        op.add_column("warm_jobs", sa.Column(column, sa.Text, nullable=False, server_default=""))
    op.add_column("warm_jobs", sa.Column("copies", sa.Integer, nullable=False, server_default="0"))
    op.add_column("warm_jobs", sa.Column("rate", sa.BigInteger, nullable=False, server_default="0"))
    op.execute("INSERT INTO counters (name, value) VALUES ('pools', 0)")
