"""Folding: many documents that differ by switches become one, with conditions where they differ.

:func:`fold` makes the documents for each combination of the switches that matter to one of them, and merges
what one switch makes of it, from the last switch to the first. Where both sides are mappings, or lists, what
they share stays, and what only one of them has is guarded; where they are nothing alike, there is a choice.
Nothing is approximated: for each combination, what is left after its conditions is the document it began with.

Whether a switch matters to a document is looked for with every other switch off, on, and with one of them
the other way; a test compares charts and documents beyond that.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

Document = Mapping[str, Any]
Guards = tuple[tuple[str, bool], ...]
Make = Callable[[Mapping[str, bool]], Sequence[Document]]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value without parts, or an empty mapping or list."""

    value: Any  # what YAML can say


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing or another."""

    switch: str
    on: "Node"
    off: "Node"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a mapping, or of a list; there only where its guards hold."""

    guards: Guards
    key: str
    """Of a list's entry: what it is called, so that it is known again."""
    node: "Node"


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping or a list. At least one entry has no guards, or it would be nothing when none holds."""

    is_list: bool
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """No document at all."""


Node = Leaf | Choice | Entries | Absent


@dataclass(frozen=True, slots=True)
class Folded:
    """A document with its conditions."""

    kind: str
    component: str
    node: Node


def fold(make: Make, switches: Sequence[str]) -> list[Folded]:
    """Return the documents that are made for any combination of switches, each once.

    Args:
        make: Makes the documents for some switches that are on and others that are off.
        switches: All of them.
    """
    cache: dict[frozenset[str], dict[str, Document]] = {}

    def made(on: frozenset[str]) -> dict[str, Document]:
        if on not in cache:
            documents = make({switch: switch in on for switch in switches})
            cache[on] = {_key(document): document for document in documents}
        return cache[on]

    every = frozenset(switches)
    one_off = [every - {switch} for switch in switches]
    contexts = [every, *one_off, frozenset[str](), *(frozenset({one}) for one in switches)]
    keys = dict.fromkeys(key for context in contexts for key in made(context))
    matter: dict[str, set[str]] = {key: set() for key in keys}
    for context in contexts:
        here = made(context)
        for switch in switches:
            there = made(context ^ {switch})
            for key in keys:
                if here.get(key) != there.get(key):
                    matter[key].add(switch)
    found = []
    for key in keys:
        document = next(made(context)[key] for context in contexts if key in made(context))
        component = document["metadata"].get("labels", {}).get("app.kubernetes.io/component", "")
        ours = [switch for switch in switches if switch in matter[key]]
        node = _fold(key, made, ours, every - set(ours))
        found.append(Folded(document["kind"], component.removeprefix("cachefs-"), node))
    return found


def _key(document: Document) -> str:
    metadata = document["metadata"]
    return json.dumps([document["kind"], metadata.get("namespace"), metadata["name"]])


def _fold(
    key: str,
    made: Callable[[frozenset[str]], Mapping[str, Document]],
    switches: Sequence[str],
    on: frozenset[str],
) -> Node:
    """Return a document, folded over switches, with others as they are."""
    if not switches:
        document = made(on).get(key)
        return Absent() if document is None else _node(document)
    first, *rest = switches
    return _merged(first, _fold(key, made, rest, on | {first}), _fold(key, made, rest, on))


def _node(value: object) -> Node:
    if isinstance(value, Mapping) and value:
        entries = (Entry((), str(key), _node(inner)) for key, inner in value.items())
        return Entries(is_list=False, entries=tuple(entries))
    if isinstance(value, list | tuple) and value:
        entries = (Entry((), _name(inner), _node(inner)) for inner in value)
        return Entries(is_list=True, entries=tuple(entries))
    return Leaf(value)


def _name(value: object) -> str:
    """Return what a list's entry is called: as it says first, or else by what it is."""
    if isinstance(value, Mapping):
        said = value.get("name", next(iter(value.values()), None))
        if isinstance(said, str):
            return said
    return json.dumps(value, sort_keys=True, default=list)


def _merged(switch: str, on: Node, off: Node) -> Node:
    if on == off:
        return on
    if isinstance(on, Choice) and isinstance(off, Choice) and on.switch == off.switch:
        # The same question on both sides is asked first: mostly, whether there is a document at all.
        inner = (_merged(switch, on.on, off.on), _merged(switch, on.off, off.off))
        return Choice(on.switch, *inner)
    if isinstance(on, Entries) and isinstance(off, Entries) and on.is_list == off.is_list:
        entries = tuple(_entries(switch, on, off))
        if any(not entry.guards for entry in entries):
            return Entries(is_list=on.is_list, entries=entries)
    return Choice(switch, on, off)


def _entries(switch: str, on: Entries, off: Entries) -> Iterator[Entry]:
    """Yield what both have, merged, and what one of them has, guarded; both keep their order."""
    left = [(entry.key, entry.guards) for entry in on.entries]
    right = [(entry.key, entry.guards) for entry in off.entries]
    if not on.is_list:
        # The order of a mapping means nothing: what they share need not be in the same.
        places = {name: at for at, name in enumerate(right)}
        for name, entry in zip(left, on.entries, strict=True):
            if name in places:
                other = off.entries[places[name]]
                yield Entry(entry.guards, entry.key, _merged(switch, entry.node, other.node))
            else:
                yield _guarded(entry, switch, is_on=True)
        missing = (
            entry for name, entry in zip(right, off.entries, strict=True) if name not in left
        )
        yield from (_guarded(entry, switch, is_on=False) for entry in missing)
        return
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    for what, begin, end, begin_off, end_off in matcher.get_opcodes():
        if what == "equal":
            for one, other in zip(
                on.entries[begin:end], off.entries[begin_off:end_off], strict=True
            ):
                yield Entry(one.guards, one.key, _merged(switch, one.node, other.node))
        else:
            yield from (_guarded(entry, switch, is_on=True) for entry in on.entries[begin:end])
            yield from (
                _guarded(entry, switch, is_on=False) for entry in off.entries[begin_off:end_off]
            )


def _guarded(entry: Entry, switch: str, *, is_on: bool) -> Entry:
    return Entry(((switch, is_on), *entry.guards), entry.key, entry.node)
