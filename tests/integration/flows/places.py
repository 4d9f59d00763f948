"""Places for programs, as coordinators on one state folder would have them, one after another."""

import os
from contextlib import contextmanager

from cachefs.dataflow.steps.programs.places import Places, ProgramSettings
from cachefs.dataflow.steps.programs.rooms import Rooms, stop_all
from tests.unit.dataflow.steps.contexts import RUNTIME


@contextmanager
def places_in(folder):
    """Yield what stands for starting a coordinator; no program is left when it ends."""
    opened = []

    def open_(**settings):
        rooms = Rooms(RUNTIME)
        opened.append(rooms)
        defaults = {
            "folder": folder / "programs",
            "allowed": True,
            "environment": {"PATH": os.environ["PATH"], "HF_TOKEN": "hf_1", "SECRET": "s3cr3t"},
            "state": folder / "state",
            "log_bytes": 1024 * 1024,
            "kept_seconds": 3600.0,
            "tethered": False,
        }
        return Places(rooms, RUNTIME, ProgramSettings(**defaults | settings))

    try:
        yield open_
    finally:
        stop_all(RUNTIME, folder / "programs")
        for rooms in opened:
            rooms.close()


def until(condition, seconds=10.0):
    """Return what a condition gives as soon as that is true."""
    give_up = RUNTIME.monotonic() + seconds
    while not (found := condition()):
        assert RUNTIME.monotonic() < give_up, "it did not happen in time"
        RUNTIME.sleep(0.01)
    return found
