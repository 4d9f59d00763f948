"""The interface's Controller service, as small as it may be: a volume is a name for what a dataset holds already.

On a cluster of ours nobody calls it: the operator makes persistent volumes by itself. It is for whoever has a
storage class and the usual provisioner, and for the test suite of the interface. What a name stands for is in a
small file of the node that was asked.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cachefs.core.names import printable
from cachefs.errors import ConfigError, ConflictError, NotKnownError
from cachefs.k8s.csi import capabilities, volumes
from cachefs.k8s.csi.answering import Context, answers, deadline_of, needed
from cachefs.k8s.csi.proto import csi_pb2 as csi
from cachefs.k8s.csi.proto import csi_pb2_grpc as rpc
from cachefs.k8s.csi.published import write_whole
from cachefs.k8s.csi.publishing import Versions
from cachefs.ports import Runtime

_RPC = csi.ControllerServiceCapability.RPC
_CLAIM = "csi.storage.k8s.io/pvc/"
"""What the provisioner tells of the claim begins so, if it is told to."""


class Controller(rpc.ControllerServicer):
    """Implements it."""

    def __init__(self, runtime: Runtime, versions: Versions, folder: Path) -> None:
        """Keep what names stand for in a folder."""
        self._runtime = runtime
        self._versions = versions
        self._folder = folder
        self._guard = runtime.condition()

    def ControllerGetCapabilities(  # noqa: N802 - the interface's name
        self, request: csi.ControllerGetCapabilitiesRequest, context: Context
    ) -> csi.ControllerGetCapabilitiesResponse:
        """Say what we can."""
        del request, context
        able = csi.ControllerServiceCapability(rpc=_RPC(type=_RPC.CREATE_DELETE_VOLUME))
        return csi.ControllerGetCapabilitiesResponse(capabilities=[able])

    @answers
    def CreateVolume(  # noqa: N802 - the interface's name
        self, request: csi.CreateVolumeRequest, context: Context
    ) -> csi.CreateVolumeResponse:
        """Give a dataset a name as a volume; the same call again has the same answer."""
        name = needed(request.name, "a name")
        capabilities.check_all(request.volume_capabilities)
        if request.HasField("volume_content_source"):
            raise ConfigError("a volume is of a dataset, not of another volume")
        size = request.capacity_range
        if size.required_bytes < 0 or size.limit_bytes < 0:
            raise ConfigError("sizes are not negative")
        if 0 < size.limit_bytes < size.required_bytes:
            raise ConfigError("the limit is less than what is required")
        attributes = _attributes(request.parameters)
        wanted = volumes.parse(attributes)
        document = {
            "name": name,
            "attributes": attributes,
            "required_bytes": size.required_bytes,
            "limit_bytes": size.limit_bytes,
        }
        volume = _id(name)
        with self._guard:
            known = self._read(volume)
            if known is not None and known != document:
                raise ConflictError("a volume of that name is another", subject=printable(name))
        if known is None and wanted.dataset is not None:
            deadline = deadline_of(self._runtime, context)
            self._versions.identify(wanted.dataset, wanted.version, deadline=deadline)
            with self._guard:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_whole(self._folder / f"{volume}.json", json.dumps(document))
        return csi.CreateVolumeResponse(
            volume=csi.Volume(
                volume_id=volume,
                volume_context=attributes,
                capacity_bytes=size.required_bytes,
            )
        )

    @answers
    def DeleteVolume(  # noqa: N802 - the interface's name
        self, request: csi.DeleteVolumeRequest, context: Context
    ) -> csi.DeleteVolumeResponse:
        """Forget a name; the dataset stays. One that nobody knows is no failure."""
        del context
        volume = needed(request.volume_id, "the volume's id")
        if _is_id(volume):
            with self._guard:
                (self._folder / f"{volume}.json").unlink(missing_ok=True)
        return csi.DeleteVolumeResponse()

    @answers
    def ValidateVolumeCapabilities(  # noqa: N802 - the interface's name
        self, request: csi.ValidateVolumeCapabilitiesRequest, context: Context
    ) -> csi.ValidateVolumeCapabilitiesResponse:
        """Confirm uses that are read-only."""
        del context
        volume = needed(request.volume_id, "the volume's id")
        if not request.volume_capabilities:
            raise ConfigError("the call lacks capabilities")
        with self._guard:
            known = self._read(volume)
        if known is None:
            raise NotKnownError("no such volume", subject=printable(volume))
        answer = csi.ValidateVolumeCapabilitiesResponse
        try:
            capabilities.check_all(request.volume_capabilities)
        except ConfigError as error:
            return answer(message=str(error))
        if any(
            each.access_mode.mode not in capabilities.READERS
            for each in request.volume_capabilities
        ):
            return answer(message="volumes are read-only")
        if request.volume_context and dict(request.volume_context) != known["attributes"]:
            return answer(message="the volume's attributes are others")
        return answer(
            confirmed=answer.Confirmed(
                volume_context=request.volume_context,
                volume_capabilities=request.volume_capabilities,
                parameters=request.parameters,
            )
        )

    def _read(self, volume: str) -> dict[str, Any] | None:  # Any: JSON
        if not _is_id(volume):
            return None
        try:
            document: dict[str, Any] = json.loads((self._folder / f"{volume}.json").read_text())
        except (OSError, ValueError):
            return None
        return document


def _attributes(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return a volume's attributes from a storage class's parameters; a claim's own name is the fall-back."""
    own = {key: value for key, value in parameters.items() if not key.startswith(_CLAIM)}
    claim, namespace = parameters.get(f"{_CLAIM}name"), parameters.get(f"{_CLAIM}namespace")
    if volumes.DATASET not in own and claim and namespace:
        own[volumes.DATASET] = f"{namespace}/{claim}"
    if volumes.USE in own:
        raise ConfigError("the sockets of workers are no persistent volume")
    return own


def _id(name: str) -> str:
    return f"dataset-{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"


def _is_id(volume: str) -> bool:
    prefix, _, digest = volume.partition("-")
    return prefix == "dataset" and len(digest) == 32 and digest.isalnum() and digest.isascii()
