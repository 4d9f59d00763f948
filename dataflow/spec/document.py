"""Documents: YAML text to plain values, with the place of each.

Of YAML, a flow needs what JSON has. So a document is one of YAML 1.2's core schema: ``true`` and
``false`` are truth values, and ``yes``, ``on``, ``12:30``, ``010`` and ``2024-01-01`` are text, where
YAML 1.1 would see a truth value, a number of seconds, an eight and a date. Aliases, tags, duplicate keys
and keys that are not text are refused; so are documents that are too large, too deep, or of too many
values. Events are read one by one, and reading ends with the first that is too many: no document takes
longer than a good one of the same length.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from cachefs.core.names import printable
from cachefs.dataflow.spec.model import Place, Value
from cachefs.dataflow.spec.problems import Fault, FlowDocumentError, Path, Problem, quoted

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
"""Of 10,000 steps with 400 bytes each."""
DEPTH_MAX = 32
VALUES_MAX = 300_000
"""Of 10,000 steps with some thirty values each."""
_INTEGER_MAX = 2**63

_NULL = ("", "~", "null", "Null", "NULL")
_TRUE = ("true", "True", "TRUE")
_FALSE = ("false", "False", "FALSE")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,30}\.[0-9]{0,30}|\.?[0-9]{1,30})(?:[eE][-+]?[0-9]{1,3})?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # Any: one of two unrelated classes


@dataclass(slots=True)
class Node:
    """A value with its place; of a mapping's keys the places too."""

    place: Place
    value: Value = None
    """Of a scalar; lists and mappings have items."""
    verbatim_column: int = 0
    """Of the first character of a text that stands in the file as it is; 0 if it does not."""
    items: "list[Node] | dict[str, Node] | None" = None
    key_places: dict[str, Place] = field(default_factory=dict)


class Document:
    """A document that was read: its value, and where each part of it stands."""

    def __init__(self, file: str, root: Node) -> None:
        """Hold what was read."""
        self.file = file
        self._root = root
        self.value: Value = _plain(root)

    def place(self, path: Path, *, at_key: bool = False, offset: int | None = None) -> Place:
        """Return where something stands; of what is missing, where it would have to stand."""
        node, place = self._root, self._root.place
        for index, key in enumerate(path):
            items = node.items
            if isinstance(items, dict) and isinstance(key, str) and key in items:
                if at_key and index == len(path) - 1:
                    return node.key_places[key]
                node = items[key]
            elif isinstance(items, list) and isinstance(key, int) and key < len(items):
                node = items[key]
            else:
                return place
            place = node.place
        if offset is not None and node.verbatim_column:
            return Place(place.line, node.verbatim_column + offset)
        return place

    def problem(self, fault: Fault) -> Problem:
        """Return a fault with its place."""
        place = self.place(fault.path, at_key=fault.at_key, offset=fault.offset)
        return Problem(
            self.file, place, self._shown(fault.path), fault.message, fault.hint, fault.secret
        )

    def _shown(self, path: Path) -> str:
        """Return a path for people; steps are called by their ids."""
        shown, value = "", self.value
        for index, key in enumerate(path):
            value = _item(value, key)
            if isinstance(key, str):
                shown += f".{key}" if shown else key
                continue
            name = value.get("id") if isinstance(value, Mapping) else None
            of_steps = path[index - 1] in ("steps", "finally")
            shown += f".{name}" if of_steps and isinstance(name, str) and name else f"[{key}]"
        return shown


def read_document(text: str, *, file: str) -> Document:
    """Read one document.

    Args:
        text: YAML, or JSON, which is a kind of it.
        file: Its name, for messages.

    Raises:
        FlowDocumentError: It is not one.
    """
    reader = _Reader(text, file)
    return Document(file, reader.read())


