"""Server-side apply, and the record of who owns which field.

Whoever applies says all that it wants of an object. What others own with another value is a conflict (unless
forced: then they lose it); what it applied before, wants no more, and nobody else owns is removed. Whoever updates
or patches takes over what it changes, without conflicts. Entries are kept per manager, operation, version and
subresource, as in Kubernetes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from cachefs.testing.kubernetes.documents import Document, Json, meta
from cachefs.testing.kubernetes.failures import Refusal
from cachefs.testing.kubernetes.owned import (
    Path,
    differences,
    element,
    from_fields,
    in_words,
    leaves,
    ownable,
    places,
    shape_at,
    to_fields,
    without,
)
from cachefs.testing.kubernetes.shapes import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """One entry of ``managedFields``."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str = field(default="", compare=False)
    paths: frozenset[Path] = field(default=frozenset(), compare=False)

    def document(self) -> Document:
        """Return it as it is stored."""
        found: Document = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": to_fields(self.paths),
        }
        return {**found, **({"subresource": self.subresource} if self.subresource else {})}


def owners_of(document: Document) -> list[Owner]:
    """Return the entries of an object."""
    return [
        Owner(
            manager=entry.get("manager", ""),
            operation=entry.get("operation", ""),
            api_version=entry.get("apiVersion", ""),
            subresource=entry.get("subresource", ""),
            time=entry.get("time", ""),
            paths=frozenset(from_fields(entry.get("fieldsV1") or {})),
        )
        for entry in (document.get("metadata") or {}).get("managedFields") or ()
        if entry
    ]


def _record(document: Document, owners: Iterable[Owner]) -> Document:
    entries = [owner.document() for owner in owners if owner.paths]
    metadata = {
        name: value for name, value in document["metadata"].items() if name != "managedFields"
    }
    return {**document, "metadata": {**metadata, **({"managedFields": entries} if entries else {})}}


def note_update(
    before: Document, after: Document, by: Owner, shape: Shape, *, has_status: bool
) -> Document:
    """Return an updated object with its managed fields: what was changed belongs to who changed it."""
    old = ownable(before, subresource=by.subresource, has_status=has_status)
    new = ownable(after, subresource=by.subresource, has_status=has_status)
    changed, removed = differences(old, new, shape)
    reset = meta(after).get("managedFields") == [{}] and bool(before)
    owners = [] if reset else owners_of(before)
    settled: list[Owner] = []
    own = next((owner for owner in owners if owner == by), by)
    for owner in owners:
        if owner != by:
            settled.append(replace(owner, paths=owner.paths - changed - removed))
        else:
            settled.append(_grown(own, changed, removed, by.time))
    if own is by:
        settled.append(_grown(own, changed, removed, by.time))
    return _record(after, settled)


def _grown(owner: Owner, changed: frozenset[Path], removed: frozenset[Path], time: str) -> Owner:
    paths = (owner.paths - removed) | changed
    return replace(owner, paths=paths, time=time if paths != owner.paths else owner.time)


def apply(
    live: Document, applied: Document, by: Owner, shape: Shape, *, force: bool, has_status: bool
) -> Document:
    """Return a live object (empty for none) after an apply, with its managed fields.

    Raises:
        Refusal: 409, others own fields with other values and nobody forces.
    """
    wanted = _without_nulls(ownable(applied, subresource=by.subresource, has_status=has_status))
    present = ownable(live, subresource=by.subresource, has_status=has_status)
    merged = merge(present, wanted, shape)
    changed, _ = differences(present, merged, shape)
    owners = owners_of(live) or _unknown_owners(present, by, shape)
    conflicts = [(owner, owner.paths & changed) for owner in owners if owner != by]
    conflicts = [(owner, paths) for owner, paths in conflicts if paths]
    if conflicts and not force:
        raise _conflict(conflicts)
    others = [replace(owner, paths=owner.paths - changed) for owner in owners if owner != by]
    before = next((owner for owner in owners if owner == by), None)
    paths = frozenset(leaves(wanted, shape))
    gone = _given_up(before.paths if before else frozenset(), paths, others, shape)
    kept = without(merged, gone, shape) if gone else merged
    settled = replace(by, paths=paths)
    if before is not None and before.paths == paths:
        settled = replace(settled, time=before.time)
    present_paths = frozenset(places(kept, shape))
    others = [replace(owner, paths=_still(owner, by, present_paths)) for owner in others]
    return _record(_rebuilt(live, applied, kept, by), [*others, settled])


