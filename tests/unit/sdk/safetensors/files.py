"""Safetensors files made by hand, right and wrong ones."""

import json
import struct

DTYPES = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


def with_header(header: bytes | str, data: bytes = b"") -> bytes:
    """Return a file with any bytes as its header."""
    encoded = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(encoded)) + encoded + data


def entry(dtype="U8", shape=(2,), offsets=(0, 2), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def file_of(tensors: dict[str, object], data: bytes, **more: object) -> bytes:
    """Return a file whose header is a document."""
    return with_header(json.dumps({**more, **tensors}), data)


def safetensors_file(
    tensors: dict[str, tuple[str, tuple[int, ...], bytes]], metadata: dict[str, str] | None = None
) -> bytes:
    """Return a valid file."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = entry(dtype, shape, (len(data), len(data) + len(content)))
        data += content
    return with_header(json.dumps(header), data)


TWO = b"\1\2"
_A = json.dumps(entry())


def _with(text: str) -> bytes:
    """Return a file of one tensor of two bytes whose header is a text with ``A`` for its entry."""
    return with_header(text.replace("A", _A), TWO)


def _one(**changes) -> bytes:
    return file_of({"a": entry(**changes)}, TWO)


def _without(field: str) -> bytes:
    return file_of({"a": {k: v for k, v in entry().items() if k != field}}, TWO)


def _field(text: str) -> bytes:
    """Return a file of one tensor with a text before its other fields."""
    rest = '"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}'
    return with_header('{"a": {' + text + ", " + rest, TWO)


def _shape(text: str) -> bytes:
    return with_header('{"a": {"dtype": "U8", "shape": ' + text + ', "data_offsets": [0, 2]}}', TWO)


def _offsets(text: str) -> bytes:
    return with_header('{"a": {"dtype": "U8", "shape": [2], "data_offsets": ' + text + "}}", TWO)


def _two(first: tuple[int, int], second: tuple[int, int], size: int) -> bytes:
    tensors = {
        name: entry("U8", (max(0, offsets[1] - offsets[0]),), offsets)
        for name, offsets in (("a", first), ("b", second))
    }
    return file_of(tensors, bytes(size))


MALFORMED: dict[str, bytes] = {
    # The prefix.
    "an empty file": b"",
    "one byte": b"\0",
    "seven bytes": bytes(7),
    "a header of no bytes": bytes(8),
    "a header that is longer than the file": struct.pack("<Q", 3) + b"{}",
    "a header of 100 MB in ten bytes": struct.pack("<Q", 100_000_000) + b"{}",
    "a header over the limit": struct.pack("<Q", 100_000_001) + b"{}",
    "a header of 2**63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "a header of 2**64-1 bytes": struct.pack("<Q", 2**64 - 1) + b"{}",
    "a header of 2**64-8 bytes": struct.pack("<Q", 2**64 - 8) + b"{}",
    "a big-endian length": struct.pack(">Q", 2) + b"{}",
    "a length that takes in some of the data": struct.pack("<Q", 70) + _one()[8:],
    # Text.
    "zeros for a header": with_header(bytes(16)),
    "no UTF-8": with_header(b'{"\xff": 1}'),
    "UTF-8 cut short": with_header(b'{"a\xe2\x82'),
    "an overlong encoding": with_header(b'{"\xc0\xaf": 1}'),
    "an encoded surrogate": with_header(b'{"\xed\xa0\x80": 1}'),
    "a byte order mark": with_header(b"\xef\xbb\xbf{}"),
    "UTF-16": with_header('{"a":1}'.encode("utf-16")),
    "UTF-32": with_header('{"a":1}'.encode("utf-32-le")),
    # JSON.
    "spaces only": with_header("    "),
    "a leading space": with_header(" {}"),
    "a leading newline": with_header("\n{}"),
    "an array": with_header("[]"),
    "a number": with_header("1"),
    "a text": with_header('"{}"'),
    "null": with_header("null"),
    "an object that is not closed": with_header('{"a": 1'),
    "an object that is closed twice": with_header("{}}"),
    "two objects": with_header("{}{}"),
    "something after the object": with_header("{} x"),
    "zeros after the object": with_header(b"{}\0\0"),
    "a comment": with_header("{/* */}"),
    "a line comment": with_header("{} // end"),
    "single quotes": with_header("{'a': 1}"),
    "a name without quotes": with_header("{a: 1}"),
    "a comma at the end": _with('{"a": A,}'),
    "a comma at the beginning": _with('{,"a": A}'),
    "no colon": _with('{"a" A}'),
    "a raw newline in a name": with_header('{"a\nb": 1}'),
    "a raw tab in a name": with_header('{"a\tb": 1}'),
    "a raw zero in a name": with_header('{"a\0b": 1}'),
    "an unknown escape": with_header('{"\\x41": 1}'),
    "a short escape": with_header('{"\\u12": 1}'),
    "half a pair of surrogates, the first": _with('{"\\ud800": A}'),
    "half a pair of surrogates, the second": _with('{"\\udc00": A}'),
    "a pair of surrogates the wrong way round": _with('{"\\udc00\\ud800": A}'),
    "two first halves": _with('{"\\ud800\\ud800\\udc00": A}'),
    "a first half before a letter": _with('{"\\ud800x": A}'),
    "a first half before another escape": _with('{"\\ud800\\n": A}'),
    "half a pair in a value": _with('{"__metadata__": {"x": "\\ud800"}, "a": A}'),
    "NaN": _field('"x": NaN'),
    "Infinity": _field('"x": Infinity'),
    "a number beyond floats": _field('"x": 1e999'),
    "a number with a plus": _shape("[+2]"),
    "a number with a leading zero": _shape("[02]"),
    "a hexadecimal number": _shape("[0x2]"),
    "a minus zero": _offsets("[-0, 2]"),
    "ten thousand digits": _shape("[" + "9" * 10_000 + "]"),
    "True": _with('{"a": True}'),
    "arrays in arrays, 100,000 deep": with_header("{" + '"a":' + "[" * 100_000),
    "objects in objects, 100,000 deep": with_header('{"a":' * 100_000),
    "an unknown field 200 deep": _field('"x": ' + "[" * 200 + "]" * 200),
    # Names.
    "a tensor twice": _with('{"a": A, "a": A}'),
    "a tensor twice, once escaped": _with('{"a": A, "\\u0061": A}'),
    "metadata twice": _with('{"__metadata__": {}, "__metadata__": {}, "a": A}'),
    "a name in the metadata twice": _with('{"__metadata__": {"x": "1", "x": "2"}, "a": A}'),
    "a dtype twice": _field('"dtype": "U8"'),
    "a shape twice": _field('"shape": [2]'),
    "offsets twice": _field('"data_offsets": [0, 2]'),
    # Metadata.
    "metadata that are a list": file_of({"a": entry()}, TWO, __metadata__=[]),
    "metadata that are a text": file_of({"a": entry()}, TWO, __metadata__="pt"),
    "metadata that are a number": file_of({"a": entry()}, TWO, __metadata__=1),
    "metadata with a number": file_of({"a": entry()}, TWO, __metadata__={"x": 1}),
    "metadata with null": file_of({"a": entry()}, TWO, __metadata__={"x": None}),
    "metadata with an object": file_of({"a": entry()}, TWO, __metadata__={"x": {}}),
    "metadata with a truth": file_of({"a": entry()}, TWO, __metadata__={"x": True}),
    "metadata that are a tensor": file_of({"__metadata__": entry()}, TWO),
    # Entries.
    "an entry that is null": with_header('{"a": null}'),
    "an entry that is a number": with_header('{"a": 1}'),
    "an entry that is a text": with_header('{"a": "F32"}'),
    "an entry that is a list": _with('{"a": ["U8", [2], [0, 2]]}'),
    "an empty entry": with_header('{"a": {}}'),
    "an entry without dtype": _without("dtype"),
    "an entry without shape": _without("shape"),
    "an entry without offsets": _without("data_offsets"),
    "an unknown dtype": _one(dtype="F128"),
    "a dtype in small letters": _one(dtype="u8"),
    "a dtype with a space": _one(dtype="U8 "),
    "an empty dtype": _one(dtype=""),
    "a dtype of PyTorch": _one(dtype="uint8"),
    "a dtype that is null": _one(dtype=None),
    "a dtype that is a number": _one(dtype=8),
    "a dtype that is a list": _one(dtype=["U8"]),
    "a dtype that is an object": _one(dtype={"U8": None}),
    "a shape that is a number": _shape("2"),
    "a shape that is null": _shape("null"),
    "a shape that is a text": _one(shape="2"),
    "a shape that is an object": _shape("{}"),
    "a shape with a float": _one(shape=[2.0]),
    "a shape with a text": _one(shape=["2"]),
    "a shape with a truth": _one(shape=[True, 2]),
    "a shape with null": _one(shape=[None]),
    "a shape with a list": _one(shape=[[2]]),
    "a shape with an exponent": _shape("[2e0]"),
    "a negative size": _one(shape=[-2]),
    "two negative sizes": _one(shape=[-1, -2]),
    "a size of 2**64": _one(shape=[2**64]),
    "a size of 2**64 and one of zero": _one(shape=[2**64, 0], offsets=[0, 0]),
    "a product of 2**64": _one(shape=[2**32, 2**32]),
    "a product of 2**64 before a zero": _one(shape=[2**32, 2**32, 0], offsets=[0, 0]),
    "bits beyond 2**64": _one(dtype="F64", shape=[2**60]),
    "a product that wraps round to two": _one(shape=[2**63 + 1, 2]),
    "a shape that is too large for its bytes": _one(shape=[3]),
    "a shape that is too small for its bytes": _one(shape=[1]),
    "a scalar with two bytes": _one(shape=[]),
    "an empty tensor with two bytes": _one(shape=[0]),
    "a hundred thousand sizes": _one(shape=[2] * 100_000),
    "half a byte": _one(dtype="F4", shape=[3]),
    "three quarters of a byte": _one(dtype="F6_E2M3", shape=[1]),
    # Offsets.
    "no offsets": _one(offsets=[]),
    "one offset": _one(offsets=[0]),
    "three offsets": _one(offsets=[0, 1, 2]),
    "offsets that are null": _offsets("null"),
    "offsets that are an object": _offsets('{"0": 2}'),
    "offsets that are texts": _one(offsets=["0", "2"]),
    "offsets that are floats": _one(offsets=[0.0, 2.0]),
    "offsets that are truths": _one(shape=[1], offsets=[False, True]),
    "a negative offset": _one(offsets=[-2, 0]),
    "an end before the beginning": _one(offsets=[2, 0]),
    "an end beyond 64 bits": _one(offsets=[0, 2**64]),
    "an end beyond the file": _one(shape=[3], offsets=[0, 3]),
    "an end of 2**63": _one(shape=[2**63], offsets=[0, 2**63]),
    "a hole before the first tensor": file_of({"a": entry(offsets=(1, 3))}, bytes(3)),
    "a hole between two tensors": _two((0, 2), (3, 5), 5),
    "two tensors that overlap": _two((0, 3), (2, 5), 5),
    "two tensors in one place": _two((0, 2), (0, 2), 2),
    "a tensor within another": _two((0, 5), (1, 3), 5),
    "an empty tensor after a hole": _two((0, 2), (3, 3), 3),
    "bytes after the last tensor": file_of({"a": entry()}, bytes(3)),
    "bytes without a tensor": with_header("{}", b"x"),
    "a zip file after the last tensor": file_of({"a": entry()}, TWO + b"PK\3\4" + bytes(26)),
    "data cut short": file_of({"a": entry()}, b"\1"),
    "no data": file_of({"a": entry()}, b""),
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94",
    "a zip file": b"PK\3\4" + bytes(60),
    "a web page": b"<!DOCTYPE html><html><body>404</body></html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "a GGUF file": b"GGUF\3\0\0\0" + bytes(40),
}
"""What is wrong, and a file with it."""

STRICTER = {
    "a leading space", "a leading newline", "a tensor twice", "a tensor twice, once escaped",
    "a name in the metadata twice", "an entry that is a list", "a dtype that is an object",
}  # fmt: skip
"""What the official reader accepts and we do not."""
