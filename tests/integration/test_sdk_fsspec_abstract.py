"""fsspec's own tests of reading file systems, synchronously and from coroutines.

All of ``AbstractGetTests`` are here. Those of ``copy``, ``put``, ``pipe`` and ``open`` (its only one
is of writing) begin by writing to the file system, which ours refuses.
"""

import asyncio
import shutil
from hashlib import md5

import fsspec
import pytest
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

from tests.integration.sdk_systems import running

pytestmark = pytest.mark.slow

FOLDER = ("subfile1", "subfile2", "nesteddir/nestedfile")
TREES = {
    "bulk": ["file1", "file2", *(f"subdir/{name}" for name in FOLDER)],
    "edges": ["file1", "file2", *(f"subdir{at}/{name}" for at in (0, 1) for name in FOLDER)],
    "prefixes": ["subdir.txt", "subdir/subfile.txt"],
    "written": ["src/file"],
    "hashed": [f"{md5(str(at).encode()).hexdigest()}.txt" for at in range(10)],  # noqa: S324
}
"""The trees that fsspec's fixtures would write, by our names for them."""


class ByCalls:
    """The file system, on which what a test would write is found already."""

    def __init__(self, folder, **options):
        self.system = fsspec.filesystem("cachefs", state=folder, **options)

    def mkdir(self, path):
        assert self.system.info(path)["type"] == "directory"

    def touch(self, path):
        assert self.system.info(path)["size"] == 0

    def get(self, *words, **options):
        self.system.get(*words, **options)


class ByCoroutines(ByCalls):
    def __init__(self, folder):
        super().__init__(folder, asynchronous=True)

    def get(self, *words, **options):
        asyncio.run(self.system._get(*words, **options))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    origins = {}
    for name, paths in TREES.items():
        origins[name] = tmp_path_factory.mktemp(name)
        for path in paths:
            file = origins[name] / ("" if name == "written" else "source") / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(str(paths.index(path)) if name == "hashed" else "")
    with running(tmp_path_factory.mktemp("run"), origins) as system:
        yield system.folder
    for folder in origins.values():
        shutil.rmtree(folder)


class TestReading(AbstractGetTests, AbstractFixtures):
    @pytest.fixture(params=[ByCalls, ByCoroutines])
    def fs(self, datasets, request):
        return request.param(datasets)

    @pytest.fixture
    def fs_path(self):
        return "written"

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self):
        return "bulk/source"

    @pytest.fixture
    def fs_glob_edge_cases_files(self):
        return "edges/source"

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self):
        return "prefixes/source"

    @pytest.fixture
    def fs_10_files_with_hashed_names(self):
        return "hashed/source"
