"""Which names an expression may use at its place, checked before anything runs."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from cachefs.dataflow.records import STEP_STATES
from cachefs.dataflow.spec import names
from cachefs.dataflow.spec.expressions import (
    Call,
    Chain,
    Expression,
    Literal,
    Name,
    Node,
    PathOf,
    parse,
    static_path,
)
from cachefs.dataflow.spec.functions import FUNCTIONS
from cachefs.dataflow.spec.lexer import ExpressionError
from cachefs.dataflow.spec.problems import At, listed, quoted
from cachefs.dataflow.spec.templates import parse_template

_ROOTS = ("params", "steps", "each", "run", "flow", "plan", "trigger")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What may be named at one place of a flow."""

    params: frozenset[str]
    steps: frozenset[str] | None = None
    """All of the flow; ``None`` where none can have ended yet."""
    is_needed: Callable[[str], bool] = lambda _: True
    """Whether a step is over, and will not change, when the expression is evaluated."""
    each: str = ""
    """What a value of ``foreach`` is called; empty without one."""
    status: bool = False
    """Whether ``succeeded()`` and its like may be called."""
    result: bool = False
    """Whether ``result`` is there: what the step returned."""


def check_template(text: str, scope: Scope, at: At) -> None:
    """Note what is wrong with the templates of a text."""
    try:
        template = parse_template(text)
    except ExpressionError as error:
        at.fault(error.message, error.hint, offset=error.offset)
        return
    for expression in template.expressions():
        check_names(expression, scope, at)


def check_expression(text: str, scope: Scope, at: At) -> Expression | None:
    """Note what is wrong with an expression; return it if it is one."""
    try:
        expression = parse(text)
    except ExpressionError as error:
        at.fault(error.message, error.hint, offset=error.offset)
        return None
    check_names(expression, scope, at)
    return expression


def check_condition(text: str, scope: Scope, at: At) -> None:
    """Note what is wrong with an ``if``, which may stand within ``${…}``."""
    bare = bare_condition(text)
    if bare == text and "${" in text:
        at.fault("${…} within an expression", "if is an expression: it needs no ${…}", offset=0)
        return
    check_expression(bare, scope, at)


def bare_condition(text: str) -> str:
    """Return an ``if`` without the ``${…}`` around it; columns stay as they are."""
    stripped = text.strip()
    if stripped.startswith("${") and stripped.endswith("}") and stripped.count("${") == 1:
        return text.replace("${", "  ", 1).rstrip().removesuffix("}")
    return text


def with_each(scope: Scope, name: str) -> Scope:
    """Return a scope in which a value of ``foreach`` is known."""
    return replace(scope, each=name)


def with_result(scope: Scope) -> Scope:
    """Return a scope in which what the step returned is known."""
    return replace(scope, result=True)


def check_names(expression: Expression, scope: Scope, at: At) -> None:
    """Note each name and function that there is not."""
    _Checker(scope, at).check(expression)


