"""The schedulers' token: it opens what schedulers call, and nothing else.

A scheduler's configuration is read by more people than may have the cluster's token. The schedulers'
token follows from that one, so there is nothing to configure and it changes with it, but the cluster's
cannot be found from it. kube-scheduler and Volcano send what stands in their URL,
``http://cachefs:<token>@host:7070/k8s/extender``, as the password of HTTP's *Basic* scheme.
"""

import hmac
from collections.abc import Callable

from cachefs.config.secrets import Secret

PATHS = ("/k8s/", "/volcano/")
"""What the token opens."""
_PURPOSE = b"cachefs: what schedulers call"


def scheduler_token(token: Secret) -> Secret:
    """Return the schedulers' token of a cluster.

    Args:
        token: The cluster's.
    """
    return Secret(hmac.digest(token.reveal().encode(), _PURPOSE, "sha256").hex())


def scheduler_door(token: Secret) -> Callable[[str, str], bool]:
    """Return what says whether a presented token opens a path.

    Args:
        token: The cluster's.
    """
    known = scheduler_token(token)

    def admits(path: str, presented: str) -> bool:
        return path.startswith(PATHS) and known.matches(presented)

    return admits
