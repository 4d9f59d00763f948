"""A private PostgreSQL server on a Unix socket, which a test can kill, stop and start again."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Self

import pytest
import sqlalchemy

START_SECONDS = 20.0


def find_postgres() -> Path:
    """Return the folder of the newest server's programs, or skip the test."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("there is no PostgreSQL server: apt-get install postgresql")
    return found[-1].parent


class Postgres:
    """A server with a data folder of its own; a context manager."""

    def __init__(self, binaries: Path) -> None:
        """Make the data folder."""
        self._binaries = binaries
        # The server refuses root, and pytest's own folders are closed to others.
        self._folder = Path(tempfile.mkdtemp(prefix="cachefs-postgres-"))
        self._user: dict[str, object] = {}
        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres", "postgres")
            self._user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        self._data = self._folder / "data"
        self._server: subprocess.Popen[bytes] | None = None
        subprocess.run(
            [binaries / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=self._folder,
            **self._user,  # type: ignore[call-overload]
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        settings = {
            "fsync": "off",
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *arguments],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                **self._user,  # type: ignore[call-overload]
            )
        self._wait_until_ready(self._server)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server and to each of its processes: they are in no one group."""
        assert self._server is not None
        pid = self._server.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            try:
                os.kill(each, number)
            except ProcessLookupError:
                continue

    def kill(self) -> None:
        """End the server as a crash does."""
        assert self._server is not None
        self.send(signal.SIGKILL)
        self._server.wait(20)

    def make_database(self, name: str) -> str:
        """Make an empty database, and return its URL."""
        engine = self._engine("AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return self._url(name)

    def close(self) -> None:
        """End the server, and remove what it wrote."""
        if self._server is not None and self._server.poll() is None:
            self.send(signal.SIGCONT)
            # Postgres calls it a fast shutdown: whoever is connected still is cut off.
            self._server.send_signal(signal.SIGINT)
            try:
                self._server.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def _engine(self, isolation_level: str) -> sqlalchemy.Engine:
        url = self._url("postgres").replace("postgresql:", "postgresql+psycopg:")
        return sqlalchemy.create_engine(url, isolation_level=isolation_level)

    def _wait_until_ready(self, server: "subprocess.Popen[bytes]") -> None:
        engine = self._engine("READ COMMITTED")
        pause = threading.Event()
        for _ in range(int(START_SECONDS / 0.05)):
            assert server.poll() is None, (self._folder / "log").read_text()
            try:
                with engine.connect():
                    engine.dispose()
                    return
            except sqlalchemy.exc.OperationalError:
                pause.wait(0.05)
        pytest.fail("the server did not become ready")
