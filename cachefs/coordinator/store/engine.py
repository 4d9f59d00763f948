"""Open a store and make transactions.

SQLite runs in WAL mode with ``synchronous=FULL``: a change that was acknowledged survives a power
cut, and costs one sync of the log. There are few changes (a renewal a worker each few seconds), so
that is affordable. Its write transactions begin with ``BEGIN IMMEDIATE``, so that none can find at
its first write that another was faster. On Postgres, transactions that must not interleave lock a
row of ``counters`` first, by changing it.

Failures of the database end here: they become ``CoordinatorUnavailableError``, which tells a caller
to try again.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from cachefs.errors import ConfigError, CoordinatorUnavailableError

_LOG = logging.getLogger("cachefs.coordinator")

BUSY_SECONDS = 10
"""How long a transaction waits for another's lock before it fails."""
STATEMENT_SECONDS = 60
"""How long Postgres works on one statement; the longest writes a manifest of 100 MB."""
_SILENCE_SECONDS = 20
"""How long what was sent to Postgres may stay unacknowledged before the connection is given up: a
host that vanished answers nothing at all."""
CONNECTIONS_LIMIT = 16
"""Transactions at once; more wait."""
_MIGRATION_LOCK = 0x63616368656673
"""Postgres' advisory lock while the schema changes; the letters of our name."""
_BEGIN = "cachefs_begin"


class Store:
    """A database with our schema."""

    def __init__(self, url: str) -> None:
        """Connect, and bring the schema up to date.

        Args:
            url: ``sqlite:///PATH`` or ``postgresql://…``.

        Raises:
            ConfigError: The URL is of no use, or a newer cachefs wrote the store.
            CoordinatorUnavailableError: The database does not answer.
        """
        self._engine = _open(url)
        self._migrate()

    @property
    def is_shared(self) -> bool:
        """Whether several coordinators may use the store at once."""
        return self._engine.dialect.name != "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads."""
        with _translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that is committed at the end, or rolled back if an error leaves it."""
        with (
            _translated(),
            self._engine.connect().execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}) as connection,
            connection.begin(),
        ):
            yield connection

    def close(self) -> None:
        """Release the connections; idempotent."""
        self._engine.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", "cachefs.coordinator.store:migrations")
        with self.write() as connection:
            if self.is_shared:
                connection.execute(
                    sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_MIGRATION_LOCK))
                )
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise ConfigError(
                    "the store was written by a newer cachefs",
                    subject=self._engine.url.render_as_string(hide_password=True),
                    hint="run that one, or give this one a store of its own",
                ) from error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as error:
        _LOG.warning("the store failed", extra={"failure": type(error).__name__})
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise CoordinatorUnavailableError(
            "the coordinator's store does not answer", hint=f"{type(cause).__name__}: {cause}"[:500]
        ) from error


def _open(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
            return _open_postgres(parsed.set(drivername="postgresql+psycopg"))
        if parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:"):
            return _open_sqlite(parsed)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigError(
            "not a store URL, or its driver is missing",
            hint="sqlite:///PATH, or postgresql://… with the package psycopg",
        ) from error
    raise ConfigError("not a store URL", hint="sqlite:///PATH or postgresql://…")


def _open_sqlite(url: sqlalchemy.URL) -> Engine:
    engine = sqlalchemy.create_engine(
        url,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        pool_size=CONNECTIONS_LIMIT,
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        poolclass=sqlalchemy.QueuePool,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:  # Any: the driver's own
        connection.isolation_level = None  # we say when a transaction begins
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    return engine


def _open_postgres(url: sqlalchemy.URL) -> Engine:
    settings = {
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "lock_timeout": f"{BUSY_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{STATEMENT_SECONDS}s",
    }
    return sqlalchemy.create_engine(
        url,
        connect_args={
            "connect_timeout": BUSY_SECONDS,
            "tcp_user_timeout": _SILENCE_SECONDS * 1000,
            "keepalives_idle": _SILENCE_SECONDS // 2,
            "keepalives_interval": _SILENCE_SECONDS // 4,
            "application_name": "cachefs-coordinator",
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        },
        pool_size=CONNECTIONS_LIMIT,
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        pool_pre_ping=True,
    )
