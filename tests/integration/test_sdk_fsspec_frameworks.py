"""pandas, pyarrow, PyTorch's distributed checkpoints and Ray Data read ``cachefs://``.

Each reads from the cache what it reads from the plain folder, by the ways that its own users take.
"""

import os
import subprocess
import sys
import tempfile

import fsspec
import pytest

from tests.integration.sdk_systems import running

pytestmark = [pytest.mark.slow, pytest.mark.frameworks]

ROWS = 20_000
PARTS = 3


def write_tables(folder):
    """Write a table as CSV and Parquet, the latter in parts too."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    table = pandas.DataFrame(
        {"number": range(ROWS), "word": [f"word {at % 97}" for at in range(ROWS)]}
    )
    table.to_csv(folder / "table.csv", index=False)
    table.to_csv(folder / "table.csv.gz", index=False)
    table.to_parquet(folder / "table.parquet", row_group_size=1000)
    table.to_json(folder / "table.jsonl", orient="records", lines=True)
    for part in range(PARTS):
        (folder / "parts" / f"part={part}").mkdir(parents=True)
        place = folder / "parts" / f"part={part}" / "rows.parquet"
        table[part::PARTS].to_parquet(place, row_group_size=500)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("origin")
    write_tables(folder)
    return folder


@pytest.fixture(scope="module")
def system(folder, tmp_path_factory):
    with running(tmp_path_factory.mktemp("run"), {"data": folder}, workers=2) as system:
        yield system


@pytest.fixture
def fs(system):
    return fsspec.filesystem("cachefs", state=system.folder)


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_pandas_reads_csv(system, folder, name):
    import pandas as pd  # noqa: PLC0415

    found = pd.read_csv(f"cachefs://data/{name}", storage_options={"state": str(system.folder)})
    pd.testing.assert_frame_equal(found, pd.read_csv(folder / name))


def test_pandas_reads_parquet_and_json(system, folder):
    import pandas as pd  # noqa: PLC0415

    options = {"storage_options": {"state": str(system.folder)}}
    found = pd.read_parquet("cachefs://data/table.parquet", columns=["word"], **options)
    pd.testing.assert_frame_equal(
        found, pd.read_parquet(folder / "table.parquet", columns=["word"])
    )
    found = pd.read_parquet("cachefs://data/parts", **options)
    pd.testing.assert_frame_equal(found, pd.read_parquet(folder / "parts"))
    found = pd.read_json("cachefs://data/table.jsonl", lines=True, **options)
    pd.testing.assert_frame_equal(found, pd.read_json(folder / "table.jsonl", lines=True))


def test_pandas_can_neither_write_nor_read_what_is_not_there(system):
    import pandas as pd  # noqa: PLC0415

    options = {"storage_options": {"state": str(system.folder)}}
    with pytest.raises(OSError, match="Read-only"):
        pd.DataFrame({"a": [1]}).to_csv("cachefs://data/new.csv", **options)
    with pytest.raises(FileNotFoundError):
        pd.read_csv("cachefs://data/nothing.csv", **options)
    with pytest.raises(FileNotFoundError):
        pd.read_parquet("cachefs://data/nothing.parquet", **options)


@pytest.mark.parametrize("wrapped", [False, True], ids=["fsspec", "PyFileSystem"])
def test_pyarrow_reads_datasets(fs, folder, wrapped):
    import pyarrow.dataset as pd  # noqa: PLC0415
    from pyarrow.fs import FSSpecHandler, PyFileSystem  # noqa: PLC0415

    filesystem = PyFileSystem(FSSpecHandler(fs)) if wrapped else fs
    ours = pd.dataset("data/parts", filesystem=filesystem, partitioning="hive")
    plain = pd.dataset(folder / "parts", partitioning="hive")
    wanted = (pd.field("part") == 1) & (pd.field("number") > ROWS // 2)
    found = ours.to_table(columns=["number", "word"], filter=wanted).sort_by("number")
    assert found.num_rows > 0
    assert found.equals(plain.to_table(columns=["number", "word"], filter=wanted).sort_by("number"))
    assert ours.count_rows() == plain.count_rows() == ROWS


def test_pyarrow_s_file_system_is_whole(fs, folder):
    import pyarrow.parquet as pq  # noqa: PLC0415
    from pyarrow import fs as arrow  # noqa: PLC0415

    system = arrow.PyFileSystem(arrow.FSSpecHandler(fs))
    listed = system.get_file_info(arrow.FileSelector("data", recursive=True))
    assert sorted(each.path for each in listed if each.is_file) == sorted(
        f"data/{path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()
    )
    (info,) = system.get_file_info(["data/table.csv"])
    assert info.size == (folder / "table.csv").stat().st_size
    assert info.mtime.year > 2024
    (info,) = system.get_file_info(["data/nothing"])
    assert info.type == arrow.FileType.NotFound
    with system.open_input_file("data/table.csv") as file:
        assert file.read_at(10, 5) == (folder / "table.csv").read_bytes()[5:15]
    with system.open_input_stream("data/table.csv.gz") as file:
        assert file.read() == (folder / "table.csv").read_bytes()
    with pytest.raises(OSError, match="Read-only"):
        system.create_dir("data/new")
    table = pq.read_table("data/table.parquet", filesystem=system, columns=["word"])
    assert table.equals(pq.read_table(folder / "table.parquet", columns=["word"]))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_distributed_checkpoints_are_loaded(system, tmp_path):
    torch = pytest.importorskip("torch")
    import torch.distributed.checkpoint as dcp  # noqa: PLC0415
    from torch.distributed.checkpoint import FileSystemWriter  # noqa: PLC0415
    from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader  # noqa: PLC0415

    generator = torch.Generator().manual_seed(3)
    saved = {
        "model": {name: torch.randn(300, 40, generator=generator) for name in ("a", "b")},
        "half": torch.randn(1000, generator=generator).bfloat16(),
        "step": 7,
    }
    dcp.save(saved, storage_writer=FileSystemWriter(tmp_path / "step-7"), no_dist=True)
    system.add("checkpoints", f"file://{tmp_path}")
    loaded = {
        "model": {name: torch.zeros(300, 40) for name in ("a", "b")},
        "half": torch.zeros(1000).bfloat16(),
        "step": 0,
    }
    url = "cachefs://checkpoints/step-7"
    dcp.load(loaded, storage_reader=FsspecReader(url, state=str(system.folder)), no_dist=True)
    assert loaded["step"] == 7
    assert torch.equal(loaded["half"], saved["half"])
    for name, tensor in saved["model"].items():
        assert torch.equal(loaded["model"][name], tensor)


RAY = """
import fsspec, ray, sys
state, folder = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
ray.data.DataContext.get_current().enable_progress_bars = False
fs = fsspec.filesystem("cachefs", state=state)
version = fs.info("data")["version"]

