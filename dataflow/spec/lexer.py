"""Tokens of expressions. Each knows its column, so that each message can.

A number may have a unit, and is then bytes or seconds: ``10GiB``, ``20m``. After a dot, a ``-`` that has a
letter or digit on both sides belongs to the name (``steps.scale-out.state``), because ids of steps are
written so; to subtract, one leaves a space.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cachefs.dataflow.spec import units
from cachefs.dataflow.spec.model import Value
from cachefs.errors import ConfigError

LENGTH_MAX = 4096
TokenKind = Literal["name", "literal", "operator", "end"]

_SPACE = re.compile(r"[ \t\r\n]+")
_NUMBER = re.compile(r"(?:\d{1,18}(?:\.\d{1,18})?)(?:[eE][-+]?\d{1,3}(?![A-Za-z0-9]))?", re.ASCII)
_QUANTITY = re.compile(r"(?:\d+(?:\.\d+)?[A-Za-z]+)+", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MEMBER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:-[A-Za-z0-9_]+)*", re.ASCII)
_OPERATOR = re.compile(r"&&|\|\||==|!=|<=|>=|[-+*/%<>!().,\[\]]")
_WORDS = {"and": "&&", "or": "||", "not": "!", "in": "in"}
_LITERALS: dict[str, Value] = {"true": True, "false": False, "null": None}
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_MISTAKEN = {
    "=": "to compare, write ==",
    "&": "write && or and",
    "|": "write || or or",
    "{": "${…} cannot stand within ${…}",
    "$": "within ${…}, names need no $",
    "?": "there is no ?:; use default(a, b), or two steps with `if`",
    "~": "there are no patterns; use contains(), starts_with() or ends_with()",
}


class ExpressionError(ConfigError):
    """An expression that is not one, or that cannot be evaluated; knows the column."""

    def __init__(self, message: str, offset: int, hint: str = "") -> None:
        """Keep where in the text it went wrong; the first character is 0."""
        super().__init__(message, hint=hint)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Token:
    """A word of an expression."""

    kind: TokenKind
    text: str
    offset: int
    value: Value = None
    """Of a literal."""


def tokens(text: str, begin: int = 0, *, closing: str = "") -> Iterator[Token]:
    """Yield the tokens from ``begin``; the last has the kind ``end``.

    With ``closing`` they end before that character, and must: it is the ``}`` of a template.

    Raises:
        ExpressionError: There is something that is no token, or the expression is too long.
    """
    at = begin
    member = False
    while True:
        if space := _SPACE.match(text, at):
            at = space.end()
        if at - begin > LENGTH_MAX:
            raise ExpressionError(f"an expression of more than {LENGTH_MAX} characters", begin)
        if at == len(text) or (closing and text[at] == closing):
            if closing and at == len(text):
                raise ExpressionError(
                    "${ without its }", max(begin - 2, 0), "write $${ for a plain ${"
                )
            yield Token("end", "", at)
            return
        token, at = _token(text, at, member=member)
        member = token.text == "." and token.kind == "operator"
        yield token


def _token(text: str, at: int, *, member: bool) -> tuple[Token, int]:
    character = text[at]
    if character in "'\"":
        return _quoted(text, at)
    if character.isdecimal() and character.isascii():
        return _number(text, at)
    if name := (_MEMBER if member else _NAME).match(text, at):
        word = name[0]
        if member or word not in (*_WORDS, *_LITERALS):
            return Token("name", word, at), name.end()
        if word in _LITERALS:
            return Token("literal", word, at, _LITERALS[word]), name.end()
        return Token("operator", _WORDS[word], at), name.end()
    if operator := _OPERATOR.match(text, at):
        return Token("operator", operator[0], at), operator.end()
    raise ExpressionError(f"unexpected {character!r}", at, _MISTAKEN.get(character, ""))


def _number(text: str, at: int) -> tuple[Token, int]:
    number = _NUMBER.match(text, at)
    quantity = _QUANTITY.match(text, at)
    if number and (not quantity or number.end() >= quantity.end()):
        written = number[0]
        end = number.end()
        if end < len(text) and (text[end].isalnum() or text[end] == "_"):
            raise ExpressionError("a number that is too long, or runs into a name", at)
        value: Value = float(written) if set(".eE") & set(written) else int(written)
        if value == float("inf"):
            raise ExpressionError("a number that is too large", at)
        return Token("literal", written, at, value), end
    if quantity is None:
        raise ExpressionError("a number that is too long", at)
    written = quantity[0]
    for parse in (units.duration, units.size):
        try:
            return Token("literal", written, at, parse(written)), quantity.end()
        except ConfigError:
            continue
    raise ExpressionError(f"unknown unit in {written!r}", at, "units are ms s m h d, and GiB, GB …")


def _quoted(text: str, at: int) -> tuple[Token, int]:
    parts: list[str] = []
    mark, begin = text[at], at
    at += 1
    while at < len(text) and at - begin <= LENGTH_MAX:
        character = text[at]
        if character == mark:
            return Token("literal", text[begin : at + 1], begin, "".join(parts)), at + 1
        if character == "\\":
            escaped = _ESCAPES.get(text[at + 1 : at + 2])
            if escaped is None:
                raise ExpressionError("unknown escape", at, "there are \\n \\t \\\\ \\' \\\"")
            parts.append(escaped)
            at += 2
            continue
        parts.append(character)
        at += 1
    raise ExpressionError(f"{mark} without its end", begin)
