"""The supervisor, on small processes that behave as badly as each test wants."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cachefs.cli.system.children import Addresses, BoundedLog
from cachefs.cli.system.supervision import Supervisor
from cachefs.errors import ClusterError
from cachefs.transport.processes import ProcessRecord
from cachefs.transport.runtime import ThreadRuntime

CLOCK = ThreadRuntime()

SERVES = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("serving", file=sys.stderr, flush=True)
print('ready {"data": "127.0.0.1:4000"}', flush=True)
time.sleep(60)
"""
IGNORES_SIGTERM = SERVES.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")
FAILS = "import sys; sys.exit('error: the port is taken')"
SILENT = "import time; time.sleep(60)"


@dataclass
class Script:
    """A service that runs a piece of Python."""

    name: str
    log: Path
    text: str
    addresses: list[Addresses] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)

    def command(self, failures: int) -> list[str]:
        self.failures.append(failures)
        return [sys.executable, "-c", self.text]

    def became_ready(self, addresses: Addresses) -> None:
        self.addresses.append(addresses)


class Fixture:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: list[ProcessRecord] = []
        self.messages: list[str] = []
        self.supervisor = Supervisor(
            CLOCK,
            environment=os.environ,
            on_change=lambda records: setattr(self, "records", list(records)),
            on_message=self.messages.append,
            grace_seconds=0.5,
        )

    def script(self, name: str, text: str) -> Script:
        return Script(name, self.folder / f"{name}.log", text)

    def start(self, *scripts: Script, seconds: float = 10.0) -> None:
        self.supervisor.start(scripts, deadline=CLOCK.monotonic() + seconds)

    def when(self, condition, action) -> threading.Thread:
        """Do something from another thread once a condition holds."""

        def wait() -> None:
            until = CLOCK.monotonic() + 10
            while not condition() and CLOCK.monotonic() < until:
                CLOCK.sleep(0.01)
            action()

        thread = threading.Thread(target=wait)
        thread.start()
        return thread


@pytest.fixture
def fixture(tmp_path):
    made = Fixture(tmp_path)
    yield made
    made.supervisor.stop()


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_start_returns_when_all_are_ready_and_tells_their_addresses(fixture):
    scripts = [fixture.script(name, SERVES) for name in ("one", "two")]
    fixture.start(*scripts)
    assert [script.addresses for script in scripts] == [[{"data": "127.0.0.1:4000"}]] * 2
    assert {record.name for record in fixture.records} == {"one", "two"}
    assert all(record.alive for record in fixture.records)


def test_a_service_that_ends_before_it_is_ready_fails_the_start_with_its_last_words(fixture):
    with pytest.raises(ClusterError, match="did not start: error: the port is taken") as caught:
        fixture.start(fixture.script("bad", FAILS))
    assert caught.value.subject == "bad"
    assert "bad.log" in caught.value.hint


def test_a_service_that_is_not_ready_in_time_fails_the_start(fixture):
    with pytest.raises(ClusterError, match="did not become ready"):
        fixture.start(fixture.script("silent", SILENT), seconds=0.3)


def test_a_killed_service_is_started_again_with_a_new_pid(fixture):
    script = fixture.script("worker", SERVES)
    with fixture.supervisor.signals():
        fixture.start(script)
        first = fixture.records[0]
        first.send(signal.SIGKILL)
        thread = fixture.when(lambda: len(script.addresses) == 2, interrupt)
        fixture.supervisor.supervise()
        thread.join()
    assert len(script.addresses) == 2
    assert script.failures == [0, 1]
    assert fixture.records[0].pid != first.pid
    assert "worker was killed by signal 9" in fixture.messages


def test_a_service_that_keeps_failing_waits_longer_each_time(fixture):
    script = fixture.script("worker", SERVES)
    with fixture.supervisor.signals():
        fixture.start(script)
        script.text = FAILS
        fixture.records[0].send(signal.SIGKILL)
        began = CLOCK.monotonic()
        thread = fixture.when(lambda: len(script.failures) == 3, interrupt)
        fixture.supervisor.supervise()
        thread.join()
    assert script.failures == [0, 1, 2]
    assert CLOCK.monotonic() - began >= 0.4 + 0.8


def test_stop_ends_children_in_good_order_and_does_not_start_them_again(fixture):
    fixture.start(fixture.script("worker", SERVES))
    record = fixture.records[0]
    fixture.supervisor.stop()
    assert not record.alive
    assert fixture.records == []
    assert fixture.messages == []


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(fixture):
    fixture.start(fixture.script("stubborn", IGNORES_SIGTERM))
    record = fixture.records[0]
    began = CLOCK.monotonic()
    fixture.supervisor.stop()
    assert not record.alive
    assert 0.4 < CLOCK.monotonic() - began < 5
    assert fixture.messages == ["stubborn does not stop; killing it"]


def test_a_signal_during_the_start_interrupts_it(fixture):
    with fixture.supervisor.signals():
        thread = fixture.when(lambda: fixture.records, interrupt)
        with pytest.raises(KeyboardInterrupt):
            fixture.start(fixture.script("silent", SILENT))
        thread.join()


def test_what_a_child_logs_is_in_its_log_file(fixture):
    script = fixture.script("worker", SERVES)
    fixture.start(script)
    fixture.supervisor.stop()
    assert script.log.read_text() == "serving\n--- worker ended with status 0\n"


def test_children_die_when_their_supervisor_is_killed(tmp_path):
    program = textwrap.dedent(
        f"""
        import os, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_supervision import SERVES, Fixture
        from pathlib import Path
        fixture = Fixture(Path({str(tmp_path)!r}))
        fixture.start(fixture.script("worker", SERVES))
        print(fixture.records[0].pid, flush=True)
        os.kill(os.getpid(), 9)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    until = CLOCK.monotonic() + 5
    while ProcessRecord.of("worker", pid).started and CLOCK.monotonic() < until:
        CLOCK.sleep(0.01)
    assert ProcessRecord.of("worker", pid).started == ""


def test_a_log_is_bounded_and_keeps_the_newest(tmp_path):
    log = BoundedLog(tmp_path / "a.log", bytes_max=100)
    for number in range(100):
        log.write(f"line {number:4}\n".encode())
    log.close()
    assert (tmp_path / "a.log").stat().st_size <= 100
    assert (tmp_path / "a.log.1").stat().st_size <= 100
    assert (tmp_path / "a.log").read_text().endswith("line   99\n")


def test_a_record_never_signals_a_process_that_got_the_same_pid():
    own = ProcessRecord.of("self", os.getpid())
    other = ProcessRecord("self", own.pid, "another boot/1")
    assert own.alive
    assert not other.alive
    assert not other.send(signal.SIGKILL)
