"""What both S3 clients need to know of AWS: endpoint, region, and the platform's credentials.

botocore's chain is used for both (environment, profiles, single sign-on, web identity, instance
metadata), so that the choice of a client never changes who we are.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from cachefs.config.schema import OriginConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.names import printable
from cachefs.core.urls import split_url
from cachefs.errors import (
    ConfigError,
    OriginChangedError,
    OriginDeniedError,
    OriginError,
    OriginNotFoundError,
    OriginProtocolError,
    OriginUnavailableError,
)
from cachefs.origins.addresses import Addresses
from cachefs.origins.credentials import Credentials

DEFAULT_REGION = "us-east-1"
ASK_AGAIN = timedelta(minutes=10)
"""botocore renews what would expire within ten minutes whenever it is asked; so what it gave is
good for so long, and asking again by then never uses what has expired."""

_DENIED = (
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "401",
    "403",
)
_ABSENT = ("NoSuchKey", "NoSuchBucket", "404")


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the objects are."""

    name: str
    prefix: str
    """Without slashes at its ends; empty for the whole bucket."""
    endpoint_url: str
    """Empty for AWS itself."""
    region: str
    anonymous: bool
    path_style: bool
    """Whether the bucket is in the path, as servers of one's own want it."""


def configure(session: Session, credentials: Credentials) -> Session:
    """Point a session (botocore's or aiobotocore's) at the referenced credentials."""
    if credentials.profile:
        session.set_config_variable("profile", credentials.profile)
    if credentials.file:
        session.set_config_variable("credentials_file", credentials.file)
    if credentials.secrets:
        try:
            access_key = credentials.secrets["access_key_id"]
            secret_key = credentials.secrets["secret_access_key"]
        except KeyError as error:
            raise ConfigError(f"the credentials lack {error.args[0]}") from error
        session_token = credentials.secrets.get("session_token")
        session.set_credentials(
            access_key.reveal(),
            secret_key.reveal(),
            session_token.reveal() if session_token is not None else None,
        )
    return session


def find_bucket(spec: OriginSpec, session: Session, addresses: Addresses) -> Bucket:
    """Return where an ``s3://`` URL leads, with the endpoint checked.

    Raises:
        ConfigError: There is no bucket in the URL, or the profile does not exist.
        OriginDeniedError: The endpoint may not be contacted.
    """
    url = split_url(spec.url)
    if not url.host:
        raise ConfigError("no bucket in the URL", hint="write it like s3://bucket/folder")
    try:
        scoped = session.get_scoped_config()
        region = spec.options.get("region") or session.get_config_variable("region")
    except BotoCoreError as error:
        raise ConfigError("the AWS configuration cannot be used", hint=str(error)) from error
    endpoint = (
        spec.options.get("endpoint_url")
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or str(scoped.get("endpoint_url", ""))
    )
    region = str(region or DEFAULT_REGION)
    addresses.check_endpoint(endpoint or f"https://s3.{region}.amazonaws.com")
    return Bucket(
        url.host,
        url.path.strip("/"),
        endpoint.rstrip("/"),
        region,
        spec.options.get("anon") == "true",
        spec.options.get("addressing", "path" if endpoint else "virtual") == "path",
    )


def client_settings(bucket: Bucket, config: OriginConfig) -> dict[str, Any]:  # Any: botocore's
    """Return botocore's settings for a client of a bucket; without retries, which callers count."""
    return {
        "connect_timeout": config.timeout_seconds,
        "read_timeout": config.timeout_seconds,
        "retries": {"total_max_attempts": 1},
        "max_pool_connections": config.requests_limit,
        "s3": {"addressing_style": "path" if bucket.path_style else "virtual"},
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }


def credential_provider(session: Session, subject: str) -> Callable[[], dict[str, Any]]:
    """Return a function that gives current credentials in obstore's words.

    Raises:
        OriginDeniedError: The chain finds none.
    """
    try:
        found = session.get_credentials()
    except BotoCoreError as error:
        raise ConfigError("the AWS credentials cannot be found", hint=str(error)) from error
    if found is None:
        raise OriginDeniedError(
            "no credentials found",
            subject=subject,
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile; "
            "for a public bucket --option anon=true",
        )

    def provide() -> dict[str, Any]:  # Any: obstore's own typed dictionary
        current = found.get_frozen_credentials()
        return {
            "access_key_id": current.access_key,
            "secret_access_key": current.secret_key,
            "token": current.token,
            "expires_at": datetime.now(UTC) + ASK_AGAIN
            if isinstance(found, RefreshableCredentials)
            else None,
        }

    return provide


def of_status(error: ClientError, subject: str) -> OriginError:
    """Return what an answer of S3 means that is a failure."""
    metadata = error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    hint = printable(str(error).partition("\n")[0][:200])
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = f"the store answered {status} {printable(code)}"
    if status == 404 or code in _ABSENT:
        return OriginNotFoundError("no such object or bucket", subject=subject)
    if status in (401, 403) or code in _DENIED:
        return OriginDeniedError(message, subject=subject, hint=hint)
    if status in (412, 416):
        return OriginChangedError("the object has changed since it was listed", subject=subject)
    if status in (408, 425, 429) or status >= 500 or code == "SlowDown":
        wait = str(metadata.get("HTTPHeaders", {}).get("retry-after", ""))
        return OriginUnavailableError(
            message,
            subject=subject,
            retry_after_seconds=float(wait) if wait.isascii() and wait.isdigit() else None,
        )
    return OriginProtocolError(message, subject=subject, hint=hint)