class _Checker:
    def __init__(self, scope: Scope, at: At) -> None:
        self._scope = scope
        self._at = at

    def check(self, expression: Expression) -> None:
        roots: set[int] = set()
        for node in expression.nodes():
            match node:
                case PathOf(base=Name(name=name)):
                    roots.add(id(node.base))
                    self._path(name, node)
                case Name() if id(node) not in roots:
                    self._root(node)
                case Call():
                    self._call(node)
                case Chain():
                    self._states(node)

    def _fault(self, message: str, offset: int, hint: str = "") -> None:
        self._at.fault(message, hint, offset=offset)

    def _root(self, node: Name) -> None:
        if node.name not in self._roots():
            self._unknown_root(node)

    def _roots(self) -> Sequence[str]:
        return (*_ROOTS, "result") if self._scope.result else _ROOTS

    def _unknown_root(self, node: Name) -> None:
        if node.name in self._scope.params:
            hint = f"did you mean params.{node.name}?"
        elif node.name in STEP_STATES:
            hint = f"did you mean '{node.name}', in quotes?"
        elif node.name in (self._scope.steps or ()):
            hint = f"did you mean steps.{node.name}?"
        elif node.name in names.STATUS_FUNCTIONS:
            hint = f"did you mean {node.name}()?"
        else:
            hint = self._at.nearest(node.name, self._roots()) or listed(self._roots())
        self._fault(f"unknown name {quoted(node.name)}", node.offset, hint)

    def _path(self, root: str, node: PathOf) -> None:
        members = static_path(node)
        if root not in self._roots():
            self._root(Name(node.offset, root))
        elif root == "steps":
            self._steps(members, node)
        elif root == "each":
            self._each(members, node)
        elif members and root not in ("trigger", "result"):
            known: Collection[str] = {
                "params": self._scope.params,
                "plan": names.PLAN_NAMES,
                "run": names.RUN_NAMES,
                "flow": names.FLOW_NAMES,
            }[root]
            self._known(members[0], known, "parameter" if root == "params" else f"name in {root}")

    def _known(self, member: tuple[str | int, int], known: Collection[str], what: str) -> bool:
        key, offset = member
        if key in known:
            return True
        hint = self._at.nearest(str(key), known) or listed(sorted(known))
        if what == "parameter" and not known:
            hint = "the flow declares none in spec.params"
        self._fault(f"unknown {what} {quoted(str(key))}", offset, hint)
        return False

    def _each(self, members: Sequence[tuple[str | int, int]], node: PathOf) -> None:
        if not self._scope.each:
            self._fault("each is only there with foreach", node.offset)
        elif members:
            self._known(members[0], (self._scope.each, "index"), "name in each")

    def _steps(self, members: Sequence[tuple[str | int, int]], node: PathOf) -> None:
        if self._scope.steps is None:
            self._fault("no step has run here yet", node.offset)
            return
        if not members:
            self._fault("steps needs the id of one, as it is", node.offset, "write steps.ID.state")
            return
        if not self._known(members[0], self._scope.steps, "step"):
            return
        step = str(members[0][0])
        if not self._scope.is_needed(step):
            hint = f"add {step} to needs"
            self._fault(f"{step} may not have run yet: it is not needed here", members[0][1], hint)
        if len(members) > 1:
            self._known(members[1], names.STEP_NAMES, f"name in steps.{step}")

    def _call(self, node: Call) -> None:
        if node.name in names.STATUS_FUNCTIONS:
            if not self._scope.status:
                self._fault(f"{node.name}() is only there in if", node.offset)
            elif node.arguments:
                self._fault(f"{node.name}() takes no arguments", node.offset)
            return
        function = FUNCTIONS.get(node.name)
        if function is None:
            usual = {"success": "succeeded", "failure": "failed", "startsWith": "starts_with"}
            known = [*FUNCTIONS, *names.STATUS_FUNCTIONS]
            meant = usual.get(node.name)
            hint = f"did you mean {meant}()?" if meant else self._at.nearest(node.name, known)
            self._fault(f"unknown function {node.name}()", node.offset, hint)
            return
        fault = function.arity_fault(len(node.arguments))
        if fault:
            self._fault(f"{node.name}() {fault}", node.offset)

    def _states(self, node: Chain) -> None:
        """Note a comparison of a step's state with what is none: it would never be true."""
        operands = [node.first, *(operand for _, _, operand in node.rest)]
        if node.rest[0][1] not in ("==", "!=") or not any(map(_is_state, operands)):
            return
        for word, offset in _texts(operands):
            if word not in STEP_STATES:
                hint = self._at.nearest(word, STEP_STATES) or listed(STEP_STATES)
                self._fault(f"no step is ever {quoted(word)}", offset, hint)


def _is_state(node: Node) -> bool:
    if not isinstance(node, PathOf) or not isinstance(node.base, Name):
        return False
    members = static_path(node)
    return node.base.name == "steps" and len(members) == 2 and members[1][0] == "state"


def _texts(nodes: Sequence[Node]) -> Iterator[tuple[str, int]]:
    for node in nodes:
        if isinstance(node, Literal) and isinstance(node.value, str):
            yield node.value, node.offset
