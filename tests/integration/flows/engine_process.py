"""A process that carries a run on until it is over: ``python -m …engine_process URL EFFECTS DOCUMENT``."""

import sys
from pathlib import Path

from tests.integration.flows.engines import Effects, Kit

if __name__ == "__main__":
    url, effects, document = sys.argv[1:]
    with Kit(url, Effects(effects)) as kit:
        run = kit.submit(Path(document).read_text(), key="the one")
        sys.stdout.write(f"{run}\n")
        sys.stdout.flush()
        status = kit.wait(run, seconds=60.0)
        sys.stdout.write(f"{status.run.state}\n")
