"""A manifest as folders and files with dense numbers.

The numbers follow from the sorted manifest alone, so every process that has the manifest gives the
same thing the same number, with nothing to remember: the top folder is :data:`TOP`, and each file,
preceded by the folders that it is the first to need, takes the next ones. Whatever lies below a
folder shares the beginning of its path and stands together in the sorted manifest, so one pass with
the stack of open folders builds all.

A hundred thousand files take well under a second and a few tens of megabytes: names are the only
objects made for each of them.
"""

from array import array
from collections.abc import Mapping, Sequence

from cachefs.core.manifest import FileEntry

TOP = 1
"""The number of a tree's top folder; 0 names nothing."""
_FOLDER = -1


class Tree:
    """The folders and files of one manifest; immutable, and safe from any thread."""

    def __init__(self, files: Sequence[FileEntry]) -> None:
        """Build from a manifest's sorted files, which the caller leaves as they are."""
        self._files = files
        self._entries = array("q", [_FOLDER, _FOLDER])
        """For each number the index of its file, or ``_FOLDER``."""
        self._parents = array("q", [0, 0])
        self._names: list[bytes] = [b"", b""]
        self._children: dict[int, dict[bytes, int]] = {TOP: {}}
        self._folders = {TOP: 0}
        """For each folder, how many folders are directly in it."""
        self._build()

    def _build(self) -> None:
        opened: list[str] = []
        numbers = [TOP]
        for index, entry in enumerate(self._files):
            *folders, name = entry.path.split("/")
            common = 0
            for one, other in zip(opened, folders, strict=False):
                if one != other:
                    break
                common += 1
            del opened[common:], numbers[common + 1 :]
            for folder in folders[common:]:
                parent = numbers[-1]
                number = self._add(parent, folder, _FOLDER)
                self._children[number] = {}
                self._folders[number] = 0
                self._folders[parent] += 1
                opened.append(folder)
                numbers.append(number)
            self._add(numbers[-1], name, index)

    def _add(self, parent: int, name: str, entry: int) -> int:
        number = len(self._entries)
        encoded = name.encode()
        self._entries.append(entry)
        self._parents.append(parent)
        self._names.append(encoded)
        self._children[parent][encoded] = number
        return number

    def __len__(self) -> int:
        """Return how many files and folders there are, the top included."""
        return len(self._entries) - 1

    def __contains__(self, number: int) -> bool:
        """Say whether a number names something."""
        return TOP <= number < len(self._entries)

    def entry(self, number: int) -> FileEntry | None:
        """Return the file of a number; ``None`` for a folder."""
        index = self._entries[number]
        return None if index == _FOLDER else self._files[index]

    def children(self, number: int) -> Mapping[bytes, int] | None:
        """Return what is in a folder, in a fixed order; ``None`` for a file."""
        return self._children.get(number)

    def folders(self, number: int) -> int:
        """Return how many folders are directly in a folder."""
        return self._folders[number]

    def parent(self, number: int) -> int:
        """Return the folder that a number is in; 0 for the top."""
        return self._parents[number]

    def name(self, number: int) -> bytes:
        """Return the name in that folder; empty for the top."""
        return self._names[number]

    def path(self, number: int) -> str:
        """Return the path within the dataset; empty for the top."""
        segments: list[bytes] = []
        while number != TOP:
            segments.append(self._names[number])
            number = self._parents[number]
        return b"/".join(reversed(segments)).decode()
