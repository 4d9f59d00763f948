"""Templates: ``${…}`` within texts.

A text that is one template and nothing else has the template's value, whatever its type: so a list stays
a list in ``foreach: {zone: "${params.zones}"}``. Within other text, numbers, texts and truth values are
written out, and anything else is an error. ``$${`` stands for a plain ``${``; a ``$`` before anything else
is just that.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cachefs.dataflow.spec.expressions import Expression, parse_within
from cachefs.dataflow.spec.functions import bounded, text_of
from cachefs.dataflow.spec.lexer import ExpressionError
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.spec.problems import Path

RENDERED_LENGTH_MAX = 4 * 1024 * 1024
"""Characters of all texts of one value, rendered."""


@dataclass(frozen=True, slots=True)
class Template:
    """A text taken apart."""

    parts: tuple[str | tuple[int, Expression], ...]
    """Plain text, and expressions with where their text begins. Their nodes' offsets are of the whole."""

    @property
    def plain(self) -> bool:
        """Whether there is no expression in it."""
        return all(isinstance(part, str) for part in self.parts)

    def expressions(self) -> Iterator[Expression]:
        """Yield its expressions."""
        for part in self.parts:
            if not isinstance(part, str):
                yield part[1]

    def render(self, names: Mapping[str, Value]) -> Value:
        """Return what it stands for.

        Raises:
            ExpressionError: An expression has no value, or one that cannot be put into a text.
        """
        if len(self.parts) == 1 and not isinstance(self.parts[0], str):
            return self.parts[0][1].evaluate(names)
        texts = []
        for part in self.parts:
            if isinstance(part, str):
                texts.append(part)
                continue
            begin, expression = part
            try:
                texts.append(text_of(expression.evaluate(names)))
            except ExpressionError:
                raise
            except ValueError as error:
                hint = "let it be the whole text, or use text(), join()"
                raise ExpressionError(str(error), begin, hint) from error
        try:
            return bounded("".join(texts))
        except OverflowError as error:
            raise ExpressionError(str(error), 0) from error


def has_template(value: Value) -> bool:
    """Say whether there is a template in a text, or anywhere in a list or mapping."""
    if isinstance(value, str):
        return "${" in value
    if isinstance(value, Mapping):
        return any(has_template(item) for item in value.values())
    return isinstance(value, list) and any(has_template(item) for item in value)


def parse_template(text: str) -> Template:
    """Take a text apart.

    Raises:
        ExpressionError: An expression in it is not one, or has no end.
    """
    parts: list[str | tuple[int, Expression]] = []
    plain, at = "", 0
    while (begin := text.find("${", at)) >= 0:
        if begin > at and text[begin - 1] == "$":
            plain += text[at : begin - 1] + "${"
            at = begin + 2
            continue
        plain += text[at:begin]
        if text.startswith("${{", begin):
            raise ExpressionError("${{", begin, "one brace is enough: ${…}")
        expression, end = parse_within(text, begin + 2, closing="}")
        parts.extend([plain] if plain else [])
        parts.append((begin, expression))
        plain, at = "", end + 1
    plain += text[at:]
    parts.extend([plain] if plain or not parts else [])
    return Template(tuple(parts))


def texts(value: Value, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield every text that holds a template, with its path."""
    if isinstance(value, str):
        if "${" in value:
            yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts(item, (*path, index))


def render(value: Value, names: Mapping[str, Value]) -> Value:
    """Return a value with all its templates rendered.

    Raises:
        ExpressionError: One of them cannot be; the message begins with its path.
    """
    return _Renderer(names).render(value, "")


class _Renderer:
    def __init__(self, names: Mapping[str, Value]) -> None:
        self._names = names
        self._length = 0

    def render(self, value: Value, where: str) -> Value:
        if isinstance(value, str):
            return self._text(value, where)
        if isinstance(value, Mapping):
            return {key: self.render(item, f"{where}.{key}") for key, item in value.items()}
        if isinstance(value, list):
            return [self.render(item, f"{where}[{index}]") for index, item in enumerate(value)]
        return value

    def _text(self, text: str, where: str) -> Value:
        if "${" not in text:
            return text
        try:
            rendered = parse_template(text).render(self._names)
            self._count(rendered)
        except ExpressionError as error:
            prefix = f"{where.lstrip('.')}: " if where else ""
            raise ExpressionError(f"{prefix}{error.message}", error.offset, error.hint) from error
        return rendered

    def _count(self, rendered: Value) -> None:
        self._length += _weight(rendered)
        if self._length > RENDERED_LENGTH_MAX:
            raise ExpressionError("too long when rendered", 0)


def _weight(value: Value) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(1 + _weight(item) for item in value.values())
    if isinstance(value, list):
        return sum(1 + _weight(item) for item in value)
    return 1