def _unknown_owners(present: Document, by: Owner, shape: Shape) -> list[Owner]:
    """Return who owns what was there before anybody's fields were recorded."""
    paths = frozenset(places(present, shape))
    name = "before-first-apply"
    owner = Owner(manager=name, operation="Update", api_version=by.api_version, subresource="")
    return [replace(owner, time=by.time, paths=paths)] if paths else []


def _still(owner: Owner, by: Owner, present: frozenset[Path]) -> frozenset[Path]:
    """Return what an owner still owns: of the part that was applied, only what is left of it."""
    if owner.subresource != by.subresource:
        return owner.paths
    return owner.paths & present


def _rebuilt(live: Document, applied: Document, kept: Document, by: Owner) -> Document:
    head = {"apiVersion": applied["apiVersion"], "kind": applied["kind"]}
    if by.subresource == "status":
        return {**live, **head, **kept}
    old = live.get("metadata") or applied["metadata"]
    fixed = {
        name: value
        for name, value in old.items()
        if name not in ("labels", "annotations", "finalizers", "ownerReferences")
    }
    metadata = {**fixed, **kept.get("metadata", {})}
    rest = {name: value for name, value in kept.items() if name != "metadata"}
    status = {"status": live["status"]} if "status" in live and "status" not in rest else {}
    return {**head, "metadata": metadata, **rest, **status}


def _given_up(
    before: frozenset[Path], after: frozenset[Path], others: Sequence[Owner], shape: Shape
) -> set[Path]:
    """Return what a manager applied before, does not any more, and nobody owns in whole or in part.

    With a field goes the object that it is in, and so on outwards, as far as nobody owns anything there.
    """
    held: set[Path] = set()
    for paths in (after, *(owner.paths for owner in others)):
        for path in paths:
            held.add(path)
            held.update(_outer_fields(path, shape))
    gone = {path for path in before if path not in held}
    for path in list(gone):
        gone.update(outer for outer in _outer_fields(path, shape) if outer not in held)
    return gone


def _outer_fields(path: Path, shape: Shape) -> Iterator[Path]:
    """Go through the fields around a path that the schema names; a map's key and a list's item are none."""
    for length in range(1, len(path)):
        if path[length - 1][2:] in shape_at(shape, path[: length - 1]).properties:
            yield path[:length]


def merge(live: Json, wanted: Json, shape: Shape) -> Json:
    """Return a live value with an applied one merged into it."""
    if isinstance(wanted, dict) and isinstance(live, dict) and not shape.is_atomic_map:
        return {
            **live,
            **{
                name: merge(live.get(name), value, shape.field(name))
                for name, value in wanted.items()
            },
        }
    if isinstance(wanted, list) and isinstance(live, list) and shape.list_type != "atomic":
        return _merge_lists(live, wanted, shape)
    return wanted


def _merge_lists(live: list[Json], wanted: list[Json], shape: Shape) -> list[Json]:
    """Merge by identity: what is applied comes in its order, what others added stays where it stood before it."""
    there = {element(item, shape): item for item in live}
    wishes = {element(item, shape): item for item in wanted}
    names, order = list(there), list(wishes)
    merged: list[Json] = []
    placed: set[str] = set()
    at = 0
    for index, name in enumerate(order):
        shared = next((each for each in order[index:] if each in there), None)
        while at < len(names) and name != names[at]:
            if names[at] not in wishes:
                merged.append(there[names[at]])
            elif names[at] == shared and names[at] not in placed:
                break  # it comes later, and what stands behind it with it
            at += 1
        at += at < len(names) and name == names[at]
        placed.add(name)
        item = wishes[name]
        merged.append(merge(there[name], item, shape.items) if name in there else item)
    merged.extend(there[name] for name in names[at:] if name not in wishes)
    return merged


def _without_nulls(document: Json) -> Json:
    if isinstance(document, dict):
        return {
            name: _without_nulls(value) for name, value in document.items() if value is not None
        }
    return document


def _conflict(conflicts: Sequence[tuple[Owner, frozenset[Path]]]) -> Refusal:
    causes: list[Document] = []
    for owner, paths in conflicts:
        who = f'conflict with "{owner.manager}"'
        who += f' with subresource "{owner.subresource}"' if owner.subresource else ""
        who += f" using {owner.api_version}" if owner.operation == "Update" else ""
        causes.extend(
            {"reason": "FieldManagerConflict", "message": who, "field": in_words(path)}
            for path in sorted(paths)
        )
    said = ", ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
    word = "conflict" if len(causes) == 1 else "conflicts"
    message = f"Apply failed with {len(causes)} {word}: {said}"
    return Refusal(409, "Conflict", message, details={"causes": causes})
