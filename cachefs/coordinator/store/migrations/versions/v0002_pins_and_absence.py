"""A revision for the pins, and since when a worker has been gone."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the counter, at 1, which no worker has heard of; and the column, empty."""
    op.execute("INSERT INTO counters (name, value) VALUES ('pins', 1)")
    op.add_column("reports", sa.Column("gone_at", sa.Double))
