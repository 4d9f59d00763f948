"""A stand-in for an executor: carries out what a desk hands out, as processes of this machine."""

import contextlib
import os
import signal
import subprocess
import threading

from cachefs.dataflow.engine import store as runs
from cachefs.dataflow.handing.desk import Desk
from cachefs.dataflow.handing.store import Report
from cachefs.dataflow.records import Run
from tests.unit.dataflow.steps.contexts import RUNTIME


def add_run(store, run="run-1"):
    """Put a run into a store, to which programs can belong."""
    with store.write() as connection:
        if runs.find(connection, run) is None:
            runs.add(connection, Run(id=run, flow="team/flow"), [], number=1)


class Executor:
    """Asks and tells in a thread, until it is closed; what it has begun goes on without it."""

    def __init__(self, store, folder, *, processes=None):
        self.desk = Desk(store, RUNTIME)
        self.processes = {} if processes is None else processes
        self.begun = []
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self):
        self._over.set()
        self._thread.join()

    def _run(self):
        while not self._over.wait(0.02):
            self.round()

    def round(self):
        for program in self.desk.wanted().programs:
            self._carry_out(program)

    def _carry_out(self, row):
        process = self.processes.get(row.id)
        if process is None:
            if self.desk.tell_program(row.id, "claimed", Report()).stop:
                self.desk.tell_program(row.id, "ended", Report(stopped=True))
                return
            process = self.processes[row.id] = self._begin(row)
        if row.stop and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._tell(row, process)

    def _begin(self, row):
        folder = self._folder / row.id
        folder.mkdir(parents=True)
        self.begun.append(row.id)
        outputs = {"CACHEFS_OUTPUTS": str(folder / "outputs")}
        with (folder / "log").open("wb") as log:
            try:
                return subprocess.Popen(
                    row.wanted["command"],
                    env={"PATH": os.environ["PATH"], **row.wanted["variables"], **outputs},
                    cwd=row.wanted["workdir"] or folder,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                return Failed(error)

    def _tell(self, row, process):
        folder = self._folder / row.id
        if isinstance(process, Failed):
            self.desk.tell_program(row.id, "ended", Report(failure=process.failure))
        elif process.poll() is None:
            self.desk.tell_program(row.id, "running", Report(started_at=RUNTIME.wall()))
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            outputs = folder / "outputs"
            report = Report(
                code=process.returncode,
                stopped=row.stop,
                log=(folder / "log").read_text(),
                outputs=outputs.read_text() if outputs.exists() else "",
            )
            self.desk.tell_program(row.id, "ended", report)


class Failed:
    """A program that could not be started."""

    def __init__(self, error):
        self.failure = str(error)

    def poll(self):
        return 1
