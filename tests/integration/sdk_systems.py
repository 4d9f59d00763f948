"""A running system with datasets that the SDK's tests read."""

import contextlib
from pathlib import Path

from tests.integration.systems import System

BLOCK = 64 * 1024


@contextlib.contextmanager
def running(
    folder: Path,
    origins: dict[str, Path],
    warm: tuple[str, ...] = (),
    workers: int = 1,
    *,
    duties: bool = False,
):
    """Run a coordinator and workers, with a dataset for each folder.

    With one worker, every warm file is whole on this node; with more, each has some blocks of it.
    """
    with System(folder, block_size=BLOCK, duties=duties) as system:
        system.start_coordinator()
        names = [f"w{number}" for number in range(workers)]
        for name in names:
            system.start_worker(name)
        system.wait_for_members(*names)
        for name, origin in origins.items():
            system.add(name, f"file://{origin}")
        for name in warm:
            assert system.wait_for_job(system.warm(name))["state"] == "done"
        yield system
