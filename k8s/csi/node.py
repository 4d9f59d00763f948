"""The interface's Node service: publishing a volume to a pod, and what the kubelet wants to know of it.

There is no staging: the node's one mount is what other drivers stage. Calls that are not here are answered with
UNIMPLEMENTED.
"""

import grpc

from cachefs.core.names import printable
from cachefs.errors import ConfigError
from cachefs.k8s.csi import capabilities
from cachefs.k8s.csi.answering import Context, answers, deadline_of, needed
from cachefs.k8s.csi.proto import csi_pb2 as csi
from cachefs.k8s.csi.proto import csi_pb2_grpc as rpc
from cachefs.k8s.csi.publishing import Publisher
from cachefs.ports import Runtime

_RPC = csi.NodeServiceCapability.RPC
_CAPABILITIES = (_RPC.GET_VOLUME_STATS, _RPC.VOLUME_CONDITION)
_REFUSALS = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT)


class Node(rpc.NodeServicer):
    """Implements it."""

    def __init__(self, runtime: Runtime, publisher: Publisher, name: str) -> None:
        """Serve for the node of that name."""
        self._runtime = runtime
        self._publisher = publisher
        self._name = name

    def failed(self, status: grpc.StatusCode) -> None:
        """Count a call that failed."""
        self._publisher.count("refused" if status in _REFUSALS else "failures")

    @answers
    def NodePublishVolume(  # noqa: N802 - the interface's name
        self, request: csi.NodePublishVolumeRequest, context: Context
    ) -> csi.NodePublishVolumeResponse:
        """Show a volume at a target."""
        volume = needed(request.volume_id, "the volume's id")
        target = _path(request.target_path, "the target's path")
        if not request.HasField("volume_capability"):
            raise ConfigError("the call lacks a capability")
        capabilities.check(request.volume_capability)
        self._publisher.publish(
            volume,
            target,
            dict(request.volume_context),
            deadline=deadline_of(self._runtime, context),
        )
        return csi.NodePublishVolumeResponse()

    @answers
    def NodeUnpublishVolume(  # noqa: N802 - the interface's name
        self, request: csi.NodeUnpublishVolumeRequest, context: Context
    ) -> csi.NodeUnpublishVolumeResponse:
        """Take a volume away from a target."""
        volume = needed(request.volume_id, "the volume's id")
        target = _path(request.target_path, "the target's path")
        self._publisher.unpublish(volume, target, deadline=deadline_of(self._runtime, context))
        return csi.NodeUnpublishVolumeResponse()

    @answers
    def NodeGetVolumeStats(  # noqa: N802 - the interface's name
        self, request: csi.NodeGetVolumeStatsRequest, context: Context
    ) -> csi.NodeGetVolumeStatsResponse:
        """Say how large a volume is, and how it is."""
        volume = needed(request.volume_id, "the volume's id")
        path = _path(request.volume_path, "the volume's path")
        sizes, fault = self._publisher.measure(
            volume, path, deadline=deadline_of(self._runtime, context)
        )
        condition = csi.VolumeCondition(
            abnormal=bool(fault), message=printable(fault) or "the volume answers"
        )
        if fault:
            return csi.NodeGetVolumeStatsResponse(volume_condition=condition)
        usage = [
            csi.VolumeUsage(
                unit=csi.VolumeUsage.BYTES,
                total=sizes["total"],
                used=sizes["used"],
                available=sizes["available"],
            ),
            csi.VolumeUsage(
                unit=csi.VolumeUsage.INODES,
                total=sizes["inodes"],
                used=sizes["inodes"] - sizes["inodes_free"],
                available=sizes["inodes_free"],
            ),
        ]
        return csi.NodeGetVolumeStatsResponse(usage=usage, volume_condition=condition)

    def NodeGetCapabilities(  # noqa: N802 - the interface's name
        self, request: csi.NodeGetCapabilitiesRequest, context: Context
    ) -> csi.NodeGetCapabilitiesResponse:
        """Say what we can."""
        del request, context
        return csi.NodeGetCapabilitiesResponse(
            capabilities=[csi.NodeServiceCapability(rpc=_RPC(type=each)) for each in _CAPABILITIES]
        )

    def NodeGetInfo(  # noqa: N802 - the interface's name
        self, request: csi.NodeGetInfoRequest, context: Context
    ) -> csi.NodeGetInfoResponse:
        """Say which node this is; any number of volumes fits, and all are the same everywhere."""
        del request, context
        return csi.NodeGetInfoResponse(node_id=self._name)


def _path(text: str, what: str) -> str:
    if not text:
        raise ConfigError(f"the call lacks {what}")
    return text
