"""Sets of fields, as ``managedFields`` records who owns what.

A field's path is a tuple of elements in the notation of FieldsV1: ``f:name`` for a field, ``k:{…}`` for the
item of a list that has these keys, ``v:…`` for a value of a set. A place that is owned as a whole (a scalar,
an atomic list, an empty object) is one path; an item of a list is one by itself, beside its fields.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Final

from cachefs.testing.kubernetes.documents import Document, Json
from cachefs.testing.kubernetes.shapes import Shape

Path = tuple[str, ...]
_PRESENT: Final = "."
_UNOWNED: Final = frozenset(
    [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "generation",
        "resourceVersion",
        "managedFields",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ]
)
"""Metadata that the server sets: nobody owns it."""


def ownable(document: Document, *, subresource: str, has_status: bool) -> Document:
    """Return the part of an object whose fields are owned by who writes it through a subresource."""
    if subresource == "status":
        return {"status": document["status"]} if "status" in document else {}
    dropped = {"apiVersion", "kind", "metadata", *(("status",) if has_status else ())}
    kept = {name: value for name, value in document.items() if name not in dropped}
    metadata = document.get("metadata") or {}
    own = {name: value for name, value in metadata.items() if name not in _UNOWNED}
    return {**kept, **({"metadata": own} if own else {})}


def leaves(document: Json, shape: Shape, path: Path = ()) -> dict[Path, Json]:
    """Return every path of a document that can be owned, with what is there."""
    if isinstance(document, dict) and document and not shape.is_atomic_map:
        found: dict[Path, Json] = {}
        for name, value in document.items():
            inside = (*path, f"f:{name}")
            if name not in shape.properties and shape.properties == {}:
                found[inside] = _PRESENT  # a map's key is owned by itself, a struct's field is not
            found.update(leaves(value, shape.field(name), inside))
        return found
    if isinstance(document, list) and document and shape.list_type != "atomic":
        found = {}
        for item in document:
            inside = (*path, element(item, shape))
            found[inside] = _PRESENT
            if shape.list_type == "map":
                found.update(leaves(item, shape.items, inside))
        return found
    if isinstance(document, list) and shape.list_type != "atomic":
        return {}  # an empty list with keys is nobody's
    return {path: document} if path else {}


def element(item: Json, shape: Shape) -> str:
    """Return how a path names an item of a list."""
    if shape.list_type == "set":
        return f"v:{_compact(item)}"
    keys = {key: item.get(key, shape.key_default(key)) for key in shape.list_keys}
    return f"k:{_compact({key: value for key, value in keys.items() if value is not None})}"


def places(document: Json, shape: Shape, path: Path = ()) -> dict[Path, Json]:
    """Return every path of a document: what can be owned, and the objects and lists around it."""
    found = leaves(document, shape, path)
    is_divided = (isinstance(document, dict) and not shape.is_atomic_map) or (
        isinstance(document, list) and shape.list_type != "atomic"
    )
    if not is_divided:
        return found
    if path not in ((), ("f:metadata",)):
        found[path] = _PRESENT  # empty or not: what is in it is another matter
    if isinstance(document, dict):
        for name, value in document.items():
            found.update(places(value, shape.field(name), (*path, f"f:{name}")))
    elif shape.list_type == "map":
        for item in document:
            found.update(places(item, shape.items, (*path, element(item, shape))))
    return found


def shape_at(shape: Shape, path: Path) -> Shape:
    """Return the shape of the place that a path leads to."""
    for name in path:
        shape = shape.field(name[2:]) if name.startswith("f:") else shape.items
    return shape


def differences(
    before: Document, after: Document, shape: Shape
) -> tuple[frozenset[Path], frozenset[Path]]:
    """Return the paths that an update has set (changed or added), and those it has removed."""
    old, new = places(before, shape), places(after, shape)
    changed = frozenset(
        path for path, value in new.items() if path not in old or old[path] != value
    )
    return changed, frozenset(old.keys() - new.keys())


def without(document: Json, paths: Iterable[Path], shape: Shape) -> Json:
    """Return a document without what is at some paths; a list that loses all its items goes, too."""
    heads: dict[str, list[Path]] = {}
    for path in filter(None, paths):
        heads.setdefault(path[0], []).append(path[1:])
    if isinstance(document, dict):
        inside = {name: heads.get(f"f:{name}", []) for name in document}
        kept = {
            name: without(value, inside[name], shape.field(name)) if inside[name] else value
            for name, value in document.items()
            if () not in inside[name]
        }
        return {name: left for name, left in kept.items() if left != [] or document[name] == []}
    if isinstance(document, list):
        named = [(item, heads.get(element(item, shape), [])) for item in document]
        return [
            without(item, rests, shape.items) if rests else item
            for item, rests in named
            if () not in rests
        ]
    return document


def to_fields(paths: Iterable[Path]) -> Document:
    """Return a set of paths as FieldsV1."""
    tree: Document = {}
    members: list[Document] = []
    for path in sorted(paths):
        node = tree
        for name in path:
            node = node.setdefault(name, {})
        members.append(node)
    for node in members:
        if node:
            node[_PRESENT] = {}
    return tree


def from_fields(tree: Document, path: Path = ()) -> Iterator[Path]:
    """Go through the paths of a FieldsV1."""
    if path and (not tree or _PRESENT in tree):
        yield path
    for name, inside in tree.items():
        if name != _PRESENT:
            yield from from_fields(inside, (*path, _normal(name)))


def in_words(path: Path) -> str:
    """Return a path as conflicts name it: ``.spec.containers[name="a"].image``."""
    said = ""
    for name in path:
        kind, _, text = name.partition(":")
        if kind == "f":
            said += f".{text}"
        elif kind == "k":
            keys = json.loads(text)
            said += "[" + ",".join(f"{key}={json.dumps(keys[key])}" for key in sorted(keys)) + "]"
        else:
            said += f"[={text}]"
    return said


def _normal(name: str) -> str:
    kind, colon, text = name.partition(":")
    return f"{kind}:{_compact(json.loads(text))}" if colon and kind in "kv" else name


def _compact(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
