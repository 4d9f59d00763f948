"""What is published is known after a restart, whatever happened to a file."""

from dataclasses import replace
from pathlib import Path

import pytest

from cachefs.k8s.csi.published import Publication, Published

ONE = Publication(
    volume="v1",
    target="/pods/one/mount",
    namespace="team",
    dataset="model",
    version="0123abcd",
    path="",
    asked="",
)


@pytest.mark.parametrize(
    ("changes", "source"),
    [
        ({}, "team/model/.versions/0123abcd"),
        ({"path": "a/b"}, "team/model/.versions/0123abcd/a/b"),
        ({"version": ""}, "team/model"),
        ({"version": "", "path": "a"}, "team/model/a"),
        ({"namespace": "", "dataset": "", "version": ""}, ""),
    ],
)
def test_a_publication_says_where_its_folder_is(changes, source):
    assert replace(ONE, **changes).shown == source


def test_what_is_kept_is_found_until_it_is_forgotten(tmp_path):
    kept = Published(tmp_path / "published")
    assert list(kept.all()) == []
    two = replace(ONE, target="/pods/two/mount", version="")
    for each in (ONE, two):
        kept.keep(each)
    kept.keep(replace(ONE, version="ffff"))
    again = Published(tmp_path / "published")
    assert again.find(Path(ONE.target)) == replace(ONE, version="ffff")
    assert again.find(Path(two.target)) == two
    assert {each.target for each in again.all()} == {ONE.target, two.target}
    again.forget(Path(ONE.target))
    again.forget(Path(ONE.target))
    assert again.find(Path(ONE.target)) is None
    assert [each.target for each in again.all()] == [two.target]


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", '{"volume": "v1"}', '{"x": 1}'])
def test_a_damaged_file_is_as_good_as_none(tmp_path, text):
    kept = Published(tmp_path)
    kept.keep(ONE)
    (file,) = tmp_path.glob("*.json")
    file.write_text(text)
    assert kept.find(Path(ONE.target)) is None
    assert list(kept.all()) == []
    kept.keep(ONE)
    assert kept.find(Path(ONE.target)) == ONE
