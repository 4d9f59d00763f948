"""What Alembic runs: the steps that are still missing, in the transaction that it is handed."""

from alembic import context

from cachefs.coordinator.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite can roll back changes of the schema; Alembic does not rely on it unless told to.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
