"""The header of a safetensors file: parsed strictly, before anything is allocated for tensors.

A file is eight bytes (N, little-endian), N bytes of JSON, and the tensors' bytes. Whoever hands us
one may lie about everything, so the order of the checks is: N against the limit and the file's
size, then UTF-8, then JSON by the rules of the official reader's parser, then each entry, then that
the tensors cover the rest of the file exactly, without a hole or an overlap. What is read and kept
is never more than the file has.

Nothing is accepted here that the official reader refuses (tests hold it to that on thousands of
damaged headers). On two points we refuse what it lets pass although the format forbids it: a header
that does not begin with ``{``, and a name that occurs twice, which would let two readers see two
models in one file. Two spellings that only its parser's generality allows are refused as well: an
entry as an array, and a dtype as an object.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from cachefs.core.names import printable
from cachefs.errors import ConfigError, NotKnownError

PREFIX_BYTES = 8
HEADER_BYTES_MAX = 100_000_000
"""The official reader's limit."""
_UINT64_MAX = 2**64 - 1
_DEPTH_MAX = 127
"""Containers within each other; the official parser gives up at the next."""
_METADATA = "__metadata__"
_ENTRY_FIELDS = ("dtype", "shape", "data_offsets")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)

DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""Bits of an element, for each dtype of the format."""


class SafetensorsError(ConfigError):
    """A file is not valid safetensors, or an index does not fit its shards.

    It is a ``ValueError``. Reading again will not help: mend or replace the file.
    """


class TensorEntry(NamedTuple):
    """What a header says of a tensor."""

    name: str
    """Data, never a path: it may hold anything."""
    dtype: str
    """One of :data:`DTYPE_BITS`."""
    shape: tuple[int, ...]
    """Elements along each dimension; empty for a scalar."""
    offset: int
    """Of its first byte, from the beginning of the *file*."""
    size: int
    """In bytes."""


@dataclass(frozen=True, slots=True)
class Header:
    """A valid header."""

    tensors: tuple[TensorEntry, ...]
    """In the order of their bytes."""
    metadata: Mapping[str, str] | None
    """What the writer added; ``None`` if it added nothing."""
    data_offset: int
    """Where the tensors' bytes begin in the file."""
    size: int
    """Of the whole file, in bytes."""
    by_name: Mapping[str, TensorEntry]

    def find(self, name: str) -> TensorEntry:
        """Return a tensor's entry.

        Raises:
            NotKnownError: There is no such tensor.
        """
        try:
            return self.by_name[name]
        except KeyError:
            raise NotKnownError("no such tensor", subject=printable(name)) from None


def read_header(read: Callable[[int, int], bytes], size: int, *, subject: str) -> Header:
    """Read and check the header of a file.

    Args:
        read: Returns the bytes of ``(offset, length)``, a range within the file.
        size: Of the file, in bytes.
        subject: The file's name, for messages.

    Raises:
        SafetensorsError: It is not a valid safetensors file.
    """
    if size < PREFIX_BYTES:
        _refuse(f"{size} bytes are too short for safetensors", subject)
    length = int.from_bytes(read(0, PREFIX_BYTES), "little")
    if length > HEADER_BYTES_MAX:
        _refuse(f"its header claims {length} bytes; at most {HEADER_BYTES_MAX}", subject)
    if PREFIX_BYTES + length > size:
        _refuse(f"its header claims {length} bytes, but the file ends after {size}", subject)
    return parse_header(read(PREFIX_BYTES, length), size, subject=subject)


def parse_header(encoded: bytes, size: int, *, subject: str) -> Header:
    """Check a header's JSON; ``size`` is that of the whole file, in bytes.

    Raises:
        SafetensorsError: It is not valid, or does not fit the file.
    """
    document = parse_json(encoded, subject=subject)
    if not isinstance(document, dict):
        _refuse("its header is not a JSON object", subject)
    metadata = _metadata(document.pop(_METADATA, None), subject)
    data_offset = PREFIX_BYTES + len(encoded)
    entries = [_entry(name, each, data_offset, subject) for name, each in document.items()]
    entries.sort(key=lambda entry: (entry.offset, entry.size))
    end = data_offset
    for entry in entries:
        if entry.offset != end:
            what = "overlaps another one" if entry.offset < end else "leaves a hole before it"
            _refuse(f"tensor {printable(entry.name)!r} {what}", subject)
        end += entry.size
    if end != size:
        _refuse(f"its tensors end at byte {end}, and the file at {size}", subject)
    names = {entry.name: entry for entry in entries}
    return Header(tuple(entries), metadata, data_offset, size, names)


