"""Python's own modules, numpy, safetensors, torch and transformers read the mount as a plain folder."""

import importlib.util
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bench.demo.model import find_wheel, unpack
from tests.fuse.mounting import MIB, content
from tests.fuse.programs import run, show

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
WHEEL = find_wheel(Path(__file__).parents[2] / ".cache/demo")
SENTENCES = ["a cache keeps what was read close to who reads it", "the banana was ripe and sweet"]
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


def has(*names: str) -> pytest.MarkDecorator:
    """Skip a test if Python cannot import something."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs the packages {', '.join(names)}")


needs_wheel = pytest.mark.skipif(WHEEL is None, reason="needs the model that `make demo` downloads")

WRITE_TORCH = """
import sys, torch
torch.manual_seed(5)
state = {"weight": torch.randn(700, 1000), "half": torch.randn(999).to(torch.bfloat16)}
torch.save(state, sys.argv[1] + "/state.pt")
"""
WRITE_TRANSFORMERS = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
torch.manual_seed(5)
config = LlamaConfig(vocab_size=512, hidden_size=128, intermediate_size=256, num_hidden_layers=3,
                     num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)
LlamaForCausalLM(config).save_pretrained(sys.argv[1] + "/llama", max_shard_size="500KB")
"""

PROGRAMS = {
    "zipfile": """
import zipfile
with zipfile.ZipFile("some.zip") as archive:
    print(archive.testzip(), digest(b"".join(map(archive.read, archive.namelist()))))
""",
    "mmap": """
import mmap
with open("rows.npy", "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print(digest(mapped), mapped.rfind(b"NUMPY"), len(mapped))
""",
    "walks": """
import glob, os
from pathlib import Path
print(sorted((each.name, each.is_dir(), each.is_dir() or each.stat().st_size)
             for each in os.scandir()))
print(sorted(map(str, Path().rglob("*"))), Path("rows.npy").resolve().name)
print(sorted(glob.glob("**/model-*-of-*", recursive=True)))
""",
    "seeks": """
with open("rows.npy", "rb", buffering=77) as file:
    file.seek(-1000, 2)
    tail = file.read(10)
    file.seek(5)
    into = bytearray(99999)
    print(digest(tail), file.readinto(into), digest(into), file.tell())
""",
    "threads": """
from concurrent.futures import ThreadPoolExecutor
def part(at):
    with open("rows.npy", "rb") as file:
        file.seek(at)
        return file.read(70001)
with ThreadPoolExecutor(8) as pool:
    print(digest(b"".join(pool.map(part, range(0, 2_100_000, 70_001)))))
""",
    "children": """
import subprocess
with open("rows.npy", "rb") as file:
    print(digest(subprocess.run(["cat"], stdin=file, stdout=-1).stdout))
""",
}
"""What programs do with Python's own modules."""


