"""A command's connection to the running system.

Commands that change or list something ask the coordinator's HTTP API. Commands that read use the
reader library, which finds its way without a coordinator if it must.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cachefs.client.connecting import connect
from cachefs.client.reader import OpenDataset, Reader
from cachefs.config.discovery import Endpoint, discover
from cachefs.config.load import load
from cachefs.config.schema import ReaderConfig
from cachefs.core.manifest import Manifest
from cachefs.core.names import DatasetName, Reference, parse_reference, printable
from cachefs.core.nearest import did_you_mean
from cachefs.errors import ConfigError, DeniedError, NotKnownError
from cachefs.ports import ResolvedVersion
from cachefs.transport.api import Api, pages
from cachefs.transport.metadata import HttpMetadata
from cachefs.transport.runtime import ThreadRuntime

_RESOLVE_SECONDS = 60.0
"""Resolving may list an origin, by the dataset's consistency policy."""


class Session:
    """What a command needs to talk to the system."""

    def __init__(self, state: Path | None) -> None:
        """Find the system; nothing is sent yet."""
        self.endpoint: Endpoint = discover(os.environ, state=state)
        self.api: Api = _SuggestingApi(self.endpoint.coordinator, self.endpoint.token)
        self.runtime = ThreadRuntime()
        self.metadata = HttpMetadata(
            self.runtime,
            self.endpoint.coordinator,
            self.endpoint.token,
            workers=self.endpoint.workers,
        )

    def resolve(self, text: str) -> tuple[Reference, ResolvedVersion]:
        """Return what a typed reference means, with its version's manifest."""
        failure: NotKnownError | None = None
        deadline = self.runtime.monotonic() + _RESOLVE_SECONDS
        for reading in parse_reference(text):
            try:
                version = self.metadata.resolve(reading.dataset, reading.version, deadline=deadline)
            except NotKnownError as error:
                failure = failure or suggest_dataset(self.api, error)
            else:
                return reading, version
        raise failure or NotKnownError("no such dataset", subject=printable(text))

    def check_paths(self, reference: Reference, paths: Sequence[str]) -> None:
        """Check that a version has files or folders of these paths.

        Raises:
            NotKnownError: It lacks one; the hint names one that is near.
        """
        if paths:
            deadline = self.runtime.monotonic() + _RESOLVE_SECONDS
            version = self.metadata.resolve(reference.dataset, reference.version, deadline=deadline)
            for path in paths:
                if path and not any(version.manifest.below(path)):
                    raise no_such_file(version.manifest, reference.dataset, path)

    def datasets(self) -> list[dict[str, Any]]:  # Any: JSON documents
        """Return all datasets."""
        return list_datasets(self.api)

    def find(self, text: str) -> Reference:
        """Return which reading of a typed reference names a dataset that exists."""
        readings = parse_reference(text)
        if len(readings) == 1:
            return readings[0]
        failure: NotKnownError | None = None
        for reading in readings:
            try:
                self.api.get(dataset_path(reading.dataset))
            except NotKnownError as error:
                failure = failure or error
            else:
                return reading
        raise failure or NotKnownError("no such dataset", subject=printable(text))

    @contextmanager
    def reader(self, *, local: bool = True) -> Iterator[Reader]:
        """Open the reader library on the system.

        Args:
            local: Whether to use descriptors of workers on this node.
        """
        config = load(file=None, environment=os.environ).build("reader", ReaderConfig)
        config = replace(config, local=config.local and local)
        with connect(self.endpoint, config, self.runtime) as reader:
            yield reader

    @contextmanager
    def open(self, version: ResolvedVersion) -> Iterator[OpenDataset]:
        """Open a version that was resolved for reading."""
        with self.reader() as reader:
            yield OpenDataset(reader, version)


class _SuggestingApi(Api):
    """Calls whose failure names a dataset of nearly the name that is not known."""

    def fetch(
        self,
        method: str,
        path: str,
        body: Any = None,  # Any: a JSON document
        **options: Any,  # Any: as :meth:`.Api.fetch` takes them
    ) -> bytes:
        try:
            return super().fetch(method, path, body, **options)
        except NotKnownError as error:
            raise suggest_dataset(self, error) from error


def suggest_dataset(api: Api, error: NotKnownError) -> NotKnownError:
    """Return the error, with the nearest dataset's name if it is about an unknown one."""
    if error.message != "no such dataset" or "did you mean" in error.hint:
        return error
    try:
        names = [row["name"] for row in list_datasets(api)]
    except DeniedError:
        return error  # a token that only reads does not list what others have
    meant = did_you_mean(error.subject, names)
    hint = " ".join(filter(None, (meant, error.hint)))
    return NotKnownError(error.message, subject=error.subject, hint=hint)


def list_datasets(api: Api) -> list[dict[str, Any]]:  # Any: JSON documents
    """Return all datasets."""
    listed = pages(api.get, "/v1/datasets", following="after")
    return [row for page in listed for row in page["datasets"]]


def no_such_file(manifest: Manifest, dataset: DatasetName | str, path: str) -> NotKnownError:
    """Return the error for a path that a version lacks."""
    shown = printable(f"{dataset}/{path}")
    meant = did_you_mean(path, (entry.path for entry in manifest.files))
    return NotKnownError(
        "no such file or folder",
        subject=shown,
        hint=printable(meant) or f"`cachefs ls -R {dataset}` lists what is there",
    )


def dataset_path(name: DatasetName) -> str:
    """Return the API's path of a dataset."""
    return f"/v1/datasets/{quote(name.namespace, safe='')}/{quote(name.name, safe='')}"


def whole_dataset(text: str) -> DatasetName:
    """Parse a dataset's name, which a path may not follow.

    Raises:
        ConfigError: It is not one.
    """
    if "@" in text:
        raise ConfigError("a version makes no sense here", subject=printable(text))
    return DatasetName.parse(text.removeprefix("cachefs://"))
