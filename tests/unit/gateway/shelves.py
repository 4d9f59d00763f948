"""Datasets for endpoints without any process, and requests to them."""

from cachefs.client.reader import OpenDataset
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry, Manifest, name_file_version
from cachefs.core.names import DatasetName
from cachefs.errors import NotKnownError
from cachefs.gateway.datasets import Declared
from cachefs.ports import ResolvedVersion
from cachefs.transport.serving.requests import parse_head

LISTED_AT = 1_700_000_000.5


def version_of(name, files, *, url="file:///x"):
    """Return a dataset at a version; ``files`` is path → (size, token, digest) or a size."""
    entries = []
    for path, facts in files.items():
        size, token, digest = facts if isinstance(facts, tuple) else (facts, "1", "")
        file_version = name_file_version(url, path=path, size=size, token=token, digest=digest)
        entries.append(FileEntry(path, size, token, digest, file_version))
    resolved = ResolvedVersion(
        DatasetName.parse(name),
        OriginSpec(url),
        "local",
        "default",
        1,
        Manifest.of(entries),
        LISTED_AT,
    )
    return OpenDataset(None, resolved)


def legal(paths):
    """Return those of some paths that are not folders of others."""
    return {path for path in paths if not any(each.startswith(f"{path}/") for each in paths)}


class Shelf:
    """Stands for :class:`cachefs.gateway.datasets.Datasets`."""

    def __init__(self):
        self.current = {}
        self.versions = {}
        self.origins = {}
        self.opened = []

    def put(self, name, files, *, url="file:///x", declared=None):
        """Make a version the current one of a dataset; return its id."""
        made = version_of(name, files, url=url)
        self.current[made.name] = made
        self.versions[made.name, made.version] = made
        self.origins[made.name] = declared or url
        return made.version

    def every(self, *, again=False):
        return [Declared(name, self.origins[name]) for name in sorted(self.current)]

    def open(self, name, version):
        self.opened.append(str(name))
        found = [
            made
            for (known, id_), made in self.versions.items()
            if known == name and id_.startswith(version or "")
        ]
        if name not in self.current or not found:
            raise NotKnownError("no such dataset", subject=str(name))
        return found[0] if version else self.current[name]


def ask(method, target, **headers):
    """Return a request as it comes out of the parser."""
    headers = {"host": "127.0.0.1:9000", **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return parse_head("\r\n".join(lines).encode("latin-1"), foreign=True)


def no_body():
    """Stand for a request without a body."""
    return b""
