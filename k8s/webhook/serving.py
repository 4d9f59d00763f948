"""The serving certificate of a running server: taken from a mounted secret, and taken up as it changes.

The kubelet replaces a mounted secret as a whole, by a link, some time after it changed. A pair is therefore
read from where the link leads now, into a context of its own, and is used from the next handshake on; whoever
has shaken hands keeps what they have. A pair that does not fit together, or cannot be read, changes nothing.

Without a certificate every handshake is refused: API servers then go on without us, as they are told to.
"""

import logging
import ssl
from pathlib import Path

from cachefs.config.secrets import Secret
from cachefs.k8s.webhook.certificates import seconds_left
from cachefs.ports import Closing, Runtime

CERTIFICATE = "tls.crt"
KEY = "tls.key"
TOKEN = "token"  # noqa: S105 - a file's name
"""The schedulers' token, by which hints are asked for."""
LOOK_SECONDS = 5.0
"""Between two looks: the kubelet takes up to two minutes before."""
_CLOSE_SECONDS = 2.0
_LINK = "..data"
"""The kubelet's: it leads to the files that belong together."""

_log = logging.getLogger("cachefs.webhook")


class LiveSecret(Closing):
    """What the mounted secret holds now. The owner closes it."""

    def __init__(
        self, folder: Path, runtime: Runtime, *, look_seconds: float = LOOK_SECONDS
    ) -> None:
        """Read what is there, which may be nothing yet, and go on looking.

        Args:
            folder: Where the secret is mounted.
            runtime: Clock and threads.
            look_seconds: Between two looks.
        """
        self._folder = folder
        self._look_seconds = look_seconds
        self._runtime = runtime
        self._certificate = b""
        self._key = b""
        self._token: Secret | None = None
        self._current: ssl.SSLContext | None = None
        self.context = _context()
        """For listening: each handshake is made with what is current then."""
        self.context.sni_callback = self._choose
        self._changed = runtime.condition()
        self._closed = False
        self.look()
        self._task = runtime.start("webhook-secret", self._watch)

    @property
    def token(self) -> Secret | None:
        """The schedulers' token; ``None`` while there is none."""
        return self._token

    def seconds_left(self) -> float:
        """Return how long the certificate is still good; 0 if there is none."""
        return seconds_left(self._certificate, self._runtime.wall()) if self._current else 0.0

    def look(self) -> None:
        """Take up what the folder holds now."""
        link = self._folder / _LINK
        try:
            folder = link.resolve(strict=True) if link.is_symlink() else self._folder
            token = folder / TOKEN
            if token.exists():
                self._token = Secret(token.read_text(encoding="ascii").strip())
            certificate, key = (folder / CERTIFICATE).read_bytes(), (folder / KEY).read_bytes()
            if (certificate, key) == (self._certificate, self._key):
                return
            fresh = _context()
            fresh.load_cert_chain(folder / CERTIFICATE, folder / KEY)
        except FileNotFoundError:
            return  # not written yet, or replaced just now: seen at the next look
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            _log.warning("the certificate cannot be used", extra={"failure": str(error)})
            return
        self._certificate, self._key, self._current = certificate, key, fresh
        _log.info("took up a certificate", extra={"seconds_left": round(self.seconds_left())})

    def close(self) -> None:
        """Look no more; idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._task.join(_CLOSE_SECONDS)

    def _choose(
        self, handshake: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: ssl.SSLContext
    ) -> int | None:
        current = self._current
        if current is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        handshake.context = current
        return None

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                self._changed.wait(self._look_seconds)
                if not self._closed:
                    self.look()


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
