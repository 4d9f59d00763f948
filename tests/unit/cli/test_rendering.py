"""What a terminal gets to see."""

import json

from cachefs.cli.rendering import print_error, print_facts, print_json, print_table
from cachefs.errors import NotKnownError

EVIL = "a\x1b[31mred\nforged [bold]line[/bold]"


def test_names_cannot_control_the_terminal_or_forge_lines(capsys):
    print_table(("NAME",), [(EVIL,)])
    print_facts([("name", EVIL)])
    print_error(NotKnownError("no such file", subject=EVIL, hint=EVIL))
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert len(printed.out.splitlines()) == 3
    assert len(printed.err.splitlines()) == 2


def test_markup_in_a_name_is_shown_and_not_obeyed(capsys):
    print_table(("NAME",), [("[bold]x[/bold]",)])
    assert "[bold]x[/bold]" in capsys.readouterr().out


def test_long_rows_are_not_wrapped_when_the_output_is_not_a_terminal(capsys):
    print_table(("A", "B>"), [("x" * 300, 1)])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_error_is_one_line_and_its_hint_another(capsys):
    print_error(NotKnownError("no such file", subject="a", hint="look again"))
    assert capsys.readouterr().err == "error: a: no such file\nhint: look again\n"


def test_json_is_plain_ascii_that_parses_back(capsys):
    print_json({"name": EVIL + "é"})
    text = capsys.readouterr().out
    assert text.isascii()
    assert "\x1b" not in text
    assert json.loads(text) == {"name": EVIL + "é"}
