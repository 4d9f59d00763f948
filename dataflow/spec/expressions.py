"""Expressions: a small language without side effects, loops or access to anything but names given.

::

    params.replicas > 10 && !failed()
    steps.copy.outputs.bytes >= 10GiB or contains(params.zones, 'a')

From loosest to tightest: ``||`` ``or``, ``&&`` ``and``, ``!`` ``not``, comparisons and ``in``, ``+ -``,
``* / %``, the sign, and ``.name [index] function(…)``. Types are checked: ``&&`` wants truth values,
``<`` two numbers or two texts, and there is no conversion but the functions'. ``==`` compares anything;
values of different types are unequal.

Text is parsed once into nodes, then evaluated as often as needed. Chains (``a + b + …``, ``a.b.c``) are
one node each, so that what nests is only what the writer nested, and that is limited; so are the length
of a text and the size of a result. Whatever is written, evaluation takes milliseconds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cachefs.dataflow.spec.functions import FUNCTIONS, bounded, contains, equal
from cachefs.dataflow.spec.lexer import ExpressionError, Token, tokens
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.spec.problems import kind_of, listed, nearest, quoted

NESTING_MAX = 32

Status = Mapping[str, Callable[[], bool]]
"""What ``succeeded()`` and its like say, where they may be asked."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a text, ``true``, ``false``, ``null``."""

    offset: int
    value: Value


@dataclass(frozen=True, slots=True)
class Items:
    """``[a, b]``."""

    offset: int
    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Name:
    """``params``: where a path begins."""

    offset: int
    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """One ``.name`` or ``[index]`` of a path."""

    offset: int
    key: "Node"


@dataclass(frozen=True, slots=True)
class PathOf:
    """``base.a.b[0]``."""

    offset: int
    base: "Node"
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """``function(a, b)``."""

    offset: int
    name: str
    arguments: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Unary:
    """``!a``, ``-a``."""

    offset: int
    operator: str
    operand: "Node"


@dataclass(frozen=True, slots=True)
class Chain:
    """``a + b - c``: operators of one rank, from the left."""

    offset: int
    first: "Node"
    rest: "tuple[tuple[int, str, Node], ...]"


Node = Literal | Items | Name | PathOf | Call | Unary | Chain

