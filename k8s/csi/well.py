"""``python -m cachefs.k8s.csi.well``: whether the node's mount is well, by its keeper's sign of life, for probes."""

import argparse
import sys

from cachefs.fuse.keeping.deposit import SignOfLife
from cachefs.k8s.csi.leaving import FRESH_SECONDS
from cachefs.k8s.csi.places import Places, add_arguments, places_of
from cachefs.ports import Runtime
from cachefs.transport.runtime import ThreadRuntime


def fault(runtime: Runtime, places: Places, *, serving: bool) -> str:
    """Return what is wrong with the node's mount; empty if nothing is.

    Args:
        runtime: The clock.
        places: Of this node.
        serving: Whether it must be served, besides being kept.
    """
    sign = SignOfLife.read(places.sign)
    if sign is None:
        return "no sign of life"
    age = runtime.monotonic() - sign.at
    if age > FRESH_SECONDS:
        return f"the last sign of life is {age:.0f} s old"
    if serving and not sign.serving:
        return "nobody serves"
    return ""


def main() -> int:
    """Say what is wrong; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cachefs.k8s.csi.well")
    parser.add_argument("what", choices=("mounts",))
    parser.add_argument("--serving", action="store_true")
    add_arguments(parser)
    given = parser.parse_args()
    found = fault(ThreadRuntime(), places_of(given), serving=given.serving)
    sys.stderr.write(f"{found}\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
