"""JSON patch (RFC 6902) and JSON merge patch (RFC 7396)."""

import copy
from typing import NoReturn

from cachefs.testing.kubernetes.documents import Json
from cachefs.testing.kubernetes.failures import Refusal, bad_request


def merge_patch(document: Json, patch: Json) -> Json:
    """Return a document with a merge patch: objects are merged, ``null`` removes, the rest replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def json_patch(document: Json, operations: Json) -> Json:
    """Return a document after a list of operations, all or none of them.

    Raises:
        Refusal: 400 for what is no patch, 422 for one that does not fit the document.
    """
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: json: cannot unmarshal object into a JSON patch")
    document = copy.deepcopy(document)
    for operation in operations:
        document = _carry_out(document, operation)
    return document


def _carry_out(document: Json, operation: Json) -> Json:
    name = operation.get("op")
    path = _pointer(operation.get("path"))
    if name == "test":
        if _read(document, path) != operation.get("value"):
            _fail(f"testing value {operation['path']} failed: test failed")
    elif name == "add":
        return _add(document, path, operation.get("value"))
    elif name == "remove":
        return _remove(document, path)
    elif name == "replace":
        _read(document, path)
        return _add(_remove(document, path) if path else None, path, operation.get("value"))
    elif name in ("move", "copy"):
        source = _pointer(operation.get("from"))
        value = copy.deepcopy(_read(document, source))
        return _add(_remove(document, source) if name == "move" else document, path, value)
    else:
        raise bad_request(f"error decoding patch: unexpected operation {name!r}")
    return document


def _pointer(text: Json) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise bad_request(f"error decoding patch: no pointer: {text!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _fail(message: str) -> NoReturn:
    raise Refusal(422, "Invalid", message)


def _index(holder: list[Json], name: str, *, adding: bool = False) -> int:
    if adding and name == "-":
        return len(holder)
    index = int(name) if name.isdecimal() else -1
    if not 0 <= index < len(holder) + adding:
        _fail(f"jsonpatch: index {name} out of bounds")
    return index


def _read(document: Json, path: list[str]) -> Json:
    for name in path:
        if isinstance(document, list):
            document = document[_index(document, name)]
        elif isinstance(document, dict) and name in document:
            document = document[name]
        else:
            _fail(f"the path /{'/'.join(path)} is missing: key not found")
    return document


def _add(document: Json, path: list[str], value: Json) -> Json:
    if not path:
        return value
    holder = _read(document, path[:-1])
    if isinstance(holder, list):
        holder.insert(_index(holder, path[-1], adding=True), value)
    elif isinstance(holder, dict):
        holder[path[-1]] = value
    else:
        _fail(f"the path /{'/'.join(path)} does not lead into an object or a list")
    return document


def _remove(document: Json, path: list[str]) -> Json:
    _read(document, path)
    holder = _read(document, path[:-1])
    if isinstance(holder, list):
        holder.pop(_index(holder, path[-1]))
    else:
        del holder[path[-1]]
    return document