table = ray.data.read_parquet("cachefs://data/parts", filesystem=fs)
assert table.count() == 20_000, table.count()
assert sum(row["number"] for row in table.iter_rows()) == sum(range(20_000))

words = ray.data.read_csv("data/table.csv", filesystem=fs)
assert words.count() == 20_000

paths = ["cachefs://data/parts/", "cachefs://data/table.jsonl"]
files = ray.data.read_binary_files(paths, filesystem=fs, include_paths=True)
for row in files.iter_rows():
    path = row["path"].removeprefix("cachefs://").removeprefix("data/")
    with open(f"{folder}/{path}", "rb") as file:
        assert file.read() == row["bytes"], path
assert files.count() == 4

@ray.remote
def read(fs):
    return fs.versions, fs.cat_file("data/table.csv", 0, 6)

assert ray.get([read.remote(fs)] * 2) == [({"data": version}, b"number")] * 2
ray.shutdown()
print("all read")
"""


def test_ray_data_reads_in_its_own_processes(system, folder):
    pytest.importorskip("ray")
    with tempfile.TemporaryDirectory(prefix="ray") as home:  # its sockets want a short path
        own = {"HOME": home, "RAY_TMPDIR": home, "RAY_AUTH_MODE": "disabled"}
        done = subprocess.run(
            [sys.executable, "-c", RAY, system.folder, folder],
            env={**os.environ, **own, "RAY_USAGE_STATS_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    assert done.stdout.endswith("all read\n"), done.stdout + done.stderr
