"""Names: one strict grammar, and references that mean one thing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.names import DatasetName, parse_path, parse_reference, printable
from cachefs.errors import ConfigError


@pytest.mark.parametrize("text", ["llama", "a", "models/llama-3.1_8b", "a/b", "0/9", "x" * 63])
def test_a_legal_name_survives(text):
    assert str(DatasetName.parse(text)) == text


def test_the_default_namespace_may_be_left_out():
    assert DatasetName.parse("default/llama") == DatasetName.parse("llama")
    assert str(DatasetName.parse("default/llama")) == "llama"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a/",
        "/a",
        "a/b/c",
        "A",
        "..",
        "a..b",
        ".a",
        "a.",
        "-a",
        "a b",
        "a\n",
        "ä",
        "x" * 64,
        "a\0",
        "a\\b",
        "٣",
    ],
)
def test_an_illegal_name_is_refused_and_shown_escaped(text):
    with pytest.raises(ConfigError) as caught:
        DatasetName.parse(text)
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("llama", [("llama", None, "")]),
        ("cachefs://llama/", [("llama", None, "")]),
        ("llama/config.json", [("llama", None, "config.json"), ("llama/config.json", None, "")]),
        ("llama/Config.json", [("llama", None, "Config.json")]),
        ("a/b/c/d", [("a", None, "b/c/d"), ("a/b", None, "c/d")]),
        ("a@beef/b", [("a", "beef", "b")]),
        ("a/b@beef/c", [("a", None, "b@beef/c"), ("a/b", "beef", "c")]),
        ("a/icon@2x.png", [("a", None, "icon@2x.png"), ("a/icon", "2x.png", "")]),
        ("a@v1.2/b", [("a", "v1.2", "b")]),
        ("a/v1..v2/c", [("a", None, "v1..v2/c")]),
    ],
)
def test_a_reference_has_one_reading_or_two(text, readings):
    found = [(str(one.dataset), one.version, one.path) for one in parse_reference(text)]
    assert found == readings


@pytest.mark.parametrize("text", ["a@", "a@-x", "a@x y", "a@abc/../e", "a/../b", "a//b", "A/b"])
def test_an_illegal_reference_is_refused(text):
    with pytest.raises(ConfigError):
        parse_reference(text)


@pytest.mark.parametrize(
    "path", ["a", "a/b.c", "ä/ö", "new\nline", "back\\slash", " ", "...", "x" * 255]
)
def test_a_legal_path_is_kept(path):
    assert parse_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a/.",
        "a\0",
        "x" * 256,
        "ä" * 128,
        "a/" * 2048 + "a",
        "\udc80",
    ],
)
def test_an_illegal_path_is_refused(path):
    with pytest.raises(ConfigError):
        parse_path(path)


@given(st.text())
def test_printable_text_cannot_forge_a_line(text):
    assert all(character.isprintable() for character in printable(text))
