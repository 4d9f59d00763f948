"""Folders of a sorted list of files are those that a tree of it has."""

from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.manifest import FileEntry, name_file_version
from cachefs.sdk.filesystem.listing import children, find_file, is_folder

SEGMENTS = st.text(
    st.sampled_from("ab-./0\u00e9").filter(lambda it: it != "/"), min_size=1, max_size=3
)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)


def entry_of(path):
    return FileEntry(path, 1, "", "", name_file_version("o", path=path, size=1, token=""))


def sorted_files(paths):
    """Return entries; of a file and a folder of one name, the folder is left out."""
    kept = {path for path in paths if not any(path.startswith(f"{each}/") for each in paths)}
    return tuple(sorted(map(entry_of, kept)))


@given(st.sets(PATHS, max_size=12))
def test_children_are_the_first_segments_below_a_folder(paths):
    files = sorted_files(paths)
    folders = {""}
    for entry in files:
        segments = entry.path.split("/")
        folders |= {"/".join(segments[:count]) for count in range(1, len(segments))}
    for folder in folders:
        prefix = f"{folder}/" if folder else ""
        below = [entry.path[len(prefix) :] for entry in files if entry.path.startswith(prefix)]
        found = list(children(files, folder))
        assert [name for name, _ in found] == list(
            dict.fromkeys(each.partition("/")[0] for each in below)
        )
        for name, entry in found:
            assert (entry is None) == is_folder(files, prefix + name)
            assert entry == find_file(files, prefix + name)


@given(st.sets(PATHS, max_size=12), PATHS)
def test_what_is_not_there_is_neither_file_nor_folder(paths, asked):
    files = sorted_files(paths)
    assert (find_file(files, asked) is not None) == (asked in {entry.path for entry in files})
    assert is_folder(files, asked) == any(entry.path.startswith(f"{asked}/") for entry in files)
    assert is_folder(files, "")


def test_a_folder_of_many_files_costs_one_look():
    looked = []

    class Files(list):
        def __getitem__(self, at):
            looked.append(at)
            return super().__getitem__(at)

    names = [*(f"deep/{at:05}" for at in range(10_000)), "z"]
    files = Files(entry_of(path) for path in names)
    assert [name for name, _ in children(files, "")] == ["deep", "z"]
    assert len(looked) < 60
