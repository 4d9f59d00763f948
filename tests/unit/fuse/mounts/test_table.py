"""The mount table, from lines as the kernel writes them."""

from pathlib import Path

from cachefs.fuse.mounts.table import locate, parse_table

LINE = (
    b"101 27 0:45 / {} ro,nosuid,nodev,noexec,relatime shared:1 master:2 - fuse.cachefs "
    b"cachefs://model ro,user_id=7,group_id=8,default_permissions,allow_other"
)


def parse(mountpoint: bytes):
    (entry,) = parse_table([LINE.replace(b"{}", mountpoint)])
    return entry


def test_a_line_is_taken_apart():
    entry = parse(b"/mnt")
    assert (entry.id, entry.device, entry.mountpoint) == (101, "0:45", Path("/mnt"))
    assert (entry.type, entry.source) == ("fuse.cachefs", "cachefs://model")
    assert {"ro", "noexec", "allow_other"} <= entry.options
    assert entry.owner() == (7, 8)
    assert entry.ours


def test_escapes_stand_for_bytes_and_other_bytes_for_themselves():
    entry = parse(rb"/a\040b\011c\012d\134e\043f" + "模".encode() + b"\xff")
    assert entry.mountpoint == Path("/a b\tc\nd\\e#f模\udcff")


def test_optional_fields_may_be_missing_and_a_dash_in_a_path_is_no_separator():
    (entry,) = parse_table([b"1 2 0:3 / /a-b/- rw - tmpfs none rw"])
    assert (entry.mountpoint, entry.type) == (Path("/a-b/-"), "tmpfs")
    assert not entry.ours


def test_torn_and_empty_lines_are_no_mounts():
    assert list(parse_table([b"", b"1 2 0:3 / /x rw", LINE[:30]])) == []


def test_a_place_is_located_without_a_look_at_its_last_part(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "folder" / "last").symlink_to("../elsewhere")
    assert locate(tmp_path / "link" / "missing") == tmp_path / "folder" / "missing"
    assert locate(tmp_path / "link" / ".." / "x" / "." / "") == tmp_path / "x"
    assert locate(tmp_path / "folder" / "last") == tmp_path / "elsewhere"
    assert locate("/") == Path("/")
