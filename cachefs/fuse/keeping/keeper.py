"""The keeper: a small process that holds a mount while the process that serves it comes and goes.

Theory of operation. The kernel ends a mount when the last descriptor of its device is closed. The
keeper opens the device, mounts, and hands the descriptor to its child, the server, together with a
memory for what a successor must know. The keeper itself never reads a request, never looks into the
mount, and imports nothing of the read path: there is little in it that could fail or grow.

- The server dies: the next one gets the same descriptors, has the kernel send again what the dead
  one took with it, and readers notice nothing but a pause.
- The server stands still (:mod:`.heartbeat`): it is killed, and so the same.
- It cannot start again within a read's deadline, or dies again and again: the device is closed.
  Whoever waits gets an error at once, and so does whoever comes later. A clear error is better than
  a wait without end.
- SIGHUP: a new server starts, with the code that is installed now. When it is prepared, the old one
  finishes what it has, and the new one takes over.
- SIGTERM, SIGINT: the mount is unmounted. Files that are open may be read on for a while.
- Somebody unmounts: the device says so, and keeper and server end.
- The keeper dies: the server goes on, and ends with the mount, but nobody would replace it.

A keeper that is a container of a pod leaves copies of both descriptors on a :mod:`.shelf`, and takes over
what it finds there instead of mounting. SIGTERM then means that this pod goes, not the mount: the server
finishes what it has, and the mount waits for the next keeper. One that starts while we still serve asks us to
leave when its server is prepared. Giving up is as final as ever: the shelf is told to let go, too.

Without recovery the keeper does not hold the device; then the server's death ends the mount at once.
A dead mount stays in its place, because an empty folder in its stead would look like a dataset
without files.

Everything happens in one thread, in :meth:`Keeper.run`: what ended, what was said, which signal came,
and four looks a second at clocks and device.
"""

import logging
import os
import selectors
import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cachefs.config.schema import MountPlan
from cachefs.errors import CacheFSError, ClusterError
from cachefs.fuse.keeping.deposit import Deposit
from cachefs.fuse.keeping.heartbeat import Watchdog
from cachefs.fuse.keeping.holding import HeldMount
from cachefs.fuse.keeping.servers import PREPARED, SERVING, STARTING, TOLD, Server, module_command
from cachefs.fuse.mounts.runfolder import MountRecord, RunFolder, RunFolders
from cachefs.ports import Runtime
from cachefs.transport.events import handle_events, taking_signals

Report = Callable[[CacheFSError | None], None]
"""Told once how the start went: ``None`` if the mount is there."""

LOOK_SECONDS = 0.25
_WINDOW_SECONDS = 60.0
"""``restarts_limit`` counts the starts within it."""
_BACKOFF_SECONDS = 0.1
_BACKOFF_SECONDS_MAX = 2.0
_LOCK_SECONDS = 10.0
_END_SECONDS = 2.0
"""A server whose mount is gone ends by itself; one that does not within this is killed."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_OOM_SCORE_KEEPER = "-900"
"""Most kills of mounts in the field are the out-of-memory killer's: it shall take the server."""

_log = logging.getLogger("cachefs.fuse.keeper")


