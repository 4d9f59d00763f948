"""Answering: request after request of one connection, until that ends, idles or makes no sense."""

from collections.abc import Callable

from cachefs.errors import ClusterError, ConfigError
from cachefs.ports import Runtime
from cachefs.transport.serving.conversation import HEAD_SECONDS, Conversation
from cachefs.transport.serving.listening import Guest
from cachefs.transport.serving.requests import Request, parse_head


def answer_requests(
    runtime: Runtime,
    guest: Guest,
    conversation: Conversation,
    *,
    idle_seconds: float,
    respond: Callable[[Request], bool],
    refuse: Callable[[ConfigError], None],
    foreign: bool = False,
) -> None:
    """Answer requests until the other side leaves, is idle for too long, or makes no sense.

    Args:
        runtime: For its clock.
        guest: Who asks; it is noted there since when nothing is asked.
        conversation: With the guest's socket.
        idle_seconds: How long the next request may be waited for.
        respond: Answers one; returns whether the connection can go on.
        refuse: Answers what is no request. It is the last answer: where the next request begins is
            anybody's guess then.
        foreign: As for :func:`.requests.parse_head`.

    Raises:
        OSError: The other side is gone or too slow.
    """
    patience = min(HEAD_SECONDS, idle_seconds)
    while True:
        try:
            head = conversation.read_head(patience)
            if head is None:
                return
            guest.idle_since = None
            request = parse_head(head, foreign=foreign)
        except (ClusterError, ConfigError) as error:
            refuse(ConfigError(error.message))
            return
        if not respond(request):
            return
        guest.idle_since = runtime.monotonic()
        patience = idle_seconds
