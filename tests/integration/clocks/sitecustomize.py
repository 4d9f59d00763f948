"""The wall clock of a process under test, which its test can make wrong; Python imports this first.

The file that ``CACHEFS_TEST_CLOCK`` names holds by how many seconds; see ``System.move_clock``.

gRPC sees the true clock: its Python half turns a time limit into a date, and its native half, whose
clock cannot be made wrong here, back again.
"""

import os
import sys
import time
from pathlib import Path

if path := os.environ.get("CACHEFS_TEST_CLOCK"):
    if not Path(path).exists():
        Path(path).write_bytes(b"0".ljust(40))
    _file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    _time = time.time  # noqa: TID251 - this is the clock that is made wrong

    def _wrong_time() -> float:
        if sys._getframe(1).f_globals.get("__name__", "").startswith("grpc."):
            return _time()
        return _time() + float(os.pread(_file, 40, 0))

    time.time = _wrong_time  # noqa: TID251 - likewise
    time.time_ns = lambda: int(_wrong_time() * 1e9)
