"""Publishing: a part of the node's mount at a pod's target, and what keeps it so.

The driver itself never looks into a mount. The mount table says what is where; calls that may hang are made by
children (:mod:`.calls`), so that each of ours ends in time, whatever state the mount is in.

A published target is a bind mount, which outlives a restart of the driver, and goes on with the mount when that
is taken over by another process. If the mount died for good and was made anew, its number in the mount table is
another one: :meth:`Publisher.heal` binds such targets anew, on top of what is there. For a container has a mount of
its own, of what was at the target when it began; what is mounted *within* that comes to it if its volume mount has
``mountPropagation: HostToContainer``. Others must be started again.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cachefs.core.names import DatasetName, printable
from cachefs.errors import CacheFSError, ClusterError, ConfigError, ConflictError, NotKnownError
from cachefs.fuse.mounts import blocking
from cachefs.fuse.mounts.table import TableEntry, find_mount, read_table
from cachefs.k8s.csi import calls, volumes
from cachefs.k8s.csi.places import Places
from cachefs.k8s.csi.published import Publication, Published
from cachefs.ports import Runtime

CALL_SECONDS = 10.0
"""For one child; a system call on a mount that answers takes milliseconds."""
ANSWER_SECONDS = 2.0
"""How long a live mount may take to say how large it is, which is in its memory."""
_NEWS_SECONDS = 5.0
"""A mount knows of a new dataset or version within two seconds; so long we ask it again."""
_POLL_SECONDS = 0.25
_TEND_SECONDS = 5.0
"""Between two looks at a mount that answers."""
_STACKED_MAX = 8
"""Mounts on top of one another at one target; with one more, all are taken away before."""
_PATH_BYTES_MAX = 4096

_log = logging.getLogger("cachefs.csi")


class PendingError(ClusterError):
    """Another call for the same target has not ended."""


class Versions(Protocol):
    """Who knows the versions of datasets."""

    def identify(self, name: DatasetName, version: str, *, deadline: float) -> str:
        """Return the whole id of a version, of the current one for an empty name.

        Raises:
            NotKnownError: There is no such dataset or version.
            CacheFSError: Nobody who could know answers.
        """
        ...


@dataclass(frozen=True, slots=True)
class PublisherStatistics:
    """Counts since the start, and the last look at the node's mount."""

    mounted: bool
    """Whether the node's mount answers."""
    targets: int
    published: int
    unpublished: int
    failures: int
    refused: int
    healed: int


