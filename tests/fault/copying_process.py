"""A process that carries out one ``migrate`` step, and is killed while it does."""

import json
import os
import sys
from pathlib import Path

import cachefs.dataflow.copying.ends
from tests.fault.test_copying import PART, make_step
from tests.unit.dataflow.steps.contexts import Steps, carry_out


class KeptSteps(Steps):
    """A checkpoint in a file, as durable as the engine's against the death of the process."""

    def __init__(self, path: Path):
        super().__init__()
        self._path = path
        if path.exists():
            self.checkpoint = json.loads(path.read_text())

    def _note(self, _identity, text):
        fresh = self._path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._path)


def main() -> None:
    cachefs.dataflow.copying.ends.PART_BYTES = PART
    steps = KeptSteps(Path(sys.argv[1]))
    carry_out(make_step(), steps.attempt(), json.loads(sys.argv[2]))
    sys.stdout.write("done\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
