"""Trusting: whether an API server that has our bundle would believe the certificate that we serve."""

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from cachefs.k8s.webhook.certificates import seconds_left
from cachefs.k8s.webhook.renewing import names_of


def problem_with(serving: bytes, bundles: Sequence[bytes], namespace: str, now: float) -> str:
    """Return what keeps the webhook from being believed, for people; empty if nothing does.

    Args:
        serving: The certificate that is served, PEM.
        bundles: What each entry of the configuration trusts, PEM.
        namespace: Of the webhook.
        now: Seconds since 1970.
    """
    if not serving:
        return "it has no certificate"
    if seconds_left(serving, now) <= 0:
        return "its certificate has run out"
    try:
        certificate = x509.load_pem_x509_certificates(serving)[0]
        shown = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        return f"its certificate cannot be read: {error}"
    name = names_of(namespace)[0]
    if name not in shown.get_values_for_type(x509.DNSName):
        return f"its certificate is not for {name}"
    if not bundles or not all(_trusts(bundle, certificate) for bundle in bundles):
        return "the API server is not told to trust its certificate"
    return ""


def _trusts(bundle: bytes, certificate: x509.Certificate) -> bool:
    try:
        authorities = x509.load_pem_x509_certificates(bundle)
    except ValueError:
        return False
    return any(_has_signed(authority, certificate) for authority in authorities)


def _has_signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