_RANKS = (
    ("||",),
    ("&&",),
    ("!",),
    ("==", "!=", "<", "<=", ">", ">=", "in"),
    ("+", "-"),
    ("*", "/", "%"),
)
_NOT_RANK, _COMPARISON_RANK = 2, 3


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression."""

    text: str
    root: Node

    def evaluate(self, names: Mapping[str, Value], status: Status | None = None) -> Value:
        """Return its value.

        Args:
            names: What the names mean.
            status: Functions that may be called besides those of :mod:`.functions`.

        Raises:
            ExpressionError: A name or an item is not there, or a type does not fit; says at which column.
        """
        return _Evaluator(names, status or {}).value(self.root)

    def truth(self, names: Mapping[str, Value], status: Status | None = None) -> bool:
        """Return its value, which must be a truth value.

        Raises:
            ExpressionError: It is not one, or as above.
        """
        value = self.evaluate(names, status)
        if not isinstance(value, bool):
            raise ExpressionError(
                f"{kind_of(value)}, not true or false", self.root.offset, "compare it"
            )
        return value

    def nodes(self) -> Iterator[Node]:
        """Yield every node."""
        yield from _walk(self.root)


def parse(text: str) -> Expression:
    """Parse a whole text.

    Raises:
        ExpressionError: It is not an expression; says at which column.
    """
    return parse_within(text, 0, closing="")[0]


def parse_within(text: str, begin: int, *, closing: str) -> tuple[Expression, int]:
    """Parse from ``begin`` up to ``closing``; return that and where the closing stands.

    Raises:
        ExpressionError: As :func:`parse`.
    """
    known = list(tokens(text, begin, closing=closing))
    root = _Parser(known).parse()
    end = known[-1].offset
    return Expression(text[begin:end], root), end


def static_path(node: PathOf) -> tuple[tuple[str | int, int], ...]:
    """Return the members that are known beforehand, with their offsets, up to the first that is not."""
    known: list[tuple[str | int, int]] = []
    for member in node.members:
        key = member.key.value if isinstance(member.key, Literal) else None
        if not isinstance(key, str | int) or isinstance(key, bool):
            break
        known.append((key, member.offset))
    return tuple(known)


def _walk(node: Node) -> Iterator[Node]:
    yield node
    match node:
        case Items(items=inner) | Call(arguments=inner):
            children: tuple[Node, ...] = inner
        case PathOf():
            children = (node.base, *(member.key for member in node.members))
        case Unary():
            children = (node.operand,)
        case Chain():
            children = (node.first, *(operand for _, _, operand in node.rest))
        case _:
            children = ()
    for child in children:
        yield from _walk(child)


class _Parser:
    """Recursive descent; its depth is counted."""

    def __init__(self, known: list[Token]) -> None:
        self._tokens = known
        self._at = 0
        self._depth = 0

    def parse(self) -> Node:
        if self._next().kind == "end":
            raise ExpressionError("an empty expression", self._next().offset)
        node = self._rank(0)
        token = self._next()
        if token.kind != "end":
            raise self._unexpected(token)
        return node

    def _next(self) -> Token:
        return self._tokens[self._at]

    def _is(self, *texts: str) -> bool:
        token = self._next()
        return token.kind == "operator" and token.text in texts

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _expect(self, text: str) -> None:
        if not self._is(text):
            token = self._next()
            found = token.text or "the end"
            raise ExpressionError(f"expected {text} and found {found}", token.offset)
        self._take()

    def _rank(self, rank: int) -> Node:
        if rank == _NOT_RANK:
            return self._unary("!", rank + 1)
        if rank == len(_RANKS):
            return self._unary("-", rank + 1)
        first = self._rank(rank + 1)
        rest: list[tuple[int, str, Node]] = []
        while self._is(*_RANKS[rank]):
            operator = self._take()
            if rank == _COMPARISON_RANK and rest:
                hint = "join two comparisons with &&"
                raise ExpressionError("a comparison of a comparison", operator.offset, hint)
            rest.append((operator.offset, operator.text, self._rank(rank + 1)))
        return Chain(first.offset, first, tuple(rest)) if rest else first

    def _unary(self, operator: str, rank: int) -> Node:
        if not self._is(operator):
            return self._rank(rank) if rank <= len(_RANKS) else self._path()
        token = self._take()
        self._enter(token)
        operand = self._unary(operator, rank)
        self._depth -= 1
        return Unary(token.offset, operator, operand)

    def _enter(self, token: Token) -> None:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise ExpressionError(f"nested more than {NESTING_MAX} deep", token.offset)

    def _path(self) -> Node:
        base = self._primary()
        members = []
        while self._is(".", "["):
            token = self._take()
            if token.text == ".":
                name = self._take()
                if name.kind != "name":
                    raise ExpressionError("expected a name after the dot", name.offset)
                members.append(Member(name.offset, Literal(name.offset, name.text)))
                continue
            self._enter(token)
            members.append(Member(self._next().offset, self._rank(0)))
            self._depth -= 1
            self._expect("]")
        return PathOf(base.offset, base, tuple(members)) if members else base

    def _primary(self) -> Node:
        token = self._take()
        if token.kind == "literal":
            return Literal(token.offset, token.value)
        if token.kind == "name":
            if not self._is("("):
                return Name(token.offset, token.text)
            self._take()
            return Call(token.offset, token.text, self._list(token, ")"))
        if token.text == "[" and token.kind == "operator":
            return Items(token.offset, self._list(token, "]"))
        if token.text == "(" and token.kind == "operator":
            self._enter(token)
            node = self._rank(0)
            self._depth -= 1
            self._expect(")")
            return node
        raise self._unexpected(token)

    def _list(self, token: Token, closing: str) -> tuple[Node, ...]:
        self._enter(token)
        items: list[Node] = []
        while not self._is(closing):
            if items:
                self._expect(",")
            items.append(self._rank(0))
        self._take()
        self._depth -= 1
        return tuple(items)

    def _unexpected(self, token: Token) -> ExpressionError:
        if token.kind == "end":
            return ExpressionError("it ends too early", token.offset)
        return ExpressionError(f"unexpected {quoted(token.text)}", token.offset)


class _Evaluator:
    """Values of nodes."""

    def __init__(self, names: Mapping[str, Value], status: Status) -> None:
        self._names = names
        self._status = status

    def value(self, node: Node) -> Value:
        match node:
            case Literal(value=value):
                return value
            case Name() | PathOf():
                return self._name(node) if isinstance(node, Name) else self._path(node)
            case Items(items=items):
                return [self.value(item) for item in items]
            case Call():
                return self._call(node)
            case Unary():
                return self._unary(node)
            case Chain():
                return self._chain(node)

    def _name(self, node: Name) -> Value:
        if node.name in self._names:
            return self._names[node.name]
        hint = nearest(node.name, self._names)
        raise ExpressionError(f"unknown name {quoted(node.name)}", node.offset, hint)

    def _unary(self, node: Unary) -> Value:
        operand = self.value(node.operand)
        if node.operator == "!":
            return not _truth(operand, node.operand.offset)
        return -_number(operand, node.operand.offset)

    def _path(self, node: PathOf) -> Value:
        value = self.value(node.base)
        for member in node.members:
            value = _item(value, self.value(member.key), member.offset)
        return value

    def _call(self, node: Call) -> Value:
        if node.name in self._status:
            return self._status[node.name]()
        if node.name not in FUNCTIONS:
            hint = nearest(node.name, [*FUNCTIONS, *self._status])
            raise ExpressionError(f"unknown function {node.name}()", node.offset, hint)
        function = FUNCTIONS[node.name]
        fault = function.arity_fault(len(node.arguments))
        if fault:
            raise ExpressionError(f"{node.name}() {fault}", node.offset)
        values = [self.value(argument) for argument in node.arguments]
        try:
            return bounded(function.call(*values))
        except ExpressionError:
            raise
        except (ValueError, OverflowError) as error:
            raise ExpressionError(f"{node.name}(): {error}", node.offset) from error

    def _chain(self, node: Chain) -> Value:
        if node.rest[0][1] in ("&&", "||"):
            return self._logic(node)
        value = self.value(node.first)
        for offset, operator, operand in node.rest:
            try:
                value = bounded(_combine(value, operator, self.value(operand), offset))
            except OverflowError as error:
                raise ExpressionError(str(error), offset) from error
        return value

    def _logic(self, node: Chain) -> bool:
        """Return at the first that decides; those after it are not looked at."""
        decides = node.rest[0][1] == "||"
        for operand in (node.first, *(operand for _, _, operand in node.rest)):
            if _truth(self.value(operand), operand.offset) is decides:
                return decides
        return not decides


def _truth(value: Value, offset: int) -> bool:
    if isinstance(value, bool):
        return value
    raise ExpressionError(f"{kind_of(value)}, where true or false is needed", offset, "compare it")


def _number(value: Value, offset: int) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ExpressionError(f"{kind_of(value)}, where a number is needed", offset)


def _item(value: Value, key: Value, offset: int) -> Value:
    if isinstance(value, Mapping) and isinstance(key, str):
        if key in value:
            return value[key]
        known = [name for name in value if isinstance(name, str)]
        hint = nearest(key, known) or listed(known)
        raise ExpressionError(f"there is no {quoted(key)}", offset, hint)
    if isinstance(value, list) and isinstance(key, int) and not isinstance(key, bool):
        if -len(value) <= key < len(value):
            return value[key]
        raise ExpressionError(f"there is no item {key}: the list has {len(value)}", offset)
    raise ExpressionError(f"{kind_of(value)} has no item {quoted(str(key))}", offset)


def _combine(left: Value, operator: str, right: Value, offset: int) -> Value:
    if operator in ("==", "!="):
        return equal(left, right) is (operator == "==")
    if operator == "in":
        return _within(left, right, offset)
    texts = isinstance(left, str) and isinstance(right, str)
    numbers = _is_number(left) and _is_number(right)
    if operator in _ORDERS and (texts or numbers):
        return _ORDERS[operator](left, right)
    lists = isinstance(left, list) and isinstance(right, list)
    if operator == "+" and (texts or lists):
        return left + right
    if operator in _ORDERS or not numbers:
        hint = "convert with text() or number()" if operator == "+" else ""
        both = f"{kind_of(left)} {operator} {kind_of(right)}"
        raise ExpressionError(f"that does not go: {both}", offset, hint)
    if operator in ("/", "%") and right == 0:
        raise ExpressionError("division by zero", offset)
    return _ARITHMETIC[operator](left, right)


def _within(part: Value, whole: Value, offset: int) -> bool:
    try:
        return contains(whole, part)
    except ValueError as error:
        raise ExpressionError(str(error), offset) from error


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_ORDERS: Mapping[str, Callable[[Value, Value], bool]] = {
    "<": lambda left, right: bool(left < right),
    "<=": lambda left, right: bool(left <= right),
    ">": lambda left, right: bool(left > right),
    ">=": lambda left, right: bool(left >= right),
}
_ARITHMETIC: Mapping[str, Callable[[Value, Value], Value]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "%": lambda left, right: left % right,
}