class _Reader:
    """Makes nodes of YAML's events."""

    def __init__(self, text: str, file: str) -> None:
        self._lines: list[str] = []
        self._text = text
        self._file = file
        self._count = 0
        self._problems: list[Problem] = []

    def read(self) -> Node:
        """Return the root; the stack holds what is open."""
        try:
            size = len(self._text.encode())
        except UnicodeEncodeError as error:
            raise self._fatal(Place(1, 1), "not Unicode text") from error
        if size > DOCUMENT_BYTES_MAX:
            raise self._fatal(Place(1, 1), f"more than {DOCUMENT_BYTES_MAX} bytes")
        self._lines = self._text.splitlines()
        try:
            root = self._compose(yaml.parse(self._text, _LOADER))
        except yaml.YAMLError as error:
            raise self._not_yaml(error) from error
        if self._problems:
            raise FlowDocumentError(self._problems)
        if root is None:
            raise self._fatal(Place(1, 1), "the document is empty")
        return root

    def _compose(self, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        # Of each open collection: it, and of a mapping the key whose value comes next.
        stack: list[tuple[Node, list[Node | None]]] = []
        for event in events:
            if isinstance(event, yaml.CollectionEndEvent):
                stack.pop()
                continue
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise self._fatal(
                    _place(event), "a second document", "write one file for each flow"
                )
            if not isinstance(event, yaml.NodeEvent):
                continue
            node = self._node(event)
            if not stack:
                root = node
            else:
                self._put(node, *stack[-1])
            if node.items is not None:
                if len(stack) >= DEPTH_MAX:
                    raise self._fatal(node.place, f"nested more than {DEPTH_MAX} deep")
                stack.append((node, [None]))
        return root

    def _node(self, event: Any) -> Node:  # Any: an event of PyYAML, which has no types for them
        place = _place(event)
        self._count += 1
        if self._count > VALUES_MAX:
            raise self._fatal(place, f"more than {VALUES_MAX} values")
        if isinstance(event, yaml.AliasEvent):
            hint = "write it out, or make it a parameter: ${params.NAME}"
            self._problem(place, f"an alias: *{event.anchor}", hint)
            return Node(place)
        if event.tag is not None and event.tag != "!":
            self._problem(place, f"a tag: {event.tag}", "put text in quotes instead")
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(place, items=[])
        if isinstance(event, yaml.MappingStartEvent):
            return Node(place, items={})
        plain = event.style in (None, "") and event.implicit[0]
        value = self._scalar(event.value, place) if plain else event.value
        return Node(place, value, self._verbatim(event, place))

    def _put(self, node: Node, parent: Node, key: list[Node | None]) -> None:
        if isinstance(parent.items, list):
            parent.items.append(node)
            return
        name, key[0] = key[0], (node if key[0] is None else None)
        if name is None:
            return
        items = parent.items
        if items is None or not isinstance(name.value, str):
            shown = "a list or a mapping" if name.items is not None else f"{name.value!r}"
            self._problem(name.place, f"a key that is not text: {shown}", "put it in quotes")
        elif name.value in items:
            first = parent.key_places[name.value].line
            self._problem(name.place, f"a second key {quoted(name.value)}", f"see line {first}")
        else:
            items[name.value] = node
            parent.key_places[name.value] = name.place

    def _scalar(self, text: str, place: Place) -> Value:
        """Return what a text without quotes stands for."""
        if text in _NULL:
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if _INTEGER.fullmatch(text):
            number = int(text)
            if abs(number) < _INTEGER_MAX:
                return number
        if _FLOAT.fullmatch(text) and not _LEADING_ZERO.fullmatch(text):
            value = float(text)
            if not math.isfinite(value) or ("." not in text and "e" not in text.lower()):
                self._problem(place, f"a number that is too large: {quoted(text)}")
            return value
        return text

    def _verbatim(self, event: Any, place: Place) -> int:  # Any: an event of PyYAML
        """Return the column at which a scalar's text begins, if it stands there as it is."""
        line, value = event.start_mark.line, event.value
        if line >= len(self._lines):
            return 0
        at = place.column - 1 + (event.style in ("'", '"'))
        return at + 1 if self._lines[line][at : at + len(value)] == value else 0

    def _not_yaml(self, error: yaml.YAMLError) -> FlowDocumentError:
        mark = getattr(error, "problem_mark", None)
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None)
        character = getattr(error, "character", None)
        if reason == "control characters are not allowed" or isinstance(character, int):
            position = min(getattr(error, "position", 0) or 0, len(self._text))
            before = self._text[:position]
            place = Place(before.count("\n") + 1, position - before.rfind("\n"))
        text = printable(str(reason or "it cannot be read"))
        return self._fatal(place, f"not YAML: {text}", self._hint(error, text))

    def _hint(self, error: yaml.YAMLError, reason: str) -> str:
        if "that cannot start any token" in reason:
            return "indent with spaces, and put text with special characters in quotes"
        context, mark = getattr(error, "context", None), getattr(error, "context_mark", None)
        return f"{printable(str(context))} that begins in line {mark.line + 1}" if mark else ""

    def _problem(self, place: Place, message: str, hint: str = "") -> None:
        if len(self._problems) < 1000:
            self._problems.append(Problem(self._file, place, "", message, hint))

    def _fatal(self, place: Place, message: str, hint: str = "") -> FlowDocumentError:
        problem = Problem(self._file, place, "", message, hint)
        return FlowDocumentError([*self._problems, problem])


def _place(event: Any) -> Place:  # Any: an event of PyYAML
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _plain(node: Node) -> Value:
    if isinstance(node.items, dict):
        return {key: _plain(item) for key, item in node.items.items()}
    if isinstance(node.items, list):
        return [_plain(item) for item in node.items]
    return node.value


def _item(value: Value, key: str | int) -> Value:
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return value[key]
    return None
