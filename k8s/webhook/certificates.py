"""Certificates of the webhook, and in which order they change so that no handshake fails.

An API server trusts what is in the webhook's configuration, a server shows what is in its secret, and
either learns of a change some time after it was written. So the rule is: *trusted long before it is
used, and until nothing can use it any more.*

* An authority is made when the newest is past half its life. It is kept first, then trusted, and signs
  nothing for the next :data:`SETTLE_SECONDS`.
* A certificate is made when there is none of use, when it is past half its life, or when another authority signs.
* Of an authority that signs no more, the key is dropped at once, and the certificate stays trusted until
  it expires: no certificate of it is good for longer, wherever an old one may still be shown.

:func:`next_step` looks at what is there and names one change. Whoever carries it out looks again
afterwards; who is interrupted between two changes, or is told that somebody else was faster, has lost nothing.

Why these lives: an authority of a year is trusted for half a year before the next one, so an operator
that was away for months finds one that still signs. A certificate of 30 days is renewed after 15, and
15 more may pass without an operator. Shorter ones would make the operator's absence an outage, and what
they protect is worth little: whoever had the key could answer reviews, from within the cluster's network.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY_SECONDS = 86400.0
AUTHORITY_SECONDS = 365 * DAY_SECONDS
SERVING_SECONDS = 30 * DAY_SECONDS
SKEW_SECONDS = 3600.0
"""Certificates are good from so long before they were made: whoever looks may have another clock."""
SETTLE_SECONDS = 600.0
"""From when an authority is trusted until it signs. API servers see the configuration within seconds;
the rest is for clocks that differ by minutes, of one operator and the next."""

_AUTHORITY_NAME = "cachefs webhook authority"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs, or signed."""

    certificate: bytes
    """As PEM."""
    key: bytes = b""
    """As PEM; empty once it signs no more."""
    trusted_since: float | None = None
    """When it was first seen in the webhook's configuration, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there now."""

    authorities: tuple[Authority, ...] = ()
    """The oldest first."""
    trusted: bytes | None = b""
    """What API servers trust, as PEM; ``None`` if there is no configuration to say so."""
    serving: Pair | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """The authorities shall be these."""

    authorities: tuple[Authority, ...]


@dataclass(frozen=True, slots=True)
class Trust:
    """API servers shall trust these."""

    bundle: bytes


@dataclass(frozen=True, slots=True)
class Serve:
    """Servers shall show this."""

    pair: Pair


Step = Keep | Trust | Serve


def next_step(now: float, seen: Seen, names: Sequence[str]) -> Step | None:
    """Return what is to be changed next; ``None`` if all is well.

    Args:
        now: Seconds since 1970.
        seen: What is there. What cannot be read of it is taken for absent.
        names: The DNS names of the server, the one that API servers use first.
    """
    known = tuple(
        each
        for each in seen.authorities
        if (made := _read(each.certificate)) and _is_good(made, now)
    )
    if not known or _is_half_over(known[-1].certificate, now) or not known[-1].key:
        return Keep((*known, make_authority(now)))
    if known != seen.authorities:
        return Keep(known)
    trusted = _certificates(seen.trusted or b"")
    if seen.trusted is not None:
        wanted = _certificates(bundle_of(known)) | {one for one in trusted if _is_good(one, now)}
        if wanted != trusted:
            return Trust(_pem(wanted))
    if any(each.trusted_since is None for each in known):
        return Keep(tuple(_trusted(each, now) for each in known))
    return _serving_step(now, seen, known, names)


def _serving_step(
    now: float, seen: Seen, known: tuple[Authority, ...], names: Sequence[str]
) -> Step | None:
    settled = [
        each for each in known if each.key and now - (each.trusted_since or 0) >= SETTLE_SECONDS
    ]
    # Also by one whose key was lost: who is trusted is believed.
    believed = (*known, *(Authority(_encoded(one)) for one in _certificates(seen.trusted or b"")))
    serves = seen.serving is not None and any(
        is_served_by(seen.serving, each, names, now) for each in believed
    )
    # Where nothing can be served as it is, there is nothing to be careful of.
    signers = settled or ([] if serves else [each for each in known if each.key])
    if not signers:
        return None
    signer = signers[-1]
    pair = seen.serving
    if (
        pair is None
        or not is_served_by(pair, signer, names, now)
        or _is_half_over(pair.certificate, now)
    ):
        return Serve(issue(now, signer, names))
    older = known[: known.index(signer)]
    if any(each.key for each in older):
        return Keep((*(replace(each, key=b"") for each in older), *known[len(older) :]))
    return None


