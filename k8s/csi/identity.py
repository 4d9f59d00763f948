"""The interface's Identity service: who we are, what we can, whether we are ready."""

from collections.abc import Callable

from google.protobuf.wrappers_pb2 import BoolValue

import cachefs
from cachefs.k8s.csi.answering import Context
from cachefs.k8s.csi.proto import csi_pb2 as csi
from cachefs.k8s.csi.proto import csi_pb2_grpc as rpc
from cachefs.k8s.names import DRIVER

_SERVICE = csi.PluginCapability.Service


class Identity(rpc.IdentityServicer):
    """Implements it."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        """Ask ``is_ready`` whether the node's mount answers; it must not wait."""
        self._is_ready = is_ready

    def GetPluginInfo(  # noqa: N802 - the interface's name
        self, request: csi.GetPluginInfoRequest, context: Context
    ) -> csi.GetPluginInfoResponse:
        """Say who we are."""
        del request, context
        return csi.GetPluginInfoResponse(name=DRIVER, vendor_version=cachefs.__version__)

    def GetPluginCapabilities(  # noqa: N802 - the interface's name
        self, request: csi.GetPluginCapabilitiesRequest, context: Context
    ) -> csi.GetPluginCapabilitiesResponse:
        """Say what we can."""
        del request, context
        service = _SERVICE(type=_SERVICE.CONTROLLER_SERVICE)
        return csi.GetPluginCapabilitiesResponse(
            capabilities=[csi.PluginCapability(service=service)]
        )

    def Probe(  # noqa: N802 - the interface's name
        self, request: csi.ProbeRequest, context: Context
    ) -> csi.ProbeResponse:
        """Say whether we are ready: without a mount we are well, but cannot publish yet."""
        del request, context
        return csi.ProbeResponse(ready=BoolValue(value=self._is_ready()))
