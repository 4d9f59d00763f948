"""A cached file: what a tier keeps in mind of one file version."""

from cachefs.core.blocks import FileVersionId, Range, block_count, block_range
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.core.tiers import pages
from cachefs.ports import DiskFile

DATA_SUFFIX = ".data"


class Block:
    """A resident block."""

    __slots__ = ("digest", "guest", "read_at")

    def __init__(self, digest: bytes, read_at: float) -> None:
        """Note what it must hash to and when it was last read."""
        self.digest = digest
        self.read_at = read_at
        self.guest = False
        """Whether it is a copy for a crowd, which goes again; see :mod:`.guests`."""


class CachedFile:
    """A file version in a tier. All fields are guarded by the worker's lock."""

    __slots__ = (
        "block_size", "blocks", "busy", "created", "dataset", "doubtful", "file_version", "gone",
        "handle", "held", "leases", "leaving", "name", "open_until", "recorded", "size", "stamp",
        "strays", "suspicions", "turns", "users", "version", "was_lent",
    )  # fmt: skip

    def __init__(
        self,
        file_version: FileVersionId,
        *,
        size: int,
        block_size: int,
        dataset: DatasetName,
        version: VersionId,
    ) -> None:
        """Begin without a data file and without blocks."""
        self.file_version = file_version
        self.size = size
        self.block_size = block_size
        self.dataset = dataset
        self.version = version
        self.name = file_version + DATA_SUFFIX
        self.blocks: dict[int, Block] = {}
        self.doubtful: set[int] = set()
        """Resident blocks to be verified before they are handed out."""
        self.strays: set[int] = set()
        """Blocks that take room without being resident: what is not punched out yet."""
        self.held: dict[int, int] = {}
        """How many are using a block right now."""
        self.leases: set[object] = set()
        self.was_lent = False
        """Whether there ever was a lease, perhaps of an earlier process."""
        self.open_until = 0.0
        """Until when we believe that somebody else has it open, without asking again."""
        self.users = 0
        """Reservations, held blocks, leases and evictions under way."""
        self.busy = False
        """Whether somebody has the slot."""
        self.turns = 0
        """How often somebody has had it."""
        self.handle: DiskFile | None = None
        self.stamp = 0
        """After our own last write; 0 while it is not known, which no real stamp is."""
        self.suspicions = 0
        """How often foreign changes were found: a verification from before one proves nothing."""
        self.created = False
        """Whether there is a data file."""
        self.recorded = False
        """Whether the journal knows the file."""
        self.leaving = False
        """Nobody finds it any more; soon it is gone."""
        self.gone = False
        """Out of the tier; it lives on for those who have it open."""

    @property
    def block_count(self) -> int:
        """How many blocks the whole file has."""
        return block_count(self.size, self.block_size)

    def range_of(self, index: int) -> Range:
        """Return where a block lies."""
        return block_range(index, self.size, self.block_size)

    def room_of(self, index: int) -> int:
        """Return the room that a block takes."""
        return pages(self.range_of(index).length)