def bundle_of(authorities: Iterable[Authority]) -> bytes:
    """Return the certificates of authorities, one after the other."""
    return b"".join(each.certificate for each in authorities)


def make_authority(now: float) -> Authority:
    """Return a new authority, whom nobody trusts yet."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"{_AUTHORITY_NAME} {serial % 16**8:08x}")]
    )
    made = (
        _builder(now, AUTHORITY_SECONDS, name, key.public_key(), serial)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(_identifier(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(_encoded(made), _encoded_key(key))


def issue(now: float, signer: Authority, names: Sequence[str]) -> Pair:
    """Return a new certificate of a server; it ends with its authority at the latest."""
    authority = x509.load_pem_x509_certificate(signer.certificate)
    authority_key = serialization.load_pem_private_key(signer.key, password=None)
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise TypeError("an authority's key is on an elliptic curve")
    key = ec.generate_private_key(ec.SECP256R1())
    seconds = min(SERVING_SECONDS, authority.not_valid_after_utc.timestamp() - now)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    made = (
        _builder(now, seconds, subject, key.public_key(), x509.random_serial_number())
        .issuer_name(authority.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_names(names), critical=False)
        .add_extension(_identifier(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                _identifier(authority_key.public_key())
            ),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    return Pair(_encoded(made), _encoded_key(key))


def is_served_by(pair: Pair, authority: Authority, names: Sequence[str], now: float) -> bool:
    """Return whether a pair is good now, for these names, and by this authority."""
    made, signer = _read(pair.certificate), _read(authority.certificate)
    if made is None or signer is None or not _is_good(made, now) or not _belongs(pair, made):
        return False
    try:
        made.verify_directly_issued_by(signer)
        shown = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return set(shown.get_values_for_type(x509.DNSName)) == set(names)


def seconds_left(certificate: bytes, now: float) -> float:
    """Return how long a certificate is good from now; 0 for what is none."""
    made = _read(certificate)
    return max(made.not_valid_after_utc.timestamp() - now, 0.0) if made else 0.0


def _belongs(pair: Pair, made: x509.Certificate) -> bool:
    try:
        key = serialization.load_pem_private_key(pair.key, password=None)
    except (ValueError, TypeError):
        return False
    return key.public_key() == made.public_key()


def _trusted(authority: Authority, now: float) -> Authority:
    return replace(authority, trusted_since=now) if authority.trusted_since is None else authority


def _read(certificate: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(certificate)
    except ValueError:
        return None


def _certificates(bundle: bytes) -> frozenset[x509.Certificate]:
    """Return the certificates of a bundle; none if it cannot be read."""
    try:
        return frozenset(x509.load_pem_x509_certificates(bundle))
    except ValueError:
        return frozenset()


def _pem(certificates: Iterable[x509.Certificate]) -> bytes:
    ordered = sorted(certificates, key=lambda one: (one.not_valid_before_utc, one.serial_number))
    return b"".join(_encoded(one) for one in ordered)


def _is_good(made: x509.Certificate, now: float) -> bool:
    return now < made.not_valid_after_utc.timestamp()


def _is_half_over(certificate: bytes, now: float) -> bool:
    made = _read(certificate)
    if made is None:
        return True
    begin, end = made.not_valid_before_utc.timestamp(), made.not_valid_after_utc.timestamp()
    return now > (begin + end) / 2


def _builder(
    now: float, seconds: float, name: x509.Name, key: ec.EllipticCurvePublicKey, serial: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(datetime.fromtimestamp(now - SKEW_SECONDS, UTC))
        .not_valid_after(datetime.fromtimestamp(now + seconds, UTC))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _identifier(key: ec.EllipticCurvePublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key)


def _names(names: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(name) for name in names])


def _encoded(made: x509.Certificate) -> bytes:
    return made.public_bytes(serialization.Encoding.PEM)


def _encoded_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
