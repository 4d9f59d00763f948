"""Listening: a socket that accepts, and one thread for each connection.

The number of connections has a limit. At the limit the connection that has been idle for longest is
closed to make room, so that many who connect and then say nothing do not keep others out; when none
is idle, new ones wait in the kernel's queue. Closing wakes every thread by shutting its socket down;
the descriptor is closed by the thread that uses it, because a closed descriptor's number may by then
belong to something else.
"""

import contextlib
import errno
import logging
import os
import select
import socket
from collections.abc import Callable

from cachefs.errors import ConfigError
from cachefs.ports import Runtime

ACCEPT_POLL_SECONDS = 0.5
"""How often the accepting thread looks whether it shall end, if nothing wakes it."""
EXHAUSTED_SECONDS = 0.1
"""A pause when the process has no descriptor or thread left for a new connection."""
CLOSE_SECONDS = 2.0
"""How long closing waits for the threads; none of them keeps the process alive."""
BACKLOG = 512
"""Connections that wait in the kernel's queue."""

_log = logging.getLogger("cachefs.serving")


def listen(host: str, port: int, *, setting: str) -> socket.socket:
    """Return a socket that listens; from now on connections wait in the kernel's queue.

    Args:
        host: An address of this machine.
        port: 0 for any that is free.
        setting: What the port is called in the configuration, for the error's hint.

    Raises:
        ConfigError: The address is taken or is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(
            f"cannot listen: {reason.lower()}",
            subject=f"{host}:{port}",
            hint=f"{setting} names another port; 0 takes any that is free",
        ) from error


class Guest:
    """A connection that was accepted."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        """Take over the socket; a new connection counts as idle until it has asked something."""
        self.socket = connection
        self.idle_since: float | None = now
        """When its last request ended; ``None`` while it is being answered."""

    def shut_down(self) -> None:
        """Wake whoever waits on the socket; everything on it fails from now on."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class Listener:
    """Accepts connections and serves each in a thread of its own."""

    def __init__(
        self,
        runtime: Runtime,
        listening: socket.socket,
        serve: Callable[[Guest], None],
        *,
        name: str,
        connections_limit: int,
    ) -> None:
        """Take over a socket that listens already; ``serve`` is called once per connection."""
        self._runtime = runtime
        self._listening = listening
        self._serve = serve
        self._name = name
        self._limit = connections_limit
        self._changed = runtime.condition()
        self._guests: set[Guest] = set()
        self._closing = False
        listening.setblocking(False)
        self._acceptor = runtime.start(f"{name} accept", self._accept)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._guests)

    def _accept(self) -> None:
        poll = select.poll()
        poll.register(self._listening, select.POLLIN)
        while not self._closing:
            if not self._wait_for_room() or not poll.poll(ACCEPT_POLL_SECONDS * 1000):
                continue
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, ConnectionError):
                continue
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return  # the socket was shut down
                # EMFILE and its like pass; the connection waits in the kernel's queue.
                _log.debug("cannot accept a connection", extra={"failure": str(error)})
                self._runtime.sleep(EXHAUSTED_SECONDS)
                continue
            self._admit(Guest(connection, self._runtime.monotonic()))

    def _wait_for_room(self) -> bool:
        with self._changed:
            if len(self._guests) < self._limit:
                return True
            idle = [guest for guest in self._guests if guest.idle_since is not None]
            if idle:
                min(idle, key=lambda guest: guest.idle_since or 0.0).shut_down()
            self._changed.wait(ACCEPT_POLL_SECONDS)
            return len(self._guests) < self._limit

    def _admit(self, guest: Guest) -> None:
        with self._changed:
            self._guests.add(guest)
        try:
            self._runtime.start(f"{self._name} connection", lambda: self._run(guest))
        except RuntimeError as error:
            _log.warning("cannot start a thread", extra={"failure": str(error)})
            self._dismiss(guest)
            self._runtime.sleep(EXHAUSTED_SECONDS)

    def _run(self, guest: Guest) -> None:
        try:
            self._serve(guest)
        except OSError as error:
            # The other side went away; it knows that already.
            _log.debug("a connection ended", extra={"failure": str(error)})
        except Exception:  # noqa: BLE001 - the boundary of a connection
            _log.exception("a connection ended in an unexpected way")
        finally:
            self._dismiss(guest)

    def _dismiss(self, guest: Guest) -> None:
        guest.socket.close()
        with self._changed:
            self._guests.discard(guest)
            self._changed.notify_all()

    def close(self) -> None:
        """Accept no more, end every connection, and wait a moment for the threads."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        deadline = self._runtime.monotonic() + CLOSE_SECONDS
        self._acceptor.join(CLOSE_SECONDS)
        self._listening.close()
        with self._changed:
            for guest in self._guests:
                guest.shut_down()
            while self._guests and (left := deadline - self._runtime.monotonic()) > 0:
                self._changed.wait(left)
