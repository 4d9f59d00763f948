"""The hand-written HTTP client against answers byte by byte, over a socket pair."""

import socket
import threading

import pytest

from cachefs.errors import DeadlineError, WorkerUnavailableError
from cachefs.ports import CancelToken
from cachefs.transport.connections import (
    BrokenAnswerError,
    Connection,
    ConnectionPool,
    Patience,
)
from cachefs.transport.runtime import ThreadRuntime

RUNTIME = ThreadRuntime()


@pytest.fixture
def serve():
    """Open a connection whose other side sends given parts, then closes or stays silent."""
    opened = []

    def start(*parts: bytes, close: bool = True, stall: float = 0.2, seconds: float = 2.0):
        listener = socket.create_server(("127.0.0.1", 0))
        cancel = CancelToken()
        patience = Patience(RUNTIME.monotonic() + seconds, stall)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        connection = Connection(RUNTIME, address, patience, cancel)
        other, _ = listener.accept()
        listener.close()

        def send() -> None:
            for part in parts:
                try:
                    other.sendall(part)
                except OSError:
                    return
            if close:
                other.close()

        thread = threading.Thread(target=send)
        thread.start()
        opened.append((connection, other, thread))
        return connection, cancel

    yield start
    for connection, other, thread in opened:
        connection.close()
        other.close()
        thread.join(5)


def test_a_body_of_known_length_goes_into_the_buffer(serve):
    connection, _ = serve(
        b"HTTP/1.1 206 Partial Content\r\nContent-Le", b"ngth: 6\r\n\r\nabc", b"def"
    )
    head = connection.read_head()
    assert (head.status, head.length()) == (206, 6)
    into = bytearray(6)
    connection.read_into(memoryview(into))
    assert into == b"abcdef"


def test_a_long_body_arrives_whole(serve):
    content = bytes(range(256)) * 12_000
    connection, _ = serve(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content), content)
    connection.read_head()
    into = bytearray(len(content))
    connection.read_into(memoryview(into))
    assert into == content


def test_two_answers_on_one_connection_do_not_run_into_each_other(serve):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    connection, _ = serve(answer + b"one" + answer + b"two")
    assert connection.read_body(connection.read_head()) == b"one"
    assert connection.read_body(connection.read_head()) == b"two"


def test_interim_answers_are_passed_over(serve):
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    connection, _ = serve(interim, interim, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    assert connection.read_head().status == 200


def test_a_body_in_chunks_is_joined(serve):
    connection, _ = serve(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"5;x=y\r\ndefgh\r\n0\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    )
    assert connection.read_body(connection.read_head()) == b"abcdefgh"
    assert connection.read_head().status == 204


def test_a_body_without_length_ends_with_the_connection(serve):
    connection, _ = serve(b"HTTP/1.1 200 OK\r\n\r\nabc", b"def")
    assert connection.read_body(connection.read_head()) == b"abcdef"
    assert not connection.reusable


def test_a_connection_that_the_server_will_close_is_not_used_again(serve):
    connection, _ = serve(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    connection.read_head()
    assert not connection.reusable


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcdef\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"",
    ],
)
def test_what_is_not_a_whole_answer_is_an_error_of_the_connection(serve, answer):
    connection, _ = serve(answer)
    with pytest.raises(ConnectionError):
        connection.read_body(connection.read_head())


def test_silence_is_a_timeout_after_the_time_for_a_stall(serve):
    connection, _ = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", close=False)
    connection.read_head()
    began = RUNTIME.monotonic()
    with pytest.raises(TimeoutError, match="no progress"):
        connection.read_into(memoryview(bytearray(10)))
    assert 0.15 < RUNTIME.monotonic() - began < 1.0


def test_the_deadline_ends_a_call_before_the_stall_does(serve):
    connection, _ = serve(close=False, stall=30.0, seconds=0.2)
    began = RUNTIME.monotonic()
    with pytest.raises(DeadlineError):
        connection.read_head()
    assert RUNTIME.monotonic() - began < 1.0


def test_a_cancelled_call_wakes_up_at_once(serve):
    connection, cancel = serve(close=False, stall=30.0)
    timer = threading.Timer(0.05, cancel.cancel)
    timer.start()
    began = RUNTIME.monotonic()
    with pytest.raises((BrokenAnswerError, ConnectionError, WorkerUnavailableError)):
        connection.read_head()
    assert RUNTIME.monotonic() - began < 1.0
    timer.join()


def test_a_canceller_that_comes_late_does_not_touch_the_next_call(serve):
    connection, cancel = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    connection.end()
    cancel.cancel()
    assert connection.read_body(connection.read_head()) == b"x"


class TestPool:
    """Connections between calls."""

    def take(self, pool: ConnectionPool, address: str) -> Connection | None:
        return pool.take(address, Patience(RUNTIME.monotonic() + 1, 1.0), CancelToken())

    def test_the_connection_used_last_is_taken_first(self, serve):
        pool = ConnectionPool(RUNTIME, idle_limit=5, idle_seconds=60)
        first, second = serve(close=False)[0], serve(close=False)[0]
        pool.give("a", first)
        pool.give("a", second)
        assert self.take(pool, "a") is second
        assert self.take(pool, "a") is first
        assert self.take(pool, "a") is None
        assert self.take(pool, "b") is None

    def test_more_than_the_limit_are_closed(self, serve):
        pool = ConnectionPool(RUNTIME, idle_limit=1, idle_seconds=60)
        first, second = serve(close=False)[0], serve(close=False)[0]
        pool.give("a", first)
        pool.give("a", second)
        assert second._socket.fileno() == -1
        assert self.take(pool, "a") is first

    def test_those_idle_for_too_long_are_closed_whoever_asks(self, serve):
        pool = ConnectionPool(RUNTIME, idle_limit=5, idle_seconds=0.01)
        first = serve(close=False)[0]
        pool.give("a", first)
        RUNTIME.sleep(0.03)
        assert self.take(pool, "b") is None
        assert first._socket.fileno() == -1

    def test_a_closed_pool_keeps_nothing(self, serve):
        pool = ConnectionPool(RUNTIME, idle_limit=5, idle_seconds=60)
        kept, late = serve(close=False)[0], serve(close=False)[0]
        pool.give("a", kept)
        pool.close()
        pool.give("a", late)
        assert (kept._socket.fileno(), late._socket.fileno()) == (-1, -1)
