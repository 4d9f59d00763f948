"""Writing: a document with conditions and symbols, as the text of a template.

What is written is YAML line by line, and lines of conditions between them, which take the line break before
them along: ``{{- if .Values.csi.enabled }}`` … ``{{- end }}``. So whatever is left out leaves no trace.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from cachefs.k8s.chart.folding import Absent, Choice, Entries, Entry, Folded, Leaf, Node
from cachefs.k8s.chart.symbols import Symbols

_BARE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)*")
"""Texts that are a text in YAML without quotes, but for those that mean something else."""
_NOT_BARE = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
"""What YAML 1.1 reads as something else."""


def template(document: Folded, symbols: Symbols) -> str:
    """Return a document's text; none, where it is not there."""
    return "\n".join(_Writer(symbols).document(document.node)) + "\n"


class _Writer:
    """Writes nodes as lines."""

    def __init__(self, symbols: Symbols) -> None:
        self._symbols = symbols

    def document(self, node: Node) -> Iterator[str]:
        if isinstance(node, Choice):
            yield from self._choice(node, self.document)
        elif not isinstance(node, Absent):
            yield "---"
            yield from self._block(node, 0)

    def _block(self, node: Node, depth: int) -> Iterator[str]:
        """Yield the lines of a mapping or a list at a depth of indentation."""
        if not isinstance(node, Entries):
            msg = "a document is a mapping"
            raise TypeError(msg)
        for entry in node.entries:
            yield from self._guarded(entry, entry.guards, depth, is_list=node.is_list)

    def _guarded(
        self, entry: Entry, guards: tuple[tuple[str, bool], ...], depth: int, *, is_list: bool
    ) -> Iterator[str]:
        if guards:
            (switch, is_on), *rest = guards
            condition = self._symbols.condition(switch)
            yield f"{{{{- if {condition if is_on else f'not {condition}'} }}}}"
            yield from self._guarded(entry, tuple(rest), depth, is_list=is_list)
            yield "{{- end }}"
        elif is_list:
            yield from self._item(entry.node, depth)
        else:
            yield from self._field(entry.key, entry.node, depth)

    def _field(self, key: str, node: Node, depth: int) -> Iterator[str]:
        if isinstance(node, Choice):
            yield from self._choice(node, lambda inner: self._field(key, inner, depth))
            return
        head = f"{'  ' * depth}{self._text(key)}:"
        whole = self._whole(node)
        if whole is not None:
            yield f"{head} {{{{- toYaml {whole} | nindent {2 * depth + 2} }}}}"
        elif isinstance(node, Leaf):
            first, *rest = self._scalar(node.value)
            yield f"{head} {first}"
            yield from (f"{'  ' * (depth + 1)}{line}" if line else "" for line in rest)
        else:
            yield head
            yield from self._block(node, depth + 1)

    def _item(self, node: Node, depth: int) -> Iterator[str]:
        pad = "  " * depth
        if isinstance(node, Choice):
            yield from self._choice(node, lambda inner: self._item(inner, depth))
        elif isinstance(node, Leaf):
            (only,) = self._scalar(node.value)
            yield f"{pad}- {only}"
        else:
            lines = list(self._block(node, depth + 1))
            if lines[0].startswith("{{"):
                yield f"{pad}-"
                yield from lines
            else:
                yield f"{pad}- {lines[0].lstrip()}"
                yield from lines[1:]

    def _choice(self, node: Choice, write: Any) -> Iterator[str]:  # Any: one of the above
        condition = self._symbols.condition(node.switch)
        on, off = list(write(node.on)), list(write(node.off))
        yield f"{{{{- if {condition if on else f'not {condition}'} }}}}"
        yield from on or off
        if on and off:
            yield "{{- else }}"
            yield from off
        yield "{{- end }}"

    def _whole(self, node: Node) -> str | None:
        """Return the expression for a list or a mapping that is a symbol as a whole."""
        if not isinstance(node, Entries) or len(node.entries) != 1:
            return None
        (entry,) = node.entries
        if node.is_list and isinstance(entry.node, Entries):
            return self._whole(entry.node)
        if node.is_list and isinstance(entry.node, Leaf):
            return self._symbols.collection(entry.node.value)
        return self._symbols.collection(entry.key) if not node.is_list else None

    def _scalar(self, value: Any) -> list[str]:  # Any: what YAML can say
        """Return a value's lines; the first goes behind its key."""
        if isinstance(value, str):
            if "\n" in value:
                mark = "|" if value.endswith("\n") else "|-"
                return [
                    mark,
                    *(self._filled(line) for line in value.removesuffix("\n").split("\n")),
                ]
            return [self._text(value)]
        if isinstance(value, int) and not isinstance(value, bool):
            text = str(value)
            if self._symbols.pattern.fullmatch(text):
                return [f"{{{{ int64 {self._symbols.expression(text)} }}}}"]
        return [json.dumps(list(value) if isinstance(value, tuple) else value)]

    def _text(self, text: str) -> str:
        if self._symbols.pattern.fullmatch(text):
            return f"{{{{ {self._symbols.expression(text)} | quote }}}}"
        is_bare = _BARE.fullmatch(text) and text.lower() not in _NOT_BARE
        if is_bare and not self._symbols.pattern.search(text):
            return text
        return self._filled(json.dumps(text, ensure_ascii=False))

    def _filled(self, text: str) -> str:
        """Return a text with expressions for its symbols; what looks like an expression is none."""
        escaped = text.replace("{{", '{{ "{{" }}')
        return self._symbols.pattern.sub(
            lambda match: f"{{{{ {self._symbols.expression(match[0])} }}}}", escaped
        )
