"""Manifests: equal ids mean equal lists, and what did not change keeps its name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.manifest import FileEntry, Manifest, VersionId, name_file_version
from cachefs.errors import ConfigError, IntegrityError, NotKnownError


def entry(path: str, size: int = 3, token: str = "t", digest: str = "") -> FileEntry:
    return FileEntry(
        path,
        size,
        token,
        digest,
        name_file_version("o", path=path, size=size, token=token, digest=digest),
    )


segments = st.text(min_size=1, max_size=8).filter(
    lambda text: (
        "/" not in text and "\0" not in text and text not in (".", "..") and text.isprintable()
    )
) | st.sampled_from(["a\nb", "a\u2028b", "ä", '"', "a\rb", "a\x85b"])


@given(st.sets(segments, max_size=20))
def test_a_manifest_survives_its_encoding_in_any_order(paths):
    manifest = Manifest.of(entry(path) for path in paths)
    assert Manifest.of(entry(path) for path in sorted(paths, reverse=True)).id == manifest.id
    decoded = Manifest.decode(manifest.encoded, manifest.id)
    assert decoded == manifest
    assert [one.path for one in decoded.files] == sorted(paths)
    assert decoded.size == 3 * len(paths)


def test_an_encoding_under_another_id_is_refused():
    manifest = Manifest.of([entry("a")])
    with pytest.raises(IntegrityError):
        Manifest.decode(manifest.encoded + b" ", manifest.id)
    with pytest.raises(IntegrityError):
        Manifest.decode(manifest.encoded, VersionId("0" * 40))


def test_an_unchanged_file_keeps_its_name_and_any_change_gives_another():
    name = name_file_version("o", path="a", size=3, token="t")
    assert name_file_version("o", path="a", size=3, token="t") == name
    others = {
        name_file_version("p", path="a", size=3, token="t"),
        name_file_version("o", path="b", size=3, token="t"),
        name_file_version("o", path="a", size=4, token="t"),
        name_file_version("o", path="a", size=3, token="u"),
        name_file_version("o", path="a", size=3, token="t", digest="sha256:00"),
    }
    assert len(others | {name}) == 6


def test_files_are_found_by_path_and_by_folder():
    manifest = Manifest.of(entry(path) for path in ["b", "a/x", "a/y/z", "a!", "a.b", "c/d"])
    assert manifest.find("a/x").path == "a/x"
    assert [one.path for one in manifest.below("a")] == ["a/x", "a/y/z"]
    assert [one.path for one in manifest.below("a/y")] == ["a/y/z"]
    assert [one.path for one in manifest.below("b")] == ["b"]
    assert len(list(manifest.below(""))) == 6
    assert list(manifest.below("nothing")) == []
    for path in ("a", "z", ""):
        with pytest.raises(NotKnownError):
            manifest.find(path)


@pytest.mark.parametrize("paths", [["a", "a"], ["a", "a/b"], ["a/b", "a/b/c/d"], ["../a"], ["/a"]])
def test_a_list_that_cannot_be_a_tree_is_refused(paths):
    with pytest.raises(ConfigError):
        Manifest.of(entry(path, token=str(number)) for number, path in enumerate(paths))


def test_chosen_paths_are_files_folders_or_everything():
    manifest = Manifest.of([entry("a/x"), entry("a/y"), entry("b")])
    assert [each.path for each in manifest.chosen(())] == ["a/x", "a/y", "b"]
    assert [each.path for each in manifest.chosen(["b", "a"])] == ["b", "a/x", "a/y"]
    with pytest.raises(NotKnownError, match="no such file or folder"):
        list(manifest.chosen(["a/x", "c"]))