class Keeper:
    """Keeps one mount."""

    def __init__(
        self,
        runtime: Runtime,
        folder: RunFolder,
        plan: MountPlan,
        record: MountRecord,
        *,
        report: Report,
        deposit: Deposit | None = None,
    ) -> None:
        """Set up; nothing is started or mounted.

        Args:
            runtime: The clock.
            folder: The mount's run folder, which goes when the mount ends well.
            plan: What to mount.
            record: What is known of the mount so far.
            report: Called once.
            deposit: With a shelf that outlives us, if there is one.
        """
        self._runtime = runtime
        self._folder = folder
        self._plan = plan
        self._record = record
        self._report = report
        self._reported = False
        self._deposit = deposit
        self._leaving = False
        """The mount is left to another keeper."""
        self._left = False
        """It is, and we have nothing of it any more."""
        self._going = False
        """We were told to end, too."""
        self._mount = HeldMount(plan)
        self._serving: Server | None = None
        self._next: Server | None = None
        """Starts or is prepared, and takes over when there is nobody else."""
        self._watchdog = self._new_watchdog()
        self._starts: deque[float] = deque()
        self._failures = 0
        """Servers in a row that ended before they served."""
        self._why = ""
        """How the last server ended."""
        self._start_at: float | None = None
        self._silent_since: float | None = None
        """When the last server ended, while no other serves."""
        self._stop_at: float | None = None
        self._gone_at: float | None = None
        self._status: int | None = None
        self._selector = selectors.DefaultSelector()
        self._signals: deque[int] = deque()
        self._oom_score = ""

    def run(self) -> int:
        """Keep the mount until it ends; return the exit status."""
        with suppress(OSError):
            self._oom_score = _OOM_SCORE.read_text().strip()
            _OOM_SCORE.write_text(_OOM_SCORE_KEEPER)
        with taking_signals(self._selector, _SIGNALS, self._signals.append):
            self._inherit()
            self._start()
            while self._status is None:
                handle_events(self._selector, LOOK_SECONDS)
                while self._signals and self._status is None:
                    self._on_signal(self._signals.popleft())
                if self._status is None:
                    self._look()
        self._end()
        return self._status

    def _inherit(self) -> None:
        """Take over what an earlier keeper left, if it did."""
        inherited = None if self._deposit is None else self._deposit.inherit()
        if self._deposit is None or inherited is None or not self._mount.adopt(*inherited):
            return
        _log.warning("taking over a mount that is there", extra={"mount": self._mount.number})
        self._reported = True
        self._report(None)
        if not self._deposit.predecessor:
            self._silent_since = self._runtime.monotonic()

    # Servers

    def _start(self) -> None:
        now = self._runtime.monotonic()
        while self._starts and now - self._starts[0] > _WINDOW_SECONDS:
            self._starts.popleft()
        if len(self._starts) >= max(1, self._plan.settings.restarts_limit):
            return self._die(f"{len(self._starts)} serving processes within a minute; {self._why}")
        self._starts.append(now)
        command = module_command("cachefs.fuse", "--config", os.fspath(self._folder.plan))
        server = Server(command, now=now, in_child=self._in_child)
        self._next = server
        self._selector.register(server.control, selectors.EVENT_READ, lambda: self._hear(server))
        self._selector.register(server.ended, selectors.EVENT_READ, lambda: self._ended(server))
        return None

    def _in_child(self) -> None:
        with suppress(OSError):
            _OOM_SCORE.write_text(self._oom_score)

    def _hear(self, server: Server) -> None:
        before = server.state
        if not server.hear():
            self._selector.unregister(server.control)
        if server is self._next and (before, server.state) == (STARTING, PREPARED):
            if self._serving is None:
                self._hand_over(server)
            elif self._serving.told_to_leave_at is None:
                self._serving.leave(self._runtime.monotonic())
        elif server is self._serving and (before, server.state) == (TOLD, SERVING):
            self._became_ready(server)

    def _hand_over(self, server: Server) -> None:
        """Let a prepared server serve, as soon as no other keeper's does."""
        if self._deposit is not None and self._deposit.predecessor:
            return self._deposit.dismiss()
        try:
            folders = RunFolders(self._folder.path.parent)
            with folders.locked(self._runtime, seconds=_LOCK_SECONDS):
                self._mount.mount()
        except CacheFSError as error:
            return self._fail(error)
        self._serving, self._next = server, None
        self._watchdog = self._new_watchdog()
        server.serve(self._mount.descriptors())
        return None

    def _became_ready(self, server: Server) -> None:
        self._failures, self._silent_since = 0, None
        restarts = self._record.restarts + 1 if self._reported else 0
        self._mount.find()
        self._write(device=self._mount.number, server=server.record, restarts=restarts)
        if self._deposit is not None and self._plan.recovery:
            place = self._plan.mountpoint
            self._deposit.offer(self._mount.number, place, self._mount.descriptors())
        if self._reported:
            _log.warning("another process serves the mount", extra={"pid": server.pid})
            return
        if not self._plan.recovery:
            self._mount.release()
        self._reported = True
        self._report(None)

    def _ended(self, server: Server) -> None:
        for descriptor in (server.control, server.ended):
            with suppress(KeyError):
                self._selector.unregister(descriptor)
        how = server.reap()
        failure = server.failure or ClusterError(
            f"the serving process {how}", hint=f"see {self._record.log}" if self._record.log else ""
        )
        if server is self._next:
            self._next = None
            self._next_ended(failure)
        else:
            self._serving = None
            self._serving_ended(failure)

    def _next_ended(self, failure: CacheFSError) -> None:
        self._why = str(failure)
        if self._leaving:
            self._leave_if_done()
        elif not self._reported:
            self._fail(failure)
        elif self._serving is not None:
            _log.error("a new process could not take over", extra={"failure": self._why})
        else:
            _log.error("a serving process could not start", extra={"failure": self._why})
            wait = min(_BACKOFF_SECONDS_MAX, _BACKOFF_SECONDS * 2.0 ** min(self._failures, 10))
            self._failures += 1
            self._start_at = self._runtime.monotonic() + wait

    def _serving_ended(self, failure: CacheFSError) -> None:
        if self._leaving:
            return self._leave_if_done()
        if self._mount.gone or self._stop_at is not None:
            return self._finish()
        if not self._reported:
            return self._fail(failure)
        self._why = str(failure)
        if not self._plan.recovery:
            return self._die(self._why)
        self._silent_since = self._runtime.monotonic()
        _log.warning("the serving process ended", extra={"failure": self._why})
        if self._next is None:
            self._start()
        elif self._next.state == PREPARED:
            self._hand_over(self._next)
        return None

    # Looks at clocks and device

    def _look(self) -> None:
        if self._left:
            return
        now = self._runtime.monotonic()
        self._folder.bound_log()
        self._look_at_servers(now)
        if self._deposit is not None:
            self._look_at_deposit(self._deposit, now)
        if self._start_at is not None and now >= self._start_at and not self._leaving:
            self._start_at = None
            self._start()
        if self._leaving or self._status is not None:
            return
        deadline = self._plan.reader.deadline_seconds
        if self._silent_since is not None and now - self._silent_since > deadline:
            self._die(f"nobody served for {deadline:g} s; {self._why}")
        elif self._stop_at is not None and now >= self._stop_at:
            self._finish()
        elif self._reported and self._plan.recovery and self._mount.gone:
            self._gone_at = self._gone_at or now
            if self._serving is None or now - self._gone_at > _END_SECONDS:
                self._finish()

    def _look_at_servers(self, now: float) -> None:
        settings = self._plan.settings
        for server in (self._serving, self._next):
            starts = server is not None and server.state in (STARTING, TOLD)
            if server and starts and now - server.started_at > settings.start_seconds:
                _log.error("a serving process does not become ready; killing it")
                server.kill()
        server = self._serving
        if server is None:
            return
        if self._watchdog.look(server.heartbeat.last(), now):
            _log.error("the serving process is frozen; killing it", extra={"pid": server.pid})
            server.kill()
        leaving = server.told_to_leave_at
        if leaving is not None and now - leaving > settings.handover_seconds:
            server.kill()  # The kernel sends what it leaves unanswered to its successor.

    def _look_at_deposit(self, deposit: Deposit, now: float) -> None:
        told = deposit.hear()
        if deposit.is_due:
            serving = self._serving is not None and self._serving.state == SERVING
            deposit.look(serving=serving)
            if self._mount.number and not (self._mount.in_table or self._mount.gone):
                return self._die("it was unmounted under those who use it")
        if self._leaving:
            return None
        if told:
            _log.warning("another keeper takes the mount over")
            self._leave()
        elif self._serving is None and not deposit.predecessor:
            if self._mount.made and self._silent_since is None:
                self._silent_since = now
            if self._next is not None and self._next.state == PREPARED:
                self._hand_over(self._next)
        return None

    def _new_watchdog(self) -> Watchdog:
        return Watchdog(self._plan.settings.watchdog_seconds, look_seconds=LOOK_SECONDS)

    # Signals

    def _on_signal(self, number: int) -> None:
        if number != signal.SIGHUP:
            self._stop()
        elif not self._leaving:
            self._upgrade()

    def _upgrade(self) -> None:
        if not self._plan.recovery:
            _log.error("no upgrade: it needs recovery, which is off")
        elif self._next is None and self._serving is not None and self._stop_at is None:
            _log.info("starting a process that takes over")
            self._start()

    def _stop(self) -> None:
        now = self._runtime.monotonic()
        if not self._reported:
            return self._fail(ClusterError("interrupted before the mount was there"))
        if self._deposit is not None:
            self._going = True
            return self._leave()
        if self._stop_at is not None:
            self._stop_at = now  # Whoever asks twice is in a hurry.
            return None
        if self._mount.unmount() or self._mount.unmount(lazily=True):
            self._stop_at = now + self._plan.settings.unmount_seconds
        else:
            self._stop_at = now
        return None

    def _leave(self) -> None:
        """Leave the mount to another keeper: let our servers finish what they have, and end."""
        self._leaving = True
        if self._next is not None:
            self._next.kill()
        if self._serving is not None and self._serving.told_to_leave_at is None:
            self._serving.leave(self._runtime.monotonic())
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._serving is not None or self._next is not None:
            return
        self._mount.release()
        if self._deposit is not None:
            self._deposit.close()
        self._left = True
        if self._going:
            self._status = 0
        # Else our pod is about to go: a container that ended would be started again, and would take
        # the mount back.

    # Ends

    def _fail(self, error: CacheFSError) -> None:
        """End before the mount was ready."""
        if self._mount.made and self._mount.in_table:
            self._mount.unmount(lazily=True)
        self._folder.remove()
        self._report(error)
        self._status = 1

    def _die(self, failure: str) -> None:
        """Give up: let the mount be dead, so that nobody waits for it."""
        _log.error("giving up: the mount is dead", extra={"failure": failure})
        if self._deposit is not None:
            self._deposit.renounce()
        self._write(failure=failure, server=None, keeper=None)
        self._status = 1

    def _finish(self) -> None:
        """End with the mount."""
        if self._mount.in_table:
            # Somebody aborted it, or it could not be unmounted: commands shall know whose it is.
            self._write(failure="its connection was aborted", server=None, keeper=None)
        else:
            self._folder.remove()
        self._status = 0

    def _end(self) -> None:
        for server in (self._serving, self._next):
            if server is not None:
                server.kill()
                server.reap()
        self._mount.release()
        if self._deposit is not None:
            self._deposit.close()
        self._selector.close()

    def _write(self, **changes: object) -> None:
        self._record = replace(self._record, **changes)  # type: ignore[arg-type]  # fields by name
        with suppress(OSError):  # A run folder that somebody removed must not end the mount.
            self._folder.write(self._record)
