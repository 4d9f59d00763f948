"""Where things are on a node: the same paths on the host and in both daemon sets' pods."""

import argparse
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cachefs.errors import ConfigError
from cachefs.k8s.names import DRIVER

KUBELET_FOLDER = "/var/lib/kubelet"
RUN_FOLDER = "/run/cachefs-node"
"""Of the host, in memory: sockets, the mount's run folder, signs of life. Root's alone."""
WORKER_SOCKETS_FOLDER = "/run/cachefs/sockets"
"""Where workers' pods and the mounts' pod see :attr:`Places.sockets`."""
HEALTH_PORT = 9810
GIVE_UP_SECONDS = 120.0
"""How long the node's mount may be served by nobody: the time that a pod takes to be replaced, its image being
there. Readers wait so long, and then get an error."""


@dataclass(frozen=True, slots=True)
class Places:
    """Paths that follow from the kubelet's folder and from ours."""

    kubelet: Path
    run: Path

    @property
    def plugin(self) -> Path:
        """Our folder among the kubelet's plug-ins; it outlives a restart of the machine."""
        return self.kubelet / "plugins" / DRIVER

    @property
    def socket(self) -> Path:
        """Where the driver listens."""
        return self.plugin / "csi.sock"

    @property
    def registration(self) -> Path:
        """Where the kubelet looks for plug-ins that are new."""
        return self.kubelet / "plugins_registry" / f"{DRIVER}-reg.sock"

    @property
    def mount(self) -> Path:
        """Where all datasets are mounted."""
        return self.plugin / "mount"

    @property
    def published(self) -> Path:
        """What is published where, a file each."""
        return self.plugin / "published"

    @property
    def volumes(self) -> Path:
        """Volumes that were made by name, a file each."""
        return self.plugin / "volumes"

    @property
    def targets(self) -> Path:
        """Below which the kubelet has volumes published."""
        return self.kubelet / "pods"

    @property
    def shelf(self) -> Path:
        """The socket of the driver's shelf."""
        return self.run / "driver.shelf"

    @property
    def sign(self) -> Path:
        """The mount's sign of life."""
        return self.run / "mounts.json"

    @property
    def leaving(self) -> Path:
        """Says that one of the two is being replaced."""
        return self.run / "leaving.json"

    @property
    def mount_run(self) -> Path:
        """The mount's run folder."""
        return self.run / "mount"

    @property
    def sockets(self) -> Path:
        """The folder that workers on this node have their sockets in."""
        return self.run / "sockets"


def prepare_run_folder(places: Places) -> None:
    """Make the run folder, or see that it is ours and closed to others: the kubelet makes it open.

    Raises:
        ConfigError: It cannot be made, or is somebody else's.
    """
    try:
        places.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = places.run.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise ConfigError("is not a folder of ours", subject=str(places.run))
        places.run.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            "cannot make the folder", subject=str(places.run), hint=error.strerror or ""
        ) from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say where things are."""
    parser.add_argument("--kubelet", type=Path, default=Path(KUBELET_FOLDER), metavar="DIR")
    parser.add_argument("--run", type=Path, default=Path(RUN_FOLDER), metavar="DIR")


def places_of(arguments: argparse.Namespace) -> Places:
    """Return the places that arguments name."""
    return Places(arguments.kubelet.absolute(), arguments.run.absolute())
