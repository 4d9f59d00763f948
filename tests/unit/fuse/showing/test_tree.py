"""The tree against plain dictionaries, and its numbers."""

from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.manifest import FileEntry
from cachefs.fuse.showing.tree import TOP, Tree
from tests.unit.counting import lines_run
from tests.unit.fuse.worlds import manifest_of

SEGMENTS = st.text(st.sampled_from("ab-./\u00e9\n0"), min_size=1, max_size=3).filter(
    lambda text: "/" not in text and text not in (".", "..")
)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)


def is_tree(paths):
    """Say whether no path is a folder of another."""
    return not any(other.startswith(path + "/") for path in paths for other in paths)


SETS = st.sets(PATHS, max_size=20).filter(is_tree)


def as_dictionary(paths):
    """Return the same files as dictionaries in dictionaries; a file is its path."""
    top = {}
    for path in paths:
        *folders, name = path.split("/")
        folder = top
        for segment in folders:
            folder = folder.setdefault(segment, {})
        folder[name] = path
    return top


def shown(tree, number):
    entry = tree.entry(number)
    if entry is not None:
        assert tree.children(number) is None
        return entry.path
    children = tree.children(number)
    assert all(tree.parent(child) == number for child in children.values())
    below = {name.decode(): shown(tree, child) for name, child in children.items()}
    assert tree.folders(number) == sum(isinstance(each, dict) for each in below.values())
    return below


@given(SETS)
def test_a_tree_shows_what_dictionaries_would(paths):
    tree = Tree(manifest_of(dict.fromkeys(paths, b"")).files)
    assert shown(tree, TOP) == as_dictionary(paths)


@given(SETS)
def test_numbers_are_dense_and_lead_back_to_their_paths(paths):
    tree = Tree(manifest_of(dict.fromkeys(paths, b"")).files)
    folders = {
        "/".join(path.split("/")[:at]) for path in paths for at in range(path.count("/") + 1)
    }
    folders.discard("")
    assert len(tree) == 1 + len(paths) + len(folders)
    everything = [tree.path(number) for number in range(TOP, TOP + len(tree))]
    assert sorted(everything) == sorted(["", *paths, *folders])
    assert 0 not in tree
    assert TOP + len(tree) not in tree
    assert TOP + len(tree) - 1 in tree


@given(SETS)
def test_the_same_manifest_has_the_same_numbers(paths):
    files = manifest_of(dict.fromkeys(paths, b"")).files
    one, other = Tree(files), Tree(list(files))
    assert [one.path(number) for number in range(TOP, TOP + len(one))] == [
        other.path(number) for number in range(TOP, TOP + len(other))
    ]


def test_a_tree_without_files_is_an_empty_folder():
    tree = Tree(())
    assert len(tree) == 1
    assert tree.children(TOP) == {}
    assert tree.parent(TOP) == 0


def numbered(count):
    return [FileEntry(f"data/{at:06}", 1, "", "", "0" * 40) for at in range(count)]


def test_building_a_tree_does_no_more_for_a_file_among_many_than_for_one_among_few():
    few, many = (lines_run(Tree, numbered(count)) for count in (300, 3000))
    assert 3000 < many < 10.5 * few
    assert many < 3000 * 30


def test_a_folder_of_a_hundred_thousand_files_is_built():
    files = numbered(100_000)
    tree = Tree(files)
    (data,) = tree.children(TOP).values()
    assert len(tree.children(data)) == 100_000
    assert tree.entry(tree.children(data)[b"099999"]) == files[-1]
