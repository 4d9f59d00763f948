"""Versions: which version a reading names, from memory as far as that goes.

The current versions of all datasets are followed with the catalogue's revision. Nothing here lists an origin:
a hint is about what is known.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cachefs.coordinator.catalogue import Catalogue
from cachefs.core.datasets import Version
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.errors import NotKnownError
from cachefs.hints.inventory.linking import origin_name

_NAMED_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Named:
    """A version, as far as hints need to know it."""

    dataset: DatasetName
    id: VersionId
    files: int
    size: int
    origin: str
    """The name of its link."""


class Versions:
    """Resolves names. Safe from any thread; one alone follows."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Know none yet."""
        self._catalogue = catalogue
        self._revision = -1
        self._current: dict[DatasetName, Named] = {}
        self.origins: Mapping[str, str] = {}
        """The name of each dataset's origin, by the dataset's; replaced and never changed."""
        self._named: dict[tuple[DatasetName, str], Named] = {}

    def current(self) -> Iterator[Named]:
        """Yield the current version of each dataset that has one."""
        yield from self._current.values()

    def is_current(self, dataset: DatasetName, version: VersionId) -> bool:
        """Say whether a dataset is there and that version of it is current."""
        known = self._current.get(dataset)
        return known is not None and known.id == version

    def knows(self, dataset: DatasetName) -> bool:
        """Say whether there was such a dataset at the last look."""
        return dataset in self._current

    def follow(self, revision: int) -> bool:
        """Follow the catalogue; return whether anything may have changed.

        Raises:
            CoordinatorUnavailableError: The store does not answer.
        """
        if revision == self._revision:
            return False
        current: dict[DatasetName, Named] = {}
        for dataset in self._catalogue.every():
            if dataset.current is None:
                continue
            known = self._current.get(dataset.name)
            if known is None or known.id != dataset.current:
                try:
                    found = self._catalogue.resolve(dataset.name, dataset.current)
                except NotKnownError:
                    continue  # removed meanwhile: the next look sees it
                known = _named(found.version)
            current[dataset.name] = known
        self._current, self._named = current, {}
        self.origins = {str(name): named.origin for name, named in current.items()}
        self._revision = revision
        return True

    def resolve(self, dataset: DatasetName, version: str | None) -> Named | None:
        """Return a version by id, prefix or label, the current one for ``None``; ``None`` if there is none.

        Raises:
            ConfigError: Several versions begin like that.
            CoordinatorUnavailableError: It is not in memory, and the store does not answer.
        """
        known = self._current.get(dataset)
        if known is not None and version in (None, known.id):
            return known
        name = dataset, version or ""
        named = self._named
        found = named.get(name)
        if found is None:
            try:
                # What nobody has looked at yet may have been added a moment ago.
                text = version or self._catalogue.get(dataset).current
                if text is None:
                    return None
                found = _named(self._catalogue.resolve(dataset, text).version)
            except NotKnownError:
                return None
            if version is not None and len(named) < _NAMED_LIMIT:
                named[name] = found
        return found


def _named(version: Version) -> Named:
    return Named(
        version.dataset, version.id, version.file_count, version.size, origin_name(version.origin)
    )
