"""Signatures: AWS's Signature Version 4, checked as S3 does, in headers or in the query.

The client signs a canonical form of its request with a key that follows from the secret, the day,
the region and the service. We make the same form from what arrived and compare. The path and the
query are decoded and encoded again by S3's own rule, because clients differ in what they escape. Any
region is as good as another: it takes part in the signature, and nobody here has one.

The payload's digest is part of the form. Requests here have no payload, so what a client may say of
it is that it is empty, or that it is not signed; streamed payloads belong to uploads.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from cachefs.config.secrets import Secret
from cachefs.gateway.credentials import AccessKey
from cachefs.gateway.s3.refusals import Refusal, denied, invalid
from cachefs.gateway.targets import Target, decode, split_target
from cachefs.transport.serving.requests import Request

SKEW_SECONDS = 15 * 60.0
"""A request that was signed longer ago, or so far in the future, is refused, as by S3."""
EXPIRES_SECONDS_MAX = 7 * 86400
"""A presigned URL may be good for a week, as with S3."""

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY = hashlib.sha256(b"").hexdigest()

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=([^,\s]{1,256})\s*,\s*"
    r"SignedHeaders=([^,\s]{1,2048})\s*,\s*Signature=([0-9a-f]{64})\s*"
)
_SCOPE = re.compile(r"([^/]{1,128})/(\d{8})/([a-zA-Z0-9-]{1,64})/s3/aws4_request", re.ASCII)
_TIME = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_SIGNATURE = re.compile(r"[0-9a-f]{64}", re.ASCII)
_EXPIRES = re.compile(r"\d{1,10}", re.ASCII)
_IN_QUERY = ("X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders")


class _Scope(NamedTuple):
    key_id: str
    day: str
    region: str


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a request says of its own signature."""

    scope: _Scope
    time: str
    signed_headers: Sequence[str]
    signature: str
    payload: str
    expires_seconds: int | None
    """``None`` if it is signed in its headers."""


def check_signature(request: Request, key: AccessKey, *, now: float, anonymous: bool) -> None:
    """Check that a request was signed with the key, not long ago.

    Args:
        request: As it arrived.
        key: The only key there is.
        now: Seconds since 1970.
        anonymous: Whether a request without any signature is let through.

    Raises:
        Refusal: It was not.
    """
    target = split_target(request.target)
    claim = _claim_of(request, target)
    if claim is None:
        if anonymous:
            return
        raise denied("The request is not signed; `cachefs endpoints` shows the keys.")
    if not hmac.compare_digest(claim.scope.key_id.encode(), key.id.encode()):
        raise Refusal(403, "InvalidAccessKeyId", "There is no such access key.")
    _check_time(claim, now)
    expected = _sign(request, target, claim, key.secret)
    if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
        raise Refusal(
            403, "SignatureDoesNotMatch", "The signature is not the one of this request and key."
        )


def _claim_of(request: Request, target: Target) -> _Claim | None:
    authorization = request.headers.get("authorization")
    in_query = "X-Amz-Signature=" in target.query or "X-Amz-Algorithm=" in target.query
    if authorization is not None:
        if in_query:
            raise invalid("Only one way of signing a request is allowed.")
        return _claim_in_headers(request, authorization)
    if "Signature=" in target.query and not in_query:
        raise invalid(f"Please sign with {ALGORITHM}.", "InvalidRequest")
    return _claim_in_query(request, target) if in_query else None


def _claim_in_headers(request: Request, authorization: str) -> _Claim:
    if not authorization.startswith(ALGORITHM):
        raise invalid(f"Please sign with {ALGORITHM}.", "InvalidRequest")
    match = _AUTHORIZATION.fullmatch(authorization)
    if match is None:
        raise invalid("The Authorization header is malformed.", "AuthorizationHeaderMalformed")
    payload = request.headers.get("x-amz-content-sha256", EMPTY)
    if payload not in (EMPTY, UNSIGNED):
        raise invalid("A request here has no payload.", "XAmzContentSHA256Mismatch")
    return _Claim(
        scope=_scope(match[1], "AuthorizationHeaderMalformed"),
        time=request.headers.get("x-amz-date", ""),
        signed_headers=match[2].split(";"),
        signature=match[3],
        payload=payload,
        expires_seconds=None,
    )


