"""The system of the demo, used as a person would: through the command ``cachefs``."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.demo.telling import command
from cachefs.cli.system.children import die_with_parent

_STOP_SECONDS = 30.0


class System:
    """A running cachefs on a state folder of its own."""

    def __init__(self, state: Path, environment: Mapping[str, str]) -> None:
        """Use the given environment for every command."""
        self.state = state
        self._mountpoint = state.parent / "mount"
        folders = {"CACHEFS_STATE": str(state), "CACHEFS_RUN": str(state.parent / "run")}
        self._environment = {**environment, **folders}

    def run(self, *words: str, note: str = "", shown: Sequence[str] = ()) -> None:
        """Show a command, or what stands for it, and run it on this terminal.

        Raises:
            RuntimeError: It failed.
        """
        show(shown or words, note)
        done = subprocess.run(_command(words), env=self._environment, check=False)
        if done.returncode:
            raise RuntimeError(f"`cachefs {words[0]}` ended with code {done.returncode}")

    def ask(self, *words: str) -> Any:  # Any: a JSON document
        """Run a command and return the JSON that it prints."""
        done = subprocess.run(
            _command((*words, "--json")),
            env=self._environment,
            stdout=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"`cachefs {words[0]}` ended with code {done.returncode}")
        return json.loads(done.stdout)

    @contextmanager
    def up(self, *words: str) -> Iterator[None]:
        """Run ``cachefs up`` while the context lasts; it stops as by Ctrl-C, even if we are killed."""
        show(("up", *words))
        parent = os.getpid()
        supervisor = subprocess.Popen(
            _command(("up", *words)),
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),  # noqa: PLW1509 - main thread
        )
        try:
            for line in supervisor.stderr or ():
                if line.startswith("Ctrl-C"):
                    break
                print(line, end="", flush=True)
            else:
                raise RuntimeError(f"`cachefs up` ended with code {supervisor.wait()}")
            yield
        finally:
            supervisor.terminate()
            try:
                supervisor.communicate(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                supervisor.kill()
                supervisor.wait()

    @contextmanager
    def mounted(self, dataset: str) -> Iterator[Path]:
        """Mount a dataset while the context lasts; return where."""
        self._mountpoint.mkdir()
        try:
            self.run("mount", dataset, str(self._mountpoint))
            yield self._mountpoint
        except BaseException:
            # What failed may hold a mapping still; clean-up must not fail for that.
            self.run("umount", "--force", str(self._mountpoint))
            raise
        self.run("umount", str(self._mountpoint))

    def mount_server(self) -> int:
        """Return the pid of who serves our mount; this machine may have others."""
        own = str(self._mountpoint)
        return next(
            int(row["server"]) for row in self.ask("mount", "list") if row["mountpoint"] == own
        )


def show(words: Sequence[str], note: str = "") -> None:
    """Show a command as it would be typed."""
    command(f"cachefs {shlex.join(words)}".replace("'…'", "…"), note)


def _command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "cachefs.cli", *words]
