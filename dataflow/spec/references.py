"""References to secrets, and what looks like a secret where none may be.

A flow is stored, listed, shown and copied into logs, so no secret may be in it. Where one is needed, the
flow says where it is found on the machine that needs it: ``env:NAME`` or ``file:PATH``, as datasets do
(:mod:`cachefs.origins.credentials`).
"""

import re

from cachefs.core.urls import split_url
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.spec.problems import At, kind_of, quoted
from cachefs.errors import ConfigError
from cachefs.origins.credentials import check_options, parse_reference
from cachefs.origins.destinations import check_writable

_SECRET = re.compile(
    r"(?:^|[-_.])(?:secrets?|passw(?:or)?d|passphrase|pwd|tokens?|credentials?|auth|authori[sz]ation"
    r"|bearer|cookie|signature|(?:api|access|private|secret)[-_]?key)(?:$|[-_.])",
    re.IGNORECASE,
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}", re.ASCII)
CLUSTER_SECRET = re.compile(
    r"secret:([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)/([A-Za-z0-9._-]{1,253})", re.ASCII
)
"""``secret:NAME/KEY``: a key of a Kubernetes secret in the flow's namespace."""
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}", re.ASCII)


def looks_secret(name: str) -> bool:
    """Say whether what is called so is most likely a secret: ``HF_TOKEN``, ``X-Api-Key``."""
    return _SECRET.search(name) is not None


def secret(value: Value, at: At) -> str:
    """``env:NAME`` or ``file:PATH``. What else it is, is not shown: it may be the secret itself."""
    kind, _, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
    good = _VARIABLE.fullmatch(rest) if kind == "env" else kind == "file" and rest.startswith("/")
    if not isinstance(value, str) or not good:
        raise at.fault(
            "not a reference to a secret",
            "write env:NAME or file:/PATH; a secret itself is never stored",
            secret=True,
        )
    return value


def credentials(value: Value, at: At) -> str:
    """``profile:NAME``, ``env:PREFIX`` or ``file:PATH``, as an origin's credentials."""
    try:
        parse_reference(value if isinstance(value, str) else "")
    except ConfigError as error:
        raise at.fault(error.message, error.hint, secret=True) from error
    return str(value)


def variable(value: Value, at: At) -> str:
    """Return a value of an environment variable; the place's last key is its name."""
    key = _key(at, _VARIABLE, "a variable")
    if looks_secret(key):
        hint = f"write secrets: {{{key}: env:{key}}}, or file:/PATH"
        raise at.fault(
            f"{key} looks like a secret, and flows are stored", hint, at_key=True, secret=True
        )
    return _value(value, at)


def secret_variable(value: Value, at: At) -> str:
    """Return a reference to a variable's value; of a program on a cluster, to a key of a secret there."""
    _key(at, _VARIABLE, "a variable")
    if isinstance(value, str) and CLUSTER_SECRET.fullmatch(value):
        return value
    return secret(value, at)


def header(value: Value, at: At) -> str:
    """Return a value of an HTTP header."""
    key = _key(at, _HEADER, "a header")
    if looks_secret(key):
        hint = f"write secret_headers: {{{key}: env:NAME}}, or file:/PATH"
        raise at.fault(
            f"{key} looks like a secret, and flows are stored", hint, at_key=True, secret=True
        )
    text = _value(value, at)
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise at.fault("a control character in a header")
    return text


def secret_header(value: Value, at: At) -> str:
    """Return a reference to a header's value."""
    _key(at, _HEADER, "a header")
    return secret(value, at)


def http_url(value: Value, at: At) -> str:
    """``http://…``, ``https://…``, or a reference: of some hooks, the URL is the secret."""
    if isinstance(value, str) and value.startswith(("env:", "file:/")) and "://" not in value:
        return secret(value, at)
    address = url(value, at)
    if not address.startswith(("http://", "https://")):
        raise at.fault(f"not an HTTP URL: {quoted(address)}", "write https://…, or env:NAME")
    return address


def url(value: Value, at: At) -> str:
    """A URL of an origin, without user name and password."""
    if not isinstance(value, str):
        raise at.fault(f"{kind_of(value)}, where a URL is needed")
    try:
        split_url(value)
    except ConfigError as error:
        raise at.fault(error.message, error.hint, secret=True) from error
    return value


def check_origin_options(scheme: str, options: dict[str, str], at: At) -> None:
    """Note what is wrong with an origin's options."""
    try:
        check_options(scheme, options)
    except ConfigError as error:
        at.fault(error.message, error.hint, secret=True)


def check_destination_url(text: str, at: At) -> None:
    """Note it if nothing can be written to a URL."""
    try:
        check_writable(text)
    except ConfigError as error:
        at.fault(error.message, error.hint)


def _key(at: At, grammar: re.Pattern[str], kind: str) -> str:
    key = str(at.path[-1])
    if not grammar.fullmatch(key):
        raise at.fault(f"not the name of {kind}: {quoted(key)}", at_key=True)
    return key


def _value(value: Value, at: At) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise at.fault(f"{kind_of(value)}, where text is needed")
    if "\0" in str(value):
        raise at.fault("a NUL character")
    return str(value)