class Publisher:
    """Publishes and unpublishes; safe from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        places: Places,
        versions: Versions,
        shared_with: Callable[[DatasetName], Sequence[str]],
        *,
        targets: Path,
        system_namespace: str,
    ) -> None:
        """Begin with what is published already.

        Args:
            runtime: The clock.
            places: Of this node.
            versions: Who knows versions.
            shared_with: Returns the namespaces that may use a dataset.
            targets: The folder that all targets are below.
            system_namespace: Whose pods may have the workers' sockets.
        """
        self._runtime = runtime
        self._places = places
        self._versions = versions
        self._shared_with = shared_with
        self._targets = targets
        self._system_namespace = system_namespace
        self._published = Published(places.published)
        self._guard = runtime.condition()
        self._busy: set[Path] = set()
        self._mounted = False
        self._tended_at = 0.0
        self._counts = dict.fromkeys(
            ("published", "unpublished", "failures", "refused", "healed"), 0
        )

    def statistics(self) -> PublisherStatistics:
        """Return counts and the last look."""
        targets = sum(1 for _ in self._published.all())
        with self._guard:
            return PublisherStatistics(self._mounted, targets, **self._counts)

    @property
    def mounted(self) -> bool:
        """Whether the node's mount answered when it was looked at last."""
        return self._mounted

    def count(self, what: str) -> None:
        """Count a call that failed or was refused."""
        with self._guard:
            self._counts[what] += 1

    # Publishing

    def publish(
        self, volume: str, target: str, attributes: Mapping[str, str], *, deadline: float
    ) -> None:
        """Show a volume at a target; what is there already as it should be is left alone.

        Raises:
            ConfigError: Attributes or target make no sense.
            DeniedError: The pod may not have it.
            NotKnownError: There is no such dataset, version or folder.
            ConflictError: Something else is published there.
            PendingError: Another call for the target has not ended.
            CacheFSError: It does not work just now.
        """
        place = self._checked(target)
        namespace = volumes.pod_namespace(volume, attributes)
        wanted = volumes.parse(attributes, home=namespace or "")
        volumes.check_allowed(
            wanted,
            namespace,
            system_namespace=self._system_namespace,
            shared_with=self._shared_with,
        )
        with self._alone(place, deadline):
            before = self._published.find(place)
            there = self._entries(place)
            is_ours = all(entry.ours for entry in there)
            if not is_ours and (before is None or wanted.dataset is not None):
                raise ConflictError("something else is mounted there", subject=printable(target))
            publication = self._publication(volume, place, wanted, before, deadline)
            if before is not None and before != publication and there:
                raise ConflictError("another volume is published there", subject=printable(target))
            self._published.keep(publication)
            try:
                self._show(publication, place, there, deadline)
            except CacheFSError:
                if before is None:
                    self._published.forget(place)
                raise
        self.count("published")

    def _publication(
        self,
        volume: str,
        target: Path,
        wanted: volumes.Wanted,
        before: Publication | None,
        deadline: float,
    ) -> Publication:
        name = wanted.dataset
        version = ""
        if name is not None and not wanted.follow:
            asked = (volume, name.namespace, name.name, wanted.version)
            if before is not None and asked == before.what_was_asked:
                version = before.version
            version = version or self._versions.identify(name, wanted.version, deadline=deadline)
        return Publication(
            volume=volume,
            target=str(target),
            namespace="" if name is None else name.namespace,
            dataset="" if name is None else name.name,
            version=version,
            path=wanted.path,
            asked=wanted.version,
        )

    def _show(
        self, publication: Publication, target: Path, there: Sequence[TableEntry], deadline: float
    ) -> None:
        device = ""
        mount, source, root = self._places.run, self._places.sockets.name, None
        if publication.dataset:
            mount, source = self._places.mount, publication.source
            device = self._node_mount().device
            root = f"/{publication.shown}"
        if there and (root is None or (there[-1].device, there[-1].root) == (device, root)):
            return None
        over = bool(there)
        if len(there) >= _STACKED_MAX:
            calls.unbind(targets=self._targets, target=target, seconds=self._patience(deadline))
            over = False
        until = min(deadline, self._runtime.monotonic() + _NEWS_SECONDS)
        while True:
            try:
                return calls.bind(
                    mount=mount,
                    device=device,
                    source=source,
                    path=publication.path,
                    targets=self._targets,
                    target=target,
                    read_only=bool(publication.dataset),
                    over=over,
                    seconds=self._patience(deadline),
                )
            except calls.AbsentError:
                if self._runtime.monotonic() >= until:
                    raise
            self._runtime.sleep(_POLL_SECONDS)

    def _node_mount(self) -> TableEntry:
        entry = find_mount(self._places.mount)
        if entry is None or not entry.ours:
            raise ClusterError(
                "nothing is mounted on this node yet",
                hint="does the pod of cachefs-mounts run here?",
            )
        return entry

    # Unpublishing

    def unpublish(self, volume: str, target: str, *, deadline: float) -> None:
        """Take a volume away from a target, whoever uses it; what is not there is no failure.

        Raises:
            ConfigError: The target makes no sense.
            PendingError: Another call for the target has not ended.
            DeadlineError: The system did not do it in time; one may ask again.
            CacheFSError: It cannot be done.
        """
        place = self._checked(target)
        with self._alone(place, deadline):
            before = self._published.find(place)
            if before is not None and before.volume != volume:
                # The kubelet names each target once; an answer of success lets it go on.
                _log.warning("another volume is published there", extra={"target": target})
                return
            there = self._entries(place)
            if before is None and there and not all(entry.ours for entry in there):
                raise ConflictError("something else is mounted there", subject=printable(target))
            calls.unbind(targets=self._targets, target=place, seconds=self._patience(deadline))
            if self._entries(place):
                raise ClusterError("it is still mounted", subject=printable(target))
            self._published.forget(place)
        self.count("unpublished")

    # Looking

    def measure(
        self, volume: str, target: str, *, deadline: float
    ) -> tuple[Mapping[str, int], str]:
        """Return sizes of a published volume, and what is wrong with it; empty if nothing is.

        Raises:
            NotKnownError: It is not published there.
        """
        not_there = NotKnownError("the volume is not published there", subject=printable(target))
        try:
            place = self._checked(target)
        except ConfigError:
            raise not_there from None
        known = self._published.find(place)
        if known is None or known.volume != volume or not self._entries(place):
            raise not_there
        try:
            sizes = calls.measure(
                targets=self._targets,
                target=place,
                seconds=min(ANSWER_SECONDS, self._patience(deadline)),
            )
        except CacheFSError as error:
            return {}, str(error)
        return sizes, ""

    def look(self) -> bool:
        """Return whether the node's mount answers; takes some seconds at most."""
        entry = find_mount(self._places.mount)
        answers = False
        if entry is not None and entry.ours:
            user, group = entry.owner()
            status = blocking.ask(entry.mountpoint, user=user, group=group, seconds=ANSWER_SECONDS)
            answers = status == 0
        with self._guard:
            self._mounted = answers
        return answers

    def tend(self) -> None:
        """Look at the node's mount if it is time, heal what can be, and forget what is gone."""
        now = self._runtime.monotonic()
        if self._mounted and now - self._tended_at < _TEND_SECONDS:
            return
        self._tended_at = now
        self.look()
        self.heal()
        self.prune()

    def heal(self) -> int:
        """Bind anew what is bound to a mount that is no more; return how many targets.

        Nothing is done unless the last :meth:`look` found that the node's mount answers. A target at which nothing is mounted is left to the kubelet, which asks again if it is wanted.
        """
        node = find_mount(self._places.mount)
        if node is None or not node.ours or not self._mounted:
            return 0
        topmost = {entry.mountpoint: entry for entry in read_table()}
        stale = {
            place
            for place, entry in topmost.items()
            if entry.ours and entry.device != node.device and place != node.mountpoint
        }
        healed = 0
        for publication in list(self._published.all()):
            place = Path(publication.target)
            if place in stale and publication.dataset:
                healed += self._heal(place)
        return healed

    def prune(self) -> int:
        """Forget what was published to pods whose folders are gone; return how many targets.

        The kubelet removes the folder of a pod that ended while the machine was off, and need not say so.
        """
        forgotten = 0
        for publication in list(self._published.all()):
            place = Path(publication.target)
            with suppress(PendingError), self._alone(place, self._runtime.monotonic()):
                if not place.parent.exists() and not self._entries(place):
                    self._published.forget(place)
                    forgotten += 1
        return forgotten

    def _heal(self, place: Path) -> int:
        deadline = self._runtime.monotonic() + CALL_SECONDS
        try:
            with self._alone(place, self._runtime.monotonic()):
                publication = self._published.find(place)
                if publication is None:
                    return 0
                self._show(publication, place, self._entries(place), deadline)
        except CacheFSError as error:
            _log.warning("cannot bind anew", extra={"target": str(place), "failure": str(error)})
            return 0
        _log.warning("bound anew", extra={"target": str(place)})
        self.count("healed")
        return 1

    # Targets

    def _checked(self, target: str) -> Path:
        """Return a target as a path below the folder of targets; nothing is looked at.

        Raises:
            ConfigError: It is none.
        """
        path = Path(target)
        normal = os.path.normpath(target) == target and path.is_absolute()
        if "\0" in target or len(os.fsencode(target)) > _PATH_BYTES_MAX or not normal:
            raise ConfigError("not a plain absolute path", subject=printable(target))
        if not path.is_relative_to(self._targets) or path == self._targets:
            raise ConfigError(
                "the target is not below the kubelet's folder of pods",
                subject=printable(target),
                hint=f"{self._targets}; --targets names another one",
            )
        return path

    @staticmethod
    def _entries(target: Path) -> list[TableEntry]:
        return [entry for entry in read_table() if entry.mountpoint == target]

    def _patience(self, deadline: float) -> float:
        return max(0.1, min(CALL_SECONDS, deadline - self._runtime.monotonic()))

    @contextmanager
    def _alone(self, target: Path, deadline: float) -> Iterator[None]:
        with self._guard:
            while target in self._busy:
                left = deadline - self._runtime.monotonic()
                if left <= 0:
                    raise PendingError("another call for this target has not ended")
                self._guard.wait(left)
            self._busy.add(target)
        try:
            yield
        finally:
            with self._guard:
                self._busy.discard(target)
                self._guard.notify_all()
