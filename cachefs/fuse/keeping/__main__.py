"""``python -m cachefs.fuse.keeping --folder DIR``: keep one mount, whose run folder is ready.

``cachefs mount`` writes the run folder and starts this; a waiting parent reads one line from
``--ready-descriptor``: ``ready`` or ``error {…}``. Without one, the keeper speaks to a person.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cachefs.core.names import printable
from cachefs.errors import CacheFSError, ConfigError
from cachefs.fuse.keeping.deposit import Deposit
from cachefs.fuse.keeping.keeper import Keeper
from cachefs.fuse.mounts.runfolder import RunFolder
from cachefs.telemetry import logs
from cachefs.transport.processes import ProcessRecord
from cachefs.transport.runtime import ThreadRuntime
from cachefs.wire import failures

READY = "ready"
ERROR = "error"


def main() -> int:
    """Keep the mount; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cachefs.fuse.keeping", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the mount's run folder")
    parser.add_argument("--ready-descriptor", type=int, help="where a parent waits for one line")
    parser.add_argument("--shelf", type=Path, help="the socket of one that outlives us")
    parser.add_argument("--sign", type=Path, help="with a shelf: the file for our signs of life")
    arguments = parser.parse_args()
    logs.configure("keeper", as_json=False)
    folder = RunFolder(arguments.folder)
    descriptor = arguments.ready_descriptor
    try:
        _, plan = folder.read_plan()
        record = folder.read()
        if record is None:
            raise ConfigError("not a mount's run folder", subject=printable(str(folder.path)))
    except CacheFSError as error:
        _to_person("")(error)
        return 1
    record = replace(record, keeper=ProcessRecord.of("keeper", os.getpid()))
    folder.write(record)
    shown = f"{record.source} is mounted on {plan.mountpoint}"
    report = _to_person(shown) if descriptor is None else _to_parent(descriptor)
    runtime = ThreadRuntime()
    deposit = None
    if arguments.shelf is not None:
        sign = arguments.sign or folder.path / "sign.json"
        deposit = Deposit(runtime, arguments.shelf, sign)
    return Keeper(runtime, folder, plan, record, report=report, deposit=deposit).run()


def _to_parent(descriptor: int) -> Callable[[CacheFSError | None], None]:
    os.set_inheritable(descriptor, False)

    def report(error: CacheFSError | None) -> None:
        line = READY if error is None else f"{ERROR} {json.dumps(failures.to_document(error))}"
        os.write(descriptor, f"{line}\n".encode())
        os.close(descriptor)

    return report


def _to_person(shown: str) -> Callable[[CacheFSError | None], None]:
    def report(error: CacheFSError | None) -> None:
        if error is None:
            lines = [shown, "Ctrl-C unmounts it"]
        else:
            subject = f"{error.subject}: " if error.subject else ""
            lines = [f"error: {subject}{error.message}"]
            lines += [f"hint: {error.hint}"] if error.hint else []
        sys.stderr.write("".join(f"{printable(line)}\n" for line in lines))

    return report


if __name__ == "__main__":
    sys.exit(main())
