"""Whatever is given as a flow: it is one, or every problem is told; never anything else, and soon."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachefs.dataflow.machine.advance import Machine, first_records
from cachefs.dataflow.records import Run
from cachefs.dataflow.spec.expressions import parse
from cachefs.dataflow.spec.lexer import ExpressionError
from cachefs.dataflow.spec.model import Flow
from cachefs.dataflow.spec.problems import FlowDocumentError
from cachefs.dataflow.spec.reading import read_flow
from cachefs.dataflow.spec.templates import render
from tests.unit.dataflow.spec.test_reading import GOOD

SOON = settings(max_examples=150, deadline=5000, suppress_health_check=list(HealthCheck))
_WORDS = """
    spec steps id kind with needs if foreach retry a b true null on 1 -1 9e9 ${params.x} ${ }
    ${steps.a.state} always() scale wait process notify [] {} '' [x] {x:1} 5s 1GiB
"""
WORDS = st.sampled_from(_WORDS.split())
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | WORDS, inner, max_size=4)
    ),
    max_leaves=12,
)


def read(text):
    """Read, and begin what can be read: what is accepted must not surprise the machine."""
    try:
        flow = read_flow(text, name="f.yaml")
    except FlowDocumentError as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert str(refused)
        assert refused.problems
        assert all(one.place.line > 0 and one.place.column > 0 for one in refused.problems)
        return
    assert isinstance(flow, Flow)
    run = Run(id="r", flow=flow.full_name, state="Running")
    Machine(flow, run, first_records(flow)).decide(0.0)


@SOON
@given(st.text(max_size=400))
def test_any_text_is_read_or_refused(text):
    read(text)


@SOON
@given(
    st.lists(
        WORDS
        | st.sampled_from(
            [":", "\n", "  ", "- ", "{", "}", "[", "]", ",", "&", "*", "|", "!", "#"]
        ),
        max_size=60,
    )
)
def test_any_yaml_like_text_is_read_or_refused(words):
    read(" ".join(words))


@SOON
@given(data=st.data())
def test_a_flow_with_something_replaced_is_read_or_refused(data):
    lines = GOOD.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        row = data.draw(st.integers(0, len(lines) - 1))
        begin = data.draw(st.integers(0, len(lines[row])))
        end = data.draw(st.integers(begin, len(lines[row])))
        lines[row] = lines[row][:begin] + data.draw(WORDS) + lines[row][end:]
    read("\n".join(lines))


def put(value, path, new):
    """Return a copy of a value with a part of it replaced."""
    if not path:
        return new
    head, *rest = path
    if isinstance(value, dict):
        return {key: put(one, rest, new) if key == head else one for key, one in value.items()}
    return [put(one, rest, new) if index == head else one for index, one in enumerate(value)]


def paths(value, path=()):
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, one in items:
        yield from paths(one, (*path, key))


def plain():
    from cachefs.dataflow.spec.document import read_document  # noqa: PLC0415

    return read_document(GOOD, file="x").value


PLAIN = plain()
PATHS = list(paths(PLAIN))


@SOON
@given(path=st.sampled_from(PATHS), value=VALUES)
def test_a_flow_with_any_value_anywhere_is_read_or_refused(path, value):
    read(json.dumps(put(PLAIN, path, value)))


@SOON
@given(
    st.text(max_size=100)
    | st.lists(WORDS | st.sampled_from(list("+-*/%()[].,!<>=&|'\"}{$ ")), max_size=40).map("".join)
)
def test_any_expression_has_a_value_or_a_column(text):
    names = {"params": {"x": [1, {"a": None}]}, "steps": {"a": {"state": "Succeeded"}}}
    for attempt in (lambda: parse(text).evaluate(names), lambda: render(text, names)):
        try:
            attempt()
        except ExpressionError as error:
            offset = error.offset
        else:
            offset = 0
        assert 0 <= offset <= len(text)


@pytest.mark.slow
def test_bombs_are_refused_soon():
    aliases = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30)
    )
    for bomb in (
        aliases,
        "[" * 100_000,
        "{a: " * 100_000,
        "[" + "a," * 2_000_000 + "]",
        "x" * 5_000_000,
        "? " * 10_000,
        "- " * 10_000,
        "!" * 10_000,
        "spec: {params: {a: '" + "${" * 100_000 + "'}}",
    ):
        read(bomb)
