"""Whose a version or a file is, for whoever asks by its id in a dataset's name.

Ids of versions and of files say nothing about datasets, and who may only read some datasets may have heard
another one's id. So what is asked for in a dataset's name must be one of that dataset's, whichever of its
versions is kept; else it is as if it did not exist. The token's names were looked at before, at the gate.
"""

from cachefs.coordinator.catalogue import Catalogue
from cachefs.core.blocks import FileVersionId
from cachefs.core.names import DatasetName, printable
from cachefs.errors import NotKnownError


def check_version(catalogue: Catalogue, name: DatasetName, version: str) -> None:
    """Check that a version is one of a dataset's.

    Raises:
        NotKnownError: It is not, or there is no such dataset.
    """
    if all(version != one.id for one in catalogue.versions(name)):
        raise NotKnownError("no such version", subject=printable(version))


def check_file(catalogue: Catalogue, name: DatasetName, file_version: FileVersionId) -> None:
    """Check that a file version is in one of a dataset's versions.

    Raises:
        NotKnownError: It is not, or there is no such dataset.
    """
    kept = catalogue.versions(name)
    if not any(file_version in catalogue.manifest(one.id).by_file_version for one in kept):
        raise NotKnownError("no such file version", subject=printable(file_version))
