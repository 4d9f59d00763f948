"""The command ``cachefs``, run in the tests' own process.

A command that is a process of its own costs a third of a second, and here next to nothing. So those are
processes that are tested as such: what they write to a terminal, how they end, what their users are.
"""

import os
import sys
import tempfile
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from cachefs.cli import main


class Done(NamedTuple):
    """How a command ended; the fields are :class:`subprocess.CompletedProcess`'s."""

    returncode: int
    stdout: str
    stderr: str


def run_here(environment, *words):
    """Run a command with an environment; not from several threads at once."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name in os.environ.keys() - environment.keys():
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["cachefs", *words])
        patch.chdir(os.getcwd())  # noqa: PTH109 - so that it is what it was, also if the command leaves it
        streams = []
        for name in ("stdout", "stderr"):  # files, because some commands write to descriptors
            streams.append(stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")))
            patch.setattr(sys, name, streams[-1])
        code = main.run()
        for stream in streams:
            stream.seek(0)
        return Done(code, *(stream.read() for stream in streams))
