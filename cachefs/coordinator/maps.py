"""Residency maps: which blocks of a version were resident at a moment, to be warmed from later.

A pool that is scaled to nothing loses its blocks. Which of them were there is worth more than it
takes to keep: it is what the readers of the last days have read. A warm-up from a map brings these
blocks back, and no others, to whoever owns them by then.
"""

from cachefs.coordinator.catalogue import Catalogue
from cachefs.coordinator.events import Events
from cachefs.coordinator.members import Members
from cachefs.coordinator.residency import Residency
from cachefs.coordinator.store import maps as rows
from cachefs.coordinator.store.engine import Store
from cachefs.coordinator.store.maps import MapHead
from cachefs.core.blocks import FileVersionId
from cachefs.core.names import DatasetName
from cachefs.core.residency import mask_bytes
from cachefs.errors import NotKnownError
from cachefs.ports import Runtime

MAPS_KEPT = 10
"""The newest so many of each dataset."""


class ResidencyMaps:
    """The maps. Safe from any thread."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        *,
        events: Events,
        catalogue: Catalogue,
        residency: Residency,
        members: Members,
    ) -> None:
        """Work on what is stored."""
        self._store = store
        self._runtime = runtime
        self._events = events
        self._catalogue = catalogue
        self._residency = residency
        self._members = members

    def save(self, name: DatasetName, version: str | None) -> MapHead:
        """Keep which blocks of a version are resident anywhere, at this moment.

        Raises:
            NotKnownError: There is no such dataset or version.
        """
        chosen = self._catalogue.resolve(name, version or self._catalogue.get(name).current)
        manifest = self._catalogue.manifest(chosen.version.id)
        sizes = {entry.file_version: entry.size for entry in manifest.files}
        found: dict[FileVersionId, int] = {}
        for file_version, held in self._residency.masks(sizes, self._members.view).items():
            for mask in held.values():
                found[file_version] = found.get(file_version, 0) | mask
        block_size = self._residency.block_size
        head = MapHead(
            f"{self._runtime.random.getrandbits(64):016x}",
            name,
            chosen.version.id,
            self._runtime.wall(),
            sum(mask.bit_count() for mask in found.values()),
            sum(mask_bytes(mask, sizes[file], block_size) for file, mask in found.items()),
        )
        with self._store.write() as connection:
            rows.add(connection, head, found)
            rows.trim(connection, name, kept=MAPS_KEPT)
            message = f"{head.blocks} blocks, {head.size} bytes are resident: map {head.id}"
            self._events.record(connection, "map-saved", name, message)
        return head

    def every(self, name: DatasetName) -> tuple[MapHead, ...]:
        """Return the maps of a dataset, the newest first."""
        with self._store.read() as connection:
            return rows.every(connection, name)

    def find(self, name: DatasetName, number: str) -> MapHead:
        """Return a map of a dataset by its id, or the newest for ``latest``.

        Raises:
            NotKnownError: There is none.
        """
        found = self.every(name)
        chosen = [head for head in found if number in ("latest", head.id)]
        if not chosen:
            raise NotKnownError(
                "no such residency map",
                subject=f"{name} {number}",
                hint="`cachefs scale … --save-map` saves one",
            )
        return chosen[0]
