"""What a mount keeps for the process that takes it over."""

from cachefs.core.names import DatasetName
from cachefs.fuse.showing.memory import VersionFolder
from tests.unit.fuse.worlds import MODEL


def kept(cloud, folder):
    cloud.put("model", {"a": b"1", "b/c": b"22"})
    (resolved,) = cloud.versions[MODEL]
    versions = VersionFolder(folder)
    versions.keep(resolved)
    return resolved, versions


def test_a_version_that_was_kept_is_found_by_another_process(cloud, tmp_path):
    resolved, _ = kept(cloud, tmp_path / "versions")
    found = VersionFolder(tmp_path / "versions").find(MODEL, resolved.manifest.id)
    assert found == resolved


def test_what_was_not_kept_is_not_found(cloud, tmp_path):
    resolved, versions = kept(cloud, tmp_path)
    assert versions.find(DatasetName.parse("other"), resolved.manifest.id) is None
    assert versions.find(MODEL, "0" * 40) is None


def test_a_damaged_file_is_as_good_as_none(cloud, tmp_path):
    resolved, versions = kept(cloud, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole.replace(b"22", b"23"), whole[1:], b"\xff" + whole):
        path.write_bytes(damaged)
        found = versions.find(MODEL, resolved.manifest.id)
        assert found is None or found == resolved


def test_a_folder_that_takes_no_more_is_no_failure(cloud, tmp_path):
    resolved, versions = kept(cloud, tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    tmp_path.rmdir()
    versions.keep(resolved)
    assert versions.find(MODEL, resolved.manifest.id) is None
