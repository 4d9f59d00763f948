"""Repositories: which dataset, at which version, a client of the Hub means.

A repository is a dataset of that name (``name``, ``namespace/name``), or the dataset whose origin is
that repository of the Hub: whoever added ``hf://org/Model`` under any name runs programs that say
``org/Model`` without a change. The commit of a version is the version's id, which has as many digits
as a commit of git. ``main`` is the current version; so is the branch, tag or commit that
the origin's URL names, and the commit that the current version was listed at.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from cachefs.client.reader import OpenDataset
from cachefs.core.manifest import FileEntry
from cachefs.core.names import DatasetName
from cachefs.errors import ConfigError, NotKnownError
from cachefs.gateway.datasets import Datasets

MAIN = "main"
KINDS = ("models", "datasets", "spaces")
"""Kinds of repositories. A dataset of ours may be asked for as any of them."""

_VERSION = re.compile(r"[0-9a-f]{4,40}", re.ASCII)
_ORIGIN = re.compile(
    r"hf://(?:(?P<kind>models|datasets|spaces)/)?(?P<repository>[^/@]+/[^/@]+)"
    r"(?:@(?P<revision>refs/[^/@]+/[^/@]+|[^/@]+))?",
    re.ASCII,
)
_OBJECT_ID = re.compile(r"[0-9a-f]{40}", re.ASCII)
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)


class NoRepositoryError(NotKnownError):
    """No dataset is meant by that name."""


class NoRevisionError(NotKnownError):
    """The dataset has no such version."""


@dataclass(frozen=True, slots=True)
class Found:
    """A dataset that was found, and what it was asked for as."""

    repository: str
    dataset: OpenDataset

    def object_id(self, entry: FileEntry) -> str:
        """Return a file's id: the one that the Hub gave it, else our file version."""
        is_of_hub = self.dataset.resolved.origin.url.startswith("hf://")
        return (
            entry.token if is_of_hub and _OBJECT_ID.fullmatch(entry.token) else entry.file_version
        )

    def etag(self, entry: FileEntry) -> str:
        """Return what a client keeps a file under: its SHA-256 if that is known, else its id."""
        return sha256_of(entry) or self.object_id(entry)


class Repositories:
    """Finds datasets; safe from any thread."""

    def __init__(self, datasets: Datasets) -> None:
        """Look among these."""
        self._datasets = datasets

    def every(self) -> Sequence[str]:
        """Return the names under which datasets can be asked for, one for each."""
        return [str(each.name) for each in self._datasets.every()]

    def find(self, kind: str, repository: str, revision: str = MAIN) -> Found:
        """Return the dataset and version that are meant.

        Raises:
            NoRepositoryError: There is no such dataset.
            NoRevisionError: It has no such version.
            CacheFSError: Nobody could say.
        """
        try:
            name, declared = self._find_dataset(kind, repository, revision, again=False)
        except NoRepositoryError:
            name, declared = self._find_dataset(kind, repository, revision, again=True)
        if revision in (MAIN, declared):
            return Found(repository, self._open(name, None))
        if _VERSION.fullmatch(revision):
            try:
                return Found(repository, self._open(name, revision))
            except NoRevisionError:
                current = self._open(name, None)
                listed = _ORIGIN.match(current.resolved.origin.url)
                if listed is not None and listed["revision"] == revision:
                    return Found(repository, current)
                raise
        raise NoRevisionError("no such version", subject=revision)

    def _find_dataset(
        self, kind: str, repository: str, revision: str, *, again: bool
    ) -> tuple[DatasetName, str | None]:
        """Return a dataset's name, and the revision that its origin names."""
        every = self._datasets.every(again=again)
        try:
            wanted = DatasetName.parse(repository)
        except ConfigError:
            wanted = None
        candidates: list[tuple[DatasetName, str]] = []
        for each in every:
            origin = _ORIGIN.match(each.origin)
            named = None if origin is None else unquote(origin["revision"] or MAIN)
            if each.name == wanted:
                return each.name, named
            if (
                origin is not None
                and named is not None
                and origin["repository"] == repository
                and (origin["kind"] or "models") == kind
            ):
                candidates.append((each.name, named))
        if not candidates:
            raise NoRepositoryError("no such dataset", subject=repository)
        exact = [each for each in candidates if each[1] == revision]
        return (exact or candidates)[0]

    def _open(self, name: DatasetName, version: str | None) -> OpenDataset:
        try:
            return self._datasets.open(name, version)
        except NotKnownError as error:
            raise NoRevisionError("no such version", subject=str(version)) from error
        except ConfigError as error:  # the beginning of several
            raise NoRevisionError(error.message, subject=str(version)) from error


def sha256_of(entry: FileEntry) -> str:
    """Return a file's SHA-256 in hexadecimal if it is known beforehand, else nothing."""
    match = _SHA256.fullmatch(entry.digest)
    return match[1] if match else ""
