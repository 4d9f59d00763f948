"""The end of a command: bugs and outputs that take no more have exit codes of their own."""

import subprocess
import sys
from pathlib import Path

from cachefs.cli import exits, main


def test_a_bug_is_shown_whole_and_has_a_code_of_its_own(monkeypatch, capsys):
    def broken(**_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(main, "app", broken)
    assert main.run() == exits.BUG == 70
    said = capsys.readouterr().err
    assert "ZeroDivisionError: a bug" in said
    assert "this is a bug in cachefs" in said


def test_a_full_output_is_an_error_without_a_traceback():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cachefs.cli", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 8
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
