"""Keys for the endpoints: made from the cluster's token, good for reading only.

Programs send their S3 and Hub credentials wherever their environment says, perhaps by mistake to
the real services. So what they hold is not the cluster's token, with which one can speak as a
worker, but keys that are derived from it, one way. They are the same after each start, and change
with the token. ``cachefs up`` writes them to files that programs read by themselves, so that nobody
need have a secret on the screen or in an environment.
"""

import base64
import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from cachefs.config.secrets import Secret

S3_FILE = "s3-credentials"
"""As AWS's programs read it; named by ``AWS_SHARED_CREDENTIALS_FILE``."""
HUB_FILE = "hub-token"
"""Named by ``HF_TOKEN_PATH``."""
REGION = "us-east-2"
"""What we call the region that S3 clients want. Any will do for us; for this one, other than for the
oldest, boto3 signs URLs with version 4."""

_KEY_ID_CHARACTERS = 13
"""With the seven of ``CACHEFS`` as long as one of AWS, as some programs want."""


@dataclass(frozen=True, slots=True)
class AccessKey:
    """What signs a request to the S3 endpoint."""

    id: str
    secret: Secret


def access_key(token: Secret) -> AccessKey:
    """Return the key of the S3 endpoint."""
    name = base64.b32encode(_derive(token, "s3 access key id")).decode()[:_KEY_ID_CHARACTERS]
    secret = base64.b64encode(_derive(token, "s3 secret access key")[:30]).decode()
    return AccessKey(f"CACHEFS{name}", Secret(secret))


def hub_token(token: Secret) -> Secret:
    """Return the token of the Hub endpoint, in the form that Hub clients know."""
    return Secret(f"hf_cachefs{_derive(token, 'hub token').hex()[:40]}")


def write_keys(folder: Path, token: Secret) -> None:
    """Write both keys to files that only their owner may read."""
    key = access_key(token)
    folder.mkdir(mode=0o700, exist_ok=True)
    profile = (
        f"[default]\naws_access_key_id = {key.id}\naws_secret_access_key = {key.secret.reveal()}\n"
    )
    for name, content in ((S3_FILE, profile), (HUB_FILE, hub_token(token).reveal() + "\n")):
        partial = folder / f".{name}.{os.getpid()}"
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
        partial.replace(folder / name)


def _derive(token: Secret, purpose: str) -> bytes:
    return hmac.digest(token.reveal().encode(), f"cachefs {purpose}".encode(), hashlib.sha256)
