"""Expressions: their values, and what is said of those that have none."""

import pytest

from cachefs.dataflow.spec.expressions import parse
from cachefs.dataflow.spec.lexer import ExpressionError
from cachefs.dataflow.spec.templates import parse_template, render

NAMES = {
    "params": {"n": 12, "zones": ["a", "b"], "name": "llama", "big": 2**40, "none": None},
    "steps": {"scale-out": {"state": "Succeeded", "outputs": {"bytes": 2 * 2**30}}},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("params.n > 10 && !failed()", True),
        ("params.n > 10 and not failed()", True),
        ("false || true && false", False),
        ("steps.scale-out.outputs.bytes >= 1GiB", True),
        ("steps['scale-out'].state == \"Succeeded\"", True),
        ("1 + 2 * 3 - 4 / 2", 5),
        ("-2 * -(3 - 1)", 4),
        ("7 % 4", 3),
        ("params.n - 1", 11),
        ("'a' in params.zones", True),
        ("contains(params.name, 'lam')", True),
        ("params.zones + ['c']", ["a", "b", "c"]),
        ("params.zones[1] + '!'", "b!"),
        ("params.zones[-1]", "b"),
        ("len(params.zones) == 2", True),
        ("max(1, 5, 3) + min([4, 2])", 7),
        ("true == 1", False),
        ("null == params.none", True),
        ("default(params.none, 'x')", "x"),
        ("1h30m", 5400),
        ("10Gi", 10 * 2**30),
        ("1.5e3", 1500),
        ("number('12') + 1", 13),
        ("join(split('a,b', ','), '-')", "a-b"),
        ("bytes('1KiB') + seconds('1m')", 1084),
        ("'it\\'s'", "it's"),
        ("range(3)", [0, 1, 2]),
        ("!true || !false", True),
        ("!!true", True),
    ],
)
def test_an_expression_has_a_value(text, value):
    assert parse(text).evaluate(NAMES, {"failed": lambda: False}) == value


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("", 0, "an empty expression"),
        ("1 +", 3, "ends too early"),
        ("1 2", 2, "unexpected '2'"),
        ("a = b", 2, "to compare, write =="),
        ("a & b", 2, "write && or and"),
        ("1 < 2 < 3", 6, "join two comparisons with &&"),
        ("'a", 0, "' without its end"),
        ("'\\q'", 1, "unknown escape"),
        ("f(1,", 4, "ends too early"),
        ("f(1 2)", 4, "expected , and found 2"),
        ("[1, 2", 5, "expected , and found the end"),
        ("a.", 2, "expected a name"),
        ("5x", 0, "unknown unit in '5x'"),
        ("${a}", 0, "names need no $"),
        ("(" * 33 + "1" + ")" * 33, 32, "nested more than 32"),
        ("!" * 40 + "true", 32, "nested more than 32"),
        ("1" * 30, 0, "too long"),
        ("a" + " " * 5000 + "b", 0, "more than 4096 characters"),
    ],
)
def test_what_is_no_expression_is_told_with_its_column(text, offset, message):
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("param.n", 0, "unknown name 'param' (did you mean params?)"),
        ("params.nn", 7, "there is no 'nn'"),
        ("params.n-1", 7, "there is no 'n-1'"),
        ("params.zones[2]", 13, "the list has 2"),
        ("params.n.x", 9, "a number has no item 'x'"),
        ("params.n && true", 0, "a number, where true or false is needed"),
        ("'x' + 1", 4, "text + a number"),
        ("1 < 'x'", 2, "a number < text"),
        ("1 / 0", 2, "division by zero"),
        ("maxx(1)", 0, "did you mean max?"),
        ("len()", 0, "takes 1 argument, not 0"),
        ("len(5)", 0, "a number has no length"),
        ("number('x')", 0, "not a number"),
        ("params.big * params.big", 11, "beyond 64 bits"),
        ("range(100000)", 0, "not a number from 0 to 10000"),
    ],
)
def test_what_cannot_be_evaluated_is_told_with_its_column(text, offset, message):
    with pytest.raises(ExpressionError) as caught:
        parse(text).evaluate(NAMES)
    assert message in str(caught.value)
    assert caught.value.offset == offset


def test_what_decides_is_not_looked_beyond():
    assert parse("true || 1 / 0 == 1").evaluate({}) is True
    assert parse("false && 1 / 0 == 1").evaluate({}) is False


def test_long_chains_do_not_nest():
    assert parse("+".join(["1"] * 2000)).evaluate({}) == 2000
    assert parse("&&".join(["true"] * 600)).evaluate({}) is True


def test_a_result_that_is_too_large_is_refused():
    names = {"params": {"text": "x" * 600_000}}
    for text in ("params.text + params.text", "join([params.text, params.text], '')"):
        with pytest.raises(ExpressionError, match="more than 1048576 characters"):
            parse(text).evaluate(names)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${params.zones}", ["a", "b"]),
        ("${params.n}", 12),
        ("x-${params.n}-${params.name}", "x-12-llama"),
        ("${1 > 2}.", "false."),
        ("${4 / 2}.", "2."),
        ("$HOME and $${params.n}", "$HOME and ${params.n}"),
        ("${'}'}", "}"),
    ],
)
def test_a_template_is_rendered(text, value):
    assert render(text, NAMES) == value


def test_templates_are_rendered_wherever_they_stand():
    given = {"a": ["${params.n}", {"b": "${params.name}"}], "c": None}
    assert render(given, NAMES) == {"a": [12, {"b": "llama"}], "c": None}


def test_what_cannot_be_put_into_a_text_is_refused_with_its_path():
    with pytest.raises(ExpressionError, match=r"a\[0\]: a list cannot be put into a text"):
        render({"a": ["x${params.zones}"]}, NAMES)


@pytest.mark.parametrize("text", ["${params.n", "${", "${}", "${{params.n}}", "a ${1 +} b"])
def test_what_is_no_template_is_refused(text):
    with pytest.raises(ExpressionError):
        parse_template(text)
