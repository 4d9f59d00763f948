"""Strategic merge patch: a merge patch that knows which lists merge, and by which key.

Directives are ``$patch`` (``replace``, ``delete``, ``merge``), ``$retainKeys``, ``$setElementOrder/<list>`` and
``$deleteFromPrimitiveList/<list>``; ``kubectl apply`` sends all of them.
"""

from cachefs.testing.kubernetes.documents import Document, Json
from cachefs.testing.kubernetes.failures import bad_request
from cachefs.testing.kubernetes.shapes import Shape

_ORDER = "$setElementOrder/"
_LESS = "$deleteFromPrimitiveList/"


def strategic_merge(document: Document, patch: Document, shape: Shape) -> Document:
    """Return an object with a patch.

    Raises:
        Refusal: an item of a patched list lacks the key that tells items apart.
    """
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    if directive == "delete":
        return {}
    merged = _lessened(document, patch)
    for name, value in patch.items():
        if name.startswith("$"):
            continue
        if value is None:
            merged.pop(name, None)
            continue
        merged[name] = _value(merged.get(name), value, shape.field(name))
        if isinstance(value, dict) and value.get("$patch") == "delete":
            del merged[name]
    for name, value in patch.items():
        if name.startswith(_ORDER) and name.removeprefix(_ORDER) in merged:
            listed = name.removeprefix(_ORDER)
            key = shape.field(listed).merge_key
            merged[listed] = _ordered(merged[listed], value, key, document.get(listed) or [])
    return merged


def _lessened(document: Document, patch: Document) -> Document:
    """Return an object without what the directives of a patch take away."""
    kept = patch.get("$retainKeys")
    lessened = {name: value for name, value in document.items() if kept is None or name in kept}
    for name, value in patch.items():
        if name.startswith(_LESS):
            less = name.removeprefix(_LESS)
            lessened[less] = [item for item in lessened.get(less) or () if item not in value]
    return lessened


def _value(old: Json, new: Json, shape: Shape) -> Json:
    if isinstance(new, dict):
        if "replace" in shape.strategies:
            return new
        return strategic_merge(old if isinstance(old, dict) else {}, new, shape)
    if isinstance(new, list) and "merge" in shape.strategies:
        present = old if isinstance(old, list) else []
        if shape.merge_key:
            return _items(present, new, shape)
        merged = [*present, *(item for item in new if item not in present)]
        return _ordered(merged, new, "", present)
    return new


def _items(old: list[Document], new: list[Document], shape: Shape) -> list[Document]:
    key = shape.merge_key
    if any(item == {"$patch": "replace"} for item in new):
        return [item for item in new if item != {"$patch": "replace"}]
    merged = list(old)
    for item in new:
        if not isinstance(item, dict) or key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        places = [i for i, one in enumerate(merged) if one.get(key) == item[key]]
        if item.get("$patch") == "delete":
            merged = [one for one in merged if one.get(key) != item[key]]
        elif places and item.get("$patch") != "replace":
            merged[places[0]] = strategic_merge(merged[places[0]], item, shape.items)
        else:
            fresh = {name: value for name, value in item.items() if name != "$patch"}
            merged = [one for one in merged if one.get(key) != item[key]]
            merged.append(strategic_merge({}, fresh, shape.items))
    return _ordered(merged, new, key, old)


def _ordered(items: list[Json], order: list[Json], key: str, before: list[Json]) -> list[Json]:
    """Put items into the order of a patch; those that it does not name keep their places among them.

    Both keep their own order. One that the patch does not name comes before the first that stood behind it.
    """

    def identity(item: Json) -> Json:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = [identity(item) for item in order]
    stood = [identity(item) for item in before]
    named = sorted(
        (item for item in items if identity(item) in wanted),
        key=lambda item: wanted.index(identity(item)),
    )
    others = sorted(
        (item for item in items if identity(item) not in wanted),
        key=lambda item: stood.index(identity(item)) if identity(item) in stood else len(stood),
    )
    merged: list[Json] = []
    for item in named:
        here = identity(item)
        while others and here in stood and identity(others[0]) in stood:
            if stood.index(identity(others[0])) > stood.index(here):
                break
            merged.append(others.pop(0))
        merged.append(item)
    return [*merged, *others]
