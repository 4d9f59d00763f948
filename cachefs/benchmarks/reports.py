"""Reports: the results file, and the comparison of two of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cachefs.benchmarks.measuring import Row
from cachefs.errors import ConfigError


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the results file: a list of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([row.document() for row in rows], indent=2) + "\n")


def read_rows(path: Path) -> list[Row]:
    """Read a results file.

    Raises:
        ConfigError: It is not one.
    """
    try:
        return [Row(**document) for document in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError("not a results file", subject=str(path), hint=str(error)) from error


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a scenario from one results file to another."""

    scenario: str
    before: float
    after: float
    """What is compared: the ratio to the floor where there is one, because the machine may have
    been busier in one of the two runs; else the value."""
    spread: float
    """Of both together: a change within it means nothing."""

    @property
    def factor(self) -> float:
        """``after`` ÷ ``before``."""
        return self.after / self.before if self.before else float("nan")

    @property
    def is_clear(self) -> bool:
        """Whether the change is larger than the spread."""
        return abs(self.factor - 1.0) > self.spread


def compare(before: Sequence[Row], after: Sequence[Row]) -> list[Change]:
    """Compare the scenarios that both files have results of."""
    known = {row.scenario: row for row in before if row.runs}
    changes = []
    for row in after:
        earlier = known.get(row.scenario)
        if earlier is None or not row.runs:
            continue
        pair = (
            (earlier.ratio, row.ratio)
            if earlier.ratio is not None and row.ratio is not None
            else (earlier.value, row.value)
        )
        changes.append(Change(row.scenario, *pair, spread=earlier.spread + row.spread))
    return changes
