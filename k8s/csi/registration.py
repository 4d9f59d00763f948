"""How the kubelet gets to know the driver: we answer on a socket in its registration folder.

It finds the socket, asks for our name and where to call us, and says what came of it. A driver that it refuses
ends, and is started again. When the kubelet starts anew, it asks again, without our doing.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from cachefs.core.names import printable
from cachefs.k8s.csi.answering import Context
from cachefs.k8s.csi.proto import registration_pb2 as registration
from cachefs.k8s.csi.proto import registration_pb2_grpc as rpc
from cachefs.k8s.names import DRIVER

_KIND = "CSIPlugin"
_VERSIONS = ("1.0.0",)
"""Of the interface, as the kubelet wants to hear it."""

_log = logging.getLogger("cachefs.csi")


class Registration(rpc.RegistrationServicer):
    """Implements the kubelet's registration service."""

    def __init__(self, endpoint: Path, on_refused: Callable[[], None]) -> None:
        """Say that we listen at ``endpoint``; ``on_refused`` is called if the kubelet will not have us."""
        self._endpoint = endpoint
        self._on_refused = on_refused

    def GetInfo(  # noqa: N802 - the interface's name
        self, request: registration.InfoRequest, context: Context
    ) -> registration.PluginInfo:
        """Say who we are, and where."""
        del request, context
        return registration.PluginInfo(
            type=_KIND, name=DRIVER, endpoint=str(self._endpoint), supported_versions=_VERSIONS
        )

    def NotifyRegistrationStatus(  # noqa: N802 - the interface's name
        self, request: registration.RegistrationStatus, context: Context
    ) -> registration.RegistrationStatusResponse:
        """Hear what came of it."""
        del context
        if request.plugin_registered:
            _log.info("the kubelet knows us")
        else:
            _log.error("the kubelet refuses us", extra={"failure": printable(request.error)})
            self._on_refused()
        return registration.RegistrationStatusResponse()
