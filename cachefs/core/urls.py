"""URLs of origins: how they are taken apart, and which hosts and addresses may be contacted.

A coordinator and its workers open URLs that others wrote, from inside a network that those others
may not be in. So there is an allow-list of host names, and a list of addresses that are never
contacted whatever the configuration says: those where clouds hand out the machine's own
credentials. Names are checked here as text and addresses as numbers; resolving a name is I/O and
happens in :mod:`cachefs.origins.addresses`, which connects to the very address that it checked.
"""

import re
from dataclasses import dataclass, replace
from fnmatch import translate
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from cachefs.core.names import printable
from cachefs.errors import ConfigError

CONFINED = "confined"
"""The option in which a :class:`Confinement` travels; what somebody declares of it is not heeded."""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)
_UPWARDS = re.compile(r"(^|/)(\.|%2e){2}(/|$)", re.IGNORECASE)

_METADATA_HOSTS = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
        "metadata.tencentyun.com",
    }
)

_METADATA_NETWORKS = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local: AWS, Google, Azure, Oracle, OpenStack and others
        "fe80::/10",  # link-local of IPv6
        "fd00:ec2::/32",  # AWS over IPv6
        "fd20:ce::/32",  # Google over IPv6
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's platform address
        "192.0.0.192/32",  # Oracle's older one
    )
)
_NAT64 = ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class OriginUrl:
    """An origin's URL in parts."""

    scheme: str
    host: str
    """Host or bucket, in lower case where it is a host; empty for ``file://``."""
    port: int | None
    path: str
    """What follows the host, with its leading slash, still percent-encoded."""
    query: str

    @property
    def plain(self) -> str:
        """The URL without its query."""
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}"


def split_url(url: str) -> OriginUrl:
    """Take a URL apart.

    Raises:
        ConfigError: It is not one, or it holds a user name or a password.
    """
    shown = printable(url)
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme.lower()):
        # `rest` may hold a password: only the scheme-less text is shown.
        hint = "write it like s3://bucket/folder or file:///folder"
        if shown.startswith("/"):
            hint = f"for files of the workers' own machines write file://{shown}"
        raise ConfigError(f"not a URL: {shown!r}", hint=hint)
    if any(ord(character) < 32 or character == "\x7f" for character in url):
        raise ConfigError(f"control characters in the URL {shown!r}")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority and scheme.lower() != "hf":
        raise ConfigError(
            f"the {scheme} URL holds a user name or a password",
            hint="leave it out; use the platform's credentials chain or --option credentials=…",
        )
    if scheme.lower() not in ("http", "https"):
        # Keys and file names may hold `?`, `#` and `%`: nothing is a query here.
        host, slash, path = rest.partition("/")
        return OriginUrl(scheme.lower(), host, None, slash + path, "")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"not a URL: {shown!r}", hint=str(error)) from error
    if not parts.hostname:
        raise ConfigError(f"no host in the URL {shown!r}")
    return OriginUrl(scheme.lower(), parts.hostname, port, parts.path or "/", parts.query)


@dataclass(frozen=True, slots=True)
class UrlGlob:
    """A glob over URLs, as ``https://models.example.org/public/*``; ``*`` is any run of characters."""

    text: str

    @property
    def host(self) -> str:
        """The one host that it names, in lower case; empty if there may be several."""
        authority = self.text.partition("://")[2].partition("/")[0]
        if not authority or any(sign in authority for sign in "*?["):
            return ""
        return split_url(f"http://{authority}").host

    def matches(self, url: OriginUrl) -> bool:
        """Return whether a URL is one of those; none is that has a ``..`` in it."""
        shown = url.plain.removesuffix("/")
        known = re.fullmatch(translate(self.text), shown) is not None
        return known and not _UPWARDS.search(url.path)


@dataclass(frozen=True, slots=True)
class Confinement:
    """What is contacted for somebody who is not trusted, beside what the platform itself names.

    It is written beside a version's origin, as the option :data:`CONFINED`, so that workers keep to what the
    coordinator decided.
    """

    globs: tuple[UrlGlob, ...]

    @classmethod
    def parse(cls, text: str) -> "Confinement":
        """Return what :attr:`text` says."""
        return cls(tuple(UrlGlob(each) for each in text.split()))

    @property
    def text(self) -> str:
        """The globs, with spaces between them."""
        return " ".join(each.text for each in self.globs)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that are named one by one."""
        return tuple(filter(None, (each.host for each in self.globs)))

    def allows(self, url: str) -> bool:
        """Return whether one of the globs matches a URL."""
        parts = split_url(url)
        return any(each.matches(parts) for each in self.globs)


@dataclass(frozen=True, slots=True)
class HostRules:
    """Which hosts may be contacted."""

    allowed_hosts: tuple[str, ...] = ("*",)
    """Globs: ``*`` is any run of characters, dots included."""
    allow_private: bool = True
    """Whether private and loopback addresses are allowed."""
    named_hosts: tuple[str, ...] = ()
    """Hosts that may have such addresses all the same."""

    def confined(self, confinement: Confinement) -> "HostRules":
        """Return the rules for somebody who is not trusted: private is only what is named."""
        hosts = confinement.hosts if self.allow_private else ()
        return replace(self, allow_private=False, named_hosts=hosts)

    def host_fault(self, host: str) -> str | None:
        """Return what is wrong with a host's name, or ``None``."""
        name = host.lower().rstrip(".")
        if name in _METADATA_HOSTS:
            return "a metadata service is never contacted"
        if not any(_host_pattern(glob).fullmatch(name) for glob in self.allowed_hosts):
            return "the host is not in allowed_hosts"
        try:
            ip_address(name.strip("[]"))
        except ValueError:
            return None
        return self.address_fault(name.strip("[]"), host)

    def address_fault(self, address: str, host: str = "") -> str | None:
        """Return what is wrong with a numeric address of a host, or ``None``."""
        parsed = _innermost(ip_address(address.partition("%")[0]))
        if any(parsed in network for network in _METADATA_NETWORKS):
            return "link-local and metadata addresses are never contacted"
        if parsed.is_multicast or parsed == IPv4Address("255.255.255.255"):
            return "multicast and broadcast addresses are never contacted"
        is_named = host.lower().rstrip(".").strip("[]") in self.named_hosts
        if not self.allow_private and not is_named and not parsed.is_global:
            return "private addresses are not allowed here (allow_private)"
        return None


def _innermost(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, if it stands for one."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _host_pattern(glob: str) -> re.Pattern[str]:
    text = glob.lower().rstrip(".")
    return re.compile(".*".join(re.escape(part) for part in text.split("*")))