def parse_json(encoded: bytes, *, subject: str) -> Any:  # Any: a JSON document
    """Parse JSON as strictly as the official reader's parser, and refuse a name that occurs twice.

    Raises:
        SafetensorsError: It is not valid.
    """
    try:
        text = encoded.decode()
    except UnicodeDecodeError:
        _refuse("its header is not UTF-8", subject)
    if not text.startswith("{"):
        _refuse("its header does not begin with {", subject)
    try:
        if "\\u" in text:
            _check_escapes(text)
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except SafetensorsError as error:
        raise SafetensorsError(error.message, subject=subject, hint=error.hint) from None
    except RecursionError:
        _refuse("its header's JSON is too deep", subject)
    except ValueError as error:
        _refuse(f"its header is not JSON: {printable(str(error))}", subject)


def _refuse(message: str, subject: str) -> NoReturn:
    raise SafetensorsError(message, subject=printable(subject))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value] # add() is always false
        raise SafetensorsError(f"its header has {printable(twice)!r} twice")
    return found


def _integer(text: str) -> int | float:
    # The official parser takes -0 for a float, and what is beyond 64 bits too.
    if text == "-0" or len(text) > 20:
        return _float(text)
    number = int(text)
    return number if -(2**63) <= number <= _UINT64_MAX else float(number)


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number out of range")
    return number


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _check_escapes(text: str) -> None:
    """Refuse half of a surrogate pair, which is no character."""
    high_ends_at = -1
    for escape in _ESCAPE.finditer(text):
        code = int(escape[1], 16) if escape[1] else 0
        if 0xDC00 <= code <= 0xDFFF:
            if high_ends_at != escape.start():
                raise ValueError("half of a surrogate pair")
            high_ends_at = -1
            continue
        if high_ends_at >= 0:
            raise ValueError("half of a surrogate pair")
        if 0xD800 <= code <= 0xDBFF:
            high_ends_at = escape.end()
    if high_ends_at >= 0:
        raise ValueError("half of a surrogate pair")


def _metadata(found: object, subject: str) -> Mapping[str, str] | None:
    if found is None:
        return None
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        _refuse(f"its {_METADATA} is not a map of texts", subject)
    return found


def _entry(name: str, found: object, data_offset: int, subject: str) -> TensorEntry:
    """Check one tensor's entry, as far as that goes without the others."""
    fault = _fault(found)
    if fault is not None:
        _refuse(f"tensor {printable(name)!r} {fault}", subject)
    entry: dict[str, Any] = found  # type: ignore[assignment] # _fault() has looked
    begin, end = entry["data_offsets"]
    return TensorEntry(
        name, entry["dtype"], tuple(entry["shape"]), data_offset + begin, end - begin
    )


def _fault(entry: object) -> str | None:
    """Return what is wrong with an entry, or ``None``."""
    if not isinstance(entry, dict):
        return "is not described by an object"
    for field in _ENTRY_FIELDS:
        if field not in entry:
            return f"has no {field}"
    return _field_fault(entry)


def _field_fault(entry: Mapping[str, Any]) -> str | None:  # Any: JSON
    if len(entry) > len(_ENTRY_FIELDS) and _depth(dict(entry)) > _DEPTH_MAX - 1:
        return "has fields that are too deep"
    dtype, shape, offsets = (entry[field] for field in _ENTRY_FIELDS)
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        return f"has the unknown dtype {printable(str(dtype)[:40])!r}"
    if not _are_sizes(shape):
        return "has a shape that is not a list of sizes"
    if not _are_sizes(offsets) or len(offsets) != 2:
        return "has data_offsets that are not two offsets"
    return _size_fault(dtype, shape, offsets)


def _size_fault(dtype: str, shape: Sequence[int], offsets: Sequence[int]) -> str | None:
    begin, end = offsets
    if end < begin:
        return "ends before it begins"
    count = 1
    for size in shape:
        count *= size
        if count > _UINT64_MAX:
            return "has a shape that no file can hold"
    bits = count * DTYPE_BITS[dtype]
    if bits > _UINT64_MAX:
        return "has a shape that no file can hold"
    if bits % 8:
        return "does not end at the end of a byte"
    if bits // 8 != end - begin:
        return f"needs {bits // 8} bytes by its shape and has {end - begin} by its offsets"
    return None


def _are_sizes(found: object) -> bool:
    return isinstance(found, list) and all(type(each) is int and each >= 0 for each in found)


def _depth(found: object) -> int:
    """Return how many containers are within each other; the parser has bounded it."""
    level: Iterator[object] = iter([found])
    for depth in range(_DEPTH_MAX + 2):
        containers = [each for each in level if isinstance(each, dict | list)]
        if not containers:
            return depth
        level = iter(
            [
                inner
                for each in containers
                for inner in (each.values() if isinstance(each, dict) else each)
            ]
        )
    return _DEPTH_MAX + 2
