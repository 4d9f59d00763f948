"""Credentials and options: what may be written beside a URL, and where secrets come from instead.

A dataset's options are stored, listed and sent between processes; so no secret may be among them.
``credentials`` is a *reference*, resolved where the origin is opened:

- ``profile:NAME``: a profile of the AWS configuration;
- ``env:PREFIX``: ``PREFIX_ACCESS_KEY_ID``, ``PREFIX_SECRET_ACCESS_KEY``, ``PREFIX_SESSION_TOKEN``
  (s3), or ``PREFIX_TOKEN`` (hf, http), in the environment of the process;
- ``file:PATH``: an AWS credentials file (s3), a service account's JSON (gs), a token (hf, http);
- none: the platform's own chain (environment, files, instance metadata, Hub log-in).

Resolved secrets live in :class:`~cachefs.config.secrets.Secret`, and are revealed only to the
client that sends them.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import ip_address
from pathlib import Path

from cachefs.config.secrets import Secret
from cachefs.core.names import printable
from cachefs.core.urls import split_url
from cachefs.errors import ConfigError, OriginDeniedError

_SECRET_NAMES = (
    "*secret*",
    "*passw*",
    "*pwd*",
    "*passphrase*",
    "*token*",
    "*key*",
    "*credential*",
    "*auth*",
    "*signature*",
    "*bearer*",
    "*cookie*",
    "*header*",
    "*sas*",
    "*connection_string*",
)
_OPTIONS = {
    "file": frozenset[str](),
    "http": frozenset({"credentials"}),
    "https": frozenset({"credentials"}),
    "s3": frozenset({"credentials", "endpoint_url", "region", "anon", "addressing"}),
    "gs": frozenset({"credentials", "endpoint_url", "anon"}),
    "az": frozenset({"credentials", "endpoint_url", "anon", "account"}),
    "hf": frozenset({"credentials", "endpoint_url", "anon"}),
}
_VALUES = {
    "anon": ("true", "false"),
    "addressing": ("path", "virtual"),
}
_FORMS = {
    "account": (
        re.compile(r"[a-z0-9]{3,24}"),
        "3 to 24 small letters and digits; another server is endpoint_url",
    ),
    "region": (re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}"), "letters, digits, - and _"),
}
"""Of what becomes part of a host's name: with a slash in it, it would be another host's."""
_KINDS = ("profile", "env", "file")
FILE_BYTES_MAX = 64 * 1024


def check_options(scheme: str, options: Mapping[str, str]) -> None:
    """Refuse options that hold secrets, or that the scheme does not have.

    Raises:
        ConfigError: It says which option, and what to do instead.
    """
    for name, value in options.items():
        lower = name.lower()
        if name == "credentials":
            parse_reference(value)
        elif any(fnmatchcase(lower, pattern) for pattern in _SECRET_NAMES):
            raise ConfigError(
                f"the option {printable(name)} looks like a secret, and options are stored",
                hint="use the platform's credentials chain, or credentials=profile:NAME, "
                "credentials=env:PREFIX or credentials=file:PATH",
            )
        known = _OPTIONS.get(scheme)
        if known is not None and name not in known:
            hint = f"it knows {', '.join(sorted(known))}" if known else "it takes no options"
            raise ConfigError(f"{scheme} has no option {printable(name)!r}", hint=hint)
        if known is not None and name in _VALUES and value not in _VALUES[name]:
            raise ConfigError(
                f"{name}={printable(value)} is not possible",
                hint="use " + " or ".join(_VALUES[name]),
            )
        if known is not None and name in _FORMS and not _FORMS[name][0].fullmatch(value):
            raise ConfigError(f"{name}={printable(value)} is not possible", hint=_FORMS[name][1])
        if lower.endswith(("url", "endpoint")) and "@" in value:
            raise ConfigError(f"the option {printable(name)} holds a user name or a password")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a reference resolved to. Empty: use the platform's chain."""

    profile: str = ""
    """An AWS profile."""
    file: str = ""
    """A file in the client's own format, which the client reads."""
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    """``access_key_id``, ``secret_access_key``, ``session_token``, or ``token``."""


def parse_reference(reference: str) -> tuple[str, str]:
    """Return kind and value of a reference.

    Raises:
        ConfigError: It is not one; it is not shown, for it may be the secret itself.
    """
    kind, colon, value = reference.partition(":")
    if not colon or kind not in _KINDS or not value:
        raise ConfigError(
            "credentials is not a reference",
            hint="use profile:NAME, env:PREFIX or file:PATH; a secret itself is never stored",
        )
    return kind, value


def find_credentials(options: Mapping[str, str], environment: Mapping[str, str]) -> Credentials:
    """Resolve the ``credentials`` option.

    Raises:
        ConfigError: The reference leads nowhere on this machine.
    """
    reference = options.get("credentials")
    if reference is None:
        return Credentials()
    kind, value = parse_reference(reference)
    if kind == "profile":
        return Credentials(profile=value)
    if kind == "file":
        if not os.access(value, os.R_OK):
            raise ConfigError(
                "the credentials file cannot be read here",
                subject=printable(value),
                hint="every worker and the coordinator need it",
            )
        return Credentials(file=value)
    names = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "TOKEN")
    secrets = {
        name.lower(): Secret(environment[f"{value}_{name}"])
        for name in names
        if environment.get(f"{value}_{name}")
    }
    if not secrets:
        raise ConfigError(
            f"no variable {printable(value)}_ACCESS_KEY_ID or {printable(value)}_TOKEN here",
            hint="every worker and the coordinator need it in their environment",
        )
    return Credentials(secrets=secrets)


def check_plain(options: Mapping[str, str]) -> None:
    """Refuse to send the platform's own token to a dataset's endpoint in clear.

    Raises:
        OriginDeniedError: The endpoint is plain HTTP on another machine, and nothing says that no
            credentials, or which, are to be sent there.
    """
    endpoint = options.get("endpoint_url", "")
    if not endpoint.lower().startswith("http://"):
        return
    if options.get("anon") == "true" or "credentials" in options:
        return
    host = split_url(endpoint).host
    if not _is_loopback(host):
        raise OriginDeniedError(
            "the platform's own credentials are not sent over plain HTTP",
            subject=printable(host),
            hint="use https, or --option anon=true, or name the credentials",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bearer_token(credentials: Credentials) -> Secret | None:
    """Return the token of ``env:PREFIX`` or ``file:PATH``, ``None`` for the chain.

    Raises:
        ConfigError: There are credentials, but no token among them.
    """
    if credentials.file:
        try:
            with Path(credentials.file).open(encoding="ascii") as file:
                text = file.read(FILE_BYTES_MAX).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("cannot read the token file", subject=credentials.file) from error
        return Secret(text)
    if "token" in credentials.secrets:
        return credentials.secrets["token"]
    if credentials == Credentials():
        return None
    raise ConfigError("these credentials hold no token", hint="use env:PREFIX or file:PATH")