def write(folder: Path) -> None:
    """Write the models, those that can be written here."""
    rows = np.frombuffer(content("array", 2 * MIB), dtype="<u2").reshape(-1, 256)
    np.save(folder / "rows.npy", rows)
    np.savez_compressed(folder / "rows.npz", rows=rows, few=rows[:3])
    for shard in SHARDS:
        write_safetensors(folder / shard, {f"{shard}.{at}": rows[at::3] for at in range(3)})
    with zipfile.ZipFile(folder / "some.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for at in range(50):
            archive.writestr(f"folder {at % 3}/{at}", f"{at}\n" * 3000)
    if importlib.util.find_spec("torch"):
        run(sys.executable, "-c", WRITE_TORCH, folder, **QUIET)
        if importlib.util.find_spec("transformers"):
            run(sys.executable, "-c", WRITE_TRANSFORMERS, folder, **QUIET)
    if WHEEL is not None:
        unpacked = unpack(WHEEL, folder.parent / "unpacked")
        unpacked["config.json"].parent.rename(folder / "minilm")


def write_safetensors(place: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write a file as the library does."""
    header, at = {}, 0
    for name, tensor in tensors.items():
        offsets = [at, at := at + tensor.nbytes]
        header[name] = {"dtype": "U16", "shape": tensor.shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(tensor.tobytes() for tensor in tensors.values())
    place.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.fixture(scope="module")
def folders(shared_system, engine, tmp_path_factory):
    """The mount, and the plain folder."""
    yield from show(shared_system, tmp_path_factory, engine, "models", write)


def same(folders: tuple[Path, Path], program: str, *words: object) -> str:
    """Run a program of Python in either folder; return what it says, the same in both."""
    begin = "import hashlib, sys\ndef digest(data): return hashlib.sha256(data).hexdigest()\n"
    mounted, plain = (
        run(sys.executable, "-c", begin + program, *words, at=folder, **QUIET).stdout
        for folder in folders
    )
    assert mounted == plain
    assert plain
    return plain


@pytest.mark.parametrize("program", PROGRAMS)
def test_pythons_own_modules_read_the_same(folders, program):
    same(folders, PROGRAMS[program])


def test_shutil_copies_the_tree(folders, tmp_path):
    copy = tmp_path / "copy"
    program = "import shutil, sys; shutil.copytree(*sys.argv[1:])"
    run(sys.executable, "-c", program, folders[0], copy)
    assert run("diff", "-r", copy, folders[1]).stdout == ""


def test_python_imports_modules_from_the_mount_and_leaves_no_bytecode(
    shared_system, engine, mounts
):
    origin = mounts.folder / "origin"
    (origin / "package").mkdir(parents=True)
    (origin / "package/__init__.py").write_text("from package.inner import ANSWER\n")
    (origin / "package/inner.py").write_text("ANSWER = 42\n")
    shared_system.add(f"package-{engine}", f"file://{origin}")
    place = mounts.mount(f"package-{engine}", "--engine", engine)
    said = run(sys.executable, "-c", "import package; print(package.ANSWER)", at=place).stdout
    assert said == "42\n"
    assert not list(place.rglob("*.pyc"))


@has("numpy")
@pytest.mark.parametrize("mode", ["None", "'r'", "'c'"])
def test_numpy_loads_and_maps(folders, mode):
    program = (
        "import numpy\n"
        f"rows = numpy.load('rows.npy', mmap_mode={mode})\n"
        "print(rows.shape, digest(rows[::-3, 7:99].tobytes()), digest(rows.tobytes()))\n"
        "print(digest(numpy.load('rows.npz')['rows'].tobytes()))\n"
        "print(digest(numpy.fromfile('rows.npy', dtype='u1', offset=11)))\n"
        "print(digest(numpy.memmap('rows.npy', mode='r', offset=4096)))"
    )
    same(folders, program)


@has("safetensors", "numpy")
def test_safetensors_loads_whole_files_and_slices(folders):
    program = (
        "from safetensors import safe_open\n"
        "from safetensors.numpy import load, load_file\n"
        "for shard in sys.argv[1:]:\n"
        "    tensors = load_file(shard)\n"
        "    print([(name, tensors[name].shape, digest(tensors[name].tobytes()))\n"
        "           for name in sorted(tensors)])\n"
        "    with safe_open(shard, framework='np') as file:\n"
        "        for name in sorted(file.keys()):\n"
        "            part = file.get_slice(name)\n"
        "            print(part.get_shape(), digest(part[100:200, 3:9].tobytes()))\n"
        "            assert (file.get_tensor(name) == tensors[name]).all()\n"
        "    assert len(load(open(shard, 'rb').read())) == 3"
    )
    same(folders, program, *SHARDS)


@pytest.mark.frameworks
@has("torch")
@pytest.mark.parametrize("mapped", [True, False])
def test_torch_loads_a_state_and_safetensors(folders, mapped):
    program = (
        "import torch\n"
        f"state = torch.load('state.pt', mmap={mapped}, weights_only=True)\n"
        "print(digest(state['weight'].numpy()), state['half'].float().sum().item())\n"
        "rows = torch.from_file('rows.npy', size=500_000, dtype=torch.int32)\n"
        "print(rows.sum().item())"
    )
    same(folders, program)


@pytest.mark.frameworks
@has("torch", "safetensors")
def test_torch_takes_the_tensors_of_safetensors(folders):
    program = (
        "import torch\n"
        "from safetensors.torch import load_file\n"
        "for shard in sys.argv[1:]:\n"
        "    for name, tensor in sorted(load_file(shard).items()):\n"
        "        print(name, digest(tensor.view(torch.uint8).numpy()))"
    )
    same(folders, program, *SHARDS)


@pytest.mark.frameworks
@has("torch", "transformers")
def test_transformers_loads_a_model_of_several_shards(folders):
    program = (
        "import torch\n"
        "from transformers import AutoModelForCausalLM\n"
        "model = AutoModelForCausalLM.from_pretrained('./llama').eval()\n"
        "with torch.no_grad():\n"
        "    scores = model(torch.arange(40).reshape(2, 20)).logits\n"
        "print(scores.shape, digest(scores.numpy()))"
    )
    assert len(list((folders[1] / "llama").glob("model-*-of-*.safetensors"))) > 1
    same(folders, program)


@needs_wheel
@pytest.mark.frameworks
@has("torch", "transformers")
def test_transformers_loads_the_demos_model(folders):
    program = (
        "import torch\n"
        "from transformers import AutoModel, AutoTokenizer\n"
        "tokens = AutoTokenizer.from_pretrained('./minilm')\n"
        "model = AutoModel.from_pretrained('./minilm').eval()\n"
        "with torch.no_grad():\n"
        "    state = model(**tokens(sys.argv[1:], padding=True, return_tensors='pt'))\n"
        "print(digest(state.last_hidden_state.numpy()))"
    )
    same(folders, program, *SENTENCES)


@needs_wheel
def test_the_demos_model_computes_the_same_from_the_mount(folders):
    program = (
        "import mmap\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from bench.demo.model import SentenceEncoder, load_safetensors\n"
        "with open('minilm/model.safetensors', 'rb') as file:\n"
        "    mapped = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))\n"
        "words = open('minilm/vocab.txt', encoding='utf-8').read()\n"
        "encoder = SentenceEncoder(load_safetensors(mapped), words)\n"
        "print([digest(encoder.encode(sentence)) for sentence in sys.argv[2:]])"
    )
    same(folders, program, Path(__file__).parents[2], *SENTENCES)


def test_a_program_that_would_read_otherwise_is_found_out(folders):
    with pytest.raises(AssertionError):
        same(folders, "import os; print(os.getcwd())")
