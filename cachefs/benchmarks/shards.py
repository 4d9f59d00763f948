"""Shards: a checkpoint to measure with, as real ones are laid out.

Safetensors files with valid headers and bfloat16-like bytes: every second byte is sign and exponent,
which in real weights takes few values, and the others are noise. The content follows from the seed,
no two blocks are equal, and 3 GB take a few seconds to write.
"""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

MIB = 1024 * 1024
SHARD_BYTES = 512 * MIB
_NOISE_BYTES = 32 * MIB
_PIECE_BYTES = MIB
_HIDDEN = 4096
"""The width of the model's matrices; a row of bfloat16 is twice as many bytes."""
_LAYOUT = 2
"""Of what is written; files of another one are made anew."""


def make_shards(
    folder: Path, *, size: int, seed: int, shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Make shards of ``size`` bytes together, unless they are there already, and return them."""
    count = max(1, round(size / shard_bytes))
    paths = [folder / f"model-{at + 1:05}-of-{count:05}.safetensors" for at in range(count)]
    marker = folder.with_suffix(".json")  # beside it, as the folder is served whole
    description = {"size": size, "seed": seed, "count": count, "layout": _LAYOUT}
    if marker.exists() and json.loads(marker.read_text()) == description:
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    noise = _weights(random.Random(seed))
    for at, path in enumerate(paths):
        header = _header(size // count, f"model.{at}")
        _write_shard(path, header, size // count, noise, random.Random(f"{seed}:{at}"))
    os.sync()  # else its write-back would disturb the first measurement
    marker.write_text(json.dumps(description))
    return paths


def _weights(source: random.Random) -> bytes:
    low, high = source.randbytes(_NOISE_BYTES // 2), source.randbytes(_NOISE_BYTES // 2)
    # Weights lie between about 2**-10 and 2**-2, of either sign: exponent bytes 0x3a..0x3e, 0xba...
    table = bytes((0xBA if byte & 1 else 0x3A) + (byte >> 1) % 5 for byte in range(256))
    weights = bytearray(_NOISE_BYTES)
    weights[0::2] = low
    weights[1::2] = high.translate(table)
    return bytes(weights)


def _write_shard(path: Path, header: bytes, size: int, noise: bytes, source: random.Random) -> None:
    with path.open("wb") as shard:
        shard.write(header)
        for length in _pieces(size - len(header)):
            # A different cut of the noise for each piece; the offset is even, to stay on a weight.
            offset = source.randrange(0, (_NOISE_BYTES - length) // 2) * 2
            shard.write(memoryview(noise)[offset : offset + length])


def _header(size: int, prefix: str) -> bytes:
    """Return the header of a shard that is about ``size`` bytes with it: 8 bytes and JSON.

    Its tensors' names begin with the prefix: no tensor of a checkpoint is in two shards.
    """
    matrix_bytes = _HIDDEN * _HIDDEN * 2
    tensors: dict[str, object] = {"__metadata__": {"format": "pt"}}
    whole, rest = divmod(size - 16 * 1024, matrix_bytes)
    offset = 0
    for at, length in enumerate([matrix_bytes] * whole + [rest - rest % 2]):
        shape = [_HIDDEN, _HIDDEN] if length == matrix_bytes else [length // 2]
        tensors[f"{prefix}.layers.{at}.weight"] = {
            "dtype": "BF16",
            "shape": shape,
            "data_offsets": [offset, offset + length],
        }
        offset += length
    body = json.dumps(tensors).encode()
    body += b" " * (size - offset - 8 - len(body))
    return len(body).to_bytes(8, "little") + body


def _pieces(size: int) -> Iterator[int]:
    while size > 0:
        length = min(size, _PIECE_BYTES)
        yield length
        size -= length


def total_size(paths: list[Path]) -> int:
    """Return the bytes of files together."""
    return sum(path.stat().st_size for path in paths)
