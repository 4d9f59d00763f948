"""Asking the coordinator for what schedulers are told, on behalf of who only speaks TLS.

The webhook's own question carries the schedulers' token; kube-scheduler's carry whatever it sent, and the
coordinator decides. All are bounded, and after a failure nobody is asked for a moment: a coordinator that
is gone would otherwise cost every pod of a large deployment its second.
"""

import base64
import threading
from collections.abc import Mapping
from typing import Any

from cachefs.config.secrets import Secret
from cachefs.errors import ConfigError, CoordinatorUnavailableError
from cachefs.k8s.webhook.serving import LiveSecret
from cachefs.ports import Runtime
from cachefs.transport.api import Api

TIMEOUT_SECONDS = 1.0
"""For an answer: of the three seconds that the API server gives us, and the one that schedulers give."""
PAUSE_SECONDS = 2.0
"""For how long nobody is asked after the coordinator did not answer."""
_MUTATE = "/k8s/mutate"
_EXTENDER = "/k8s/extender"


class Hinting:
    """Asks one coordinator; safe from any thread."""

    def __init__(self, coordinator: str, secret: LiveSecret, runtime: Runtime) -> None:
        """Ask nobody yet.

        Args:
            coordinator: ``host:port`` of its HTTP API.
            secret: Has the schedulers' token.
            runtime: For its clock.
        """
        self._coordinator = coordinator
        self._secret = secret
        self._runtime = runtime
        self._lock = threading.Lock()
        self._silent_until = float("-inf")

    def review(self, review: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the coordinator's answer to an ``AdmissionReview``.

        Raises:
            ConfigError: We have no token yet.
            CacheFSError: There is no answer.
        """
        token = self._secret.token
        if token is None:
            raise ConfigError("the webhook has no token yet")
        answer = self._ask(_MUTATE, review, token)
        return answer if isinstance(answer, dict) else {}

    def extend(
        self, verb: str, arguments: Mapping[str, Any], authorization: str
    ) -> Any:  # Any: JSON
        """Return the coordinator's answer to ``ExtenderArgs``.

        Args:
            verb: ``filter`` or ``prioritize``.
            arguments: What the scheduler sent.
            authorization: The header that it sent, which counts as if it had sent it there.

        Raises:
            CacheFSError: There is no answer.
        """
        return self._ask(f"{_EXTENDER}/{verb}", arguments, _presented(authorization))

    def _ask(self, path: str, body: Mapping[str, Any], token: Secret) -> Any:  # Any: JSON
        with self._lock:
            if self._runtime.monotonic() < self._silent_until:
                raise CoordinatorUnavailableError("the coordinator does not answer")
        try:
            return Api(self._coordinator, token).post(path, body, timeout_seconds=TIMEOUT_SECONDS)
        except CoordinatorUnavailableError:
            with self._lock:
                self._silent_until = self._runtime.monotonic() + PAUSE_SECONDS
            raise


def _presented(authorization: str) -> Secret:
    """Return the token of a header, as a bearer's or as the password of a URL."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode("ascii").partition(":")[2]
        except ValueError:
            value = ""
    if not value.isascii() or not value.isprintable():
        value = ""
    return Secret(value.strip())