def _claim_in_query(request: Request, target: Target) -> _Claim:
    malformed = "AuthorizationQueryParametersError"
    values = target.only_parameters()
    if values.get("X-Amz-Algorithm") != ALGORITHM:
        raise invalid(f"X-Amz-Algorithm must be {ALGORITHM}.", malformed)
    lacking = [name for name in _IN_QUERY if not values.get(name)]
    if lacking:
        raise invalid(f"{' and '.join(lacking)} must be given.", malformed)
    signature = values.get("X-Amz-Signature", "")
    if not _SIGNATURE.fullmatch(signature):
        raise invalid("X-Amz-Signature is malformed.", malformed)
    expires = values["X-Amz-Expires"]
    if not _EXPIRES.fullmatch(expires) or not 0 < int(expires) <= EXPIRES_SECONDS_MAX:
        raise invalid(f"X-Amz-Expires must be from 1 to {EXPIRES_SECONDS_MAX}.", malformed)
    payload = request.headers.get("x-amz-content-sha256", UNSIGNED)
    if payload not in (EMPTY, UNSIGNED):
        raise invalid("A request here has no payload.", "XAmzContentSHA256Mismatch")
    return _Claim(
        scope=_scope(values["X-Amz-Credential"], malformed),
        time=values["X-Amz-Date"],
        signed_headers=values["X-Amz-SignedHeaders"].split(";"),
        signature=signature,
        payload=payload,
        expires_seconds=int(expires),
    )


def _scope(credential: str, code: str) -> _Scope:
    match = _SCOPE.fullmatch(credential)
    if match is None:
        raise invalid("The credential must be KEY/YYYYMMDD/REGION/s3/aws4_request.", code)
    return _Scope(*match.groups())


def _check_time(claim: _Claim, now: float) -> None:
    in_query = claim.expires_seconds is not None
    if not _TIME.fullmatch(claim.time):
        raise denied("X-Amz-Date must be given, as YYYYMMDDTHHMMSSZ.")
    try:
        signed_at = datetime.strptime(claim.time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise denied("X-Amz-Date is no date.") from error
    if claim.time[:8] != claim.scope.day:
        raise invalid(
            "The credential's day is not that of X-Amz-Date.",
            "AuthorizationQueryParametersError" if in_query else "AuthorizationHeaderMalformed",
        )
    if "host" not in claim.signed_headers:
        raise denied("The Host header must be signed.")
    if claim.expires_seconds is not None:
        if signed_at > now + SKEW_SECONDS:
            raise denied("The request is not valid yet.")
        if now > signed_at + claim.expires_seconds:
            raise denied("The request has expired.")
    elif abs(now - signed_at) > SKEW_SECONDS:
        raise Refusal(
            403, "RequestTimeTooSkewed", "The clocks of client and server are too far apart."
        )


def _sign(request: Request, target: Target, claim: _Claim, secret: Secret) -> str:
    form = canonical_form(
        request, target, signed_headers=claim.signed_headers, payload=claim.payload
    )
    scope = claim.scope
    text = "\n".join(
        (
            ALGORITHM,
            claim.time,
            f"{scope.day}/{scope.region}/s3/aws4_request",
            hashlib.sha256(form.encode("latin-1", "replace")).hexdigest(),
        )
    )
    signing_key = _signing_key(secret.reveal(), scope.day, scope.region)
    return hmac.digest(signing_key, text.encode(), hashlib.sha256).hex()


def canonical_form(
    request: Request, target: Target, *, signed_headers: Sequence[str], payload: str
) -> str:
    """Return what is signed of a request, as the specification lays it out."""
    pairs = sorted(
        (quote(name, safe="-._~"), quote(value, safe="-._~"))
        for name, value in target.parameters()
        if name != "X-Amz-Signature"
    )
    lines = [
        request.method,
        quote(decode(target.path), safe="/-._~"),
        "&".join(f"{name}={value}" for name, value in pairs),
        *(f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in signed_headers),
        "",
        ";".join(signed_headers),
        payload,
    ]
    return "\n".join(lines)


@lru_cache(maxsize=16)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for word in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, word.encode(), hashlib.sha256)
    return key
