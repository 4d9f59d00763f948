"""Reservations, what outcomes have taught, and warm-ups of some workers."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the tables, and the column with what warm-ups did so far."""
    op.create_table(
        "reservations",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "lessons",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.add_column("warm_jobs", sa.Column("workers", sa.Text, nullable=False, server_default=""))
    op.execute("INSERT INTO counters (name, value) VALUES ('hints', 0)")
