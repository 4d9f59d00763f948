"""Run benchmarks as ``cachefs bench`` does, and keep the rows in ``bench/results.json``."""

import sys
from pathlib import Path

from cachefs.cli.main import app

_HERE = Path(__file__).parent

if __name__ == "__main__":
    folder = _HERE.parent / ".cache" / "bench"
    kept = ["--json", str(_HERE / "results.json"), "--folder", str(folder)]
    app(["bench", "run", *kept, *sys.argv[1:]])
