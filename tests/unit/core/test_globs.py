"""Globs: the table in the module's docstring, and that no pattern is slow."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.globs import Globs, compile_glob
from cachefs.errors import ConfigError


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.bin", "model.bin", True),
        ("*.bin", "a/b/model.bin", True),
        ("*.bin", "model.bin.txt", False),
        ("onnx/*.bin", "onnx/a.bin", True),
        ("onnx/*.bin", "x/onnx/a.bin", False),
        ("onnx/*.bin", "onnx/x/a.bin", False),
        ("/config.json", "config.json", True),
        ("/config.json", "a/config.json", False),
        ("onnx/", "onnx/a/b", True),
        ("onnx/", "x/onnx/a", True),
        ("onnx/", "onnx", False),
        ("onnx/", "onnx2/a", False),
        ("/onnx/", "x/onnx/a", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/xb", False),
        ("a/**", "a/x", True),
        ("a/**", "a/x/y", True),
        ("a/**", "a", False),
        ("**", "a/b", True),
        ("**/x", "x", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[!a-c]x", "bx", False),
        ("[!a-c]x", "dx", True),
        ("[]]x", "]x", True),
        ("a[.-0]b", "a/b", False),
        ("a[!x]b", "a/b", False),
        (r"\*", "*", True),
        (r"\*", "a", False),
        ("*", "a\nb", True),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "abbbc", True),
        ("a*b*c", "acb", False),
        ("*a*a*", "aa", True),
        ("*a*a*", "xa", False),
        ("A", "a", False),
        ("x.y", "xzy", False),
    ],
)
def test_a_pattern_matches_as_documented(pattern, path, matches):
    assert bool(compile_glob(pattern).fullmatch(path)) is matches


@pytest.mark.parametrize(
    "pattern",
    ["", "/", "[", "a[!", "a\\", "[z-a]", "x" * 2000, "/".join("a**" for _ in "ab") + "["],
)
def test_a_pattern_that_cannot_match_is_refused(pattern):
    with pytest.raises(ConfigError):
        compile_glob(pattern)


def test_a_file_needs_an_include_and_no_exclude():
    globs = Globs(["*.bin", "*.json"], ["onnx/"])
    assert globs.select("a/model.bin")
    assert globs.select("config.json")
    assert not globs.select("readme.md")
    assert not globs.select("onnx/model.bin")
    assert Globs().select("anything/at all")
    assert not Globs(exclude=["*"]).select("anything")


def test_no_pattern_is_slow():
    path = "/".join(["a" * 200] * 18)
    assert not compile_glob("*a" * 100 + "b").fullmatch(path)
    assert not compile_glob("**/a/**/a/**/a/**/b").fullmatch(path)
    with pytest.raises(ConfigError, match="more than"):
        compile_glob("**/a/" * 6 + "b")


def _naive(pattern, segment):
    """Match one segment of ``a``, ``b``, ``*`` and ``?`` by trying everything."""
    if not pattern:
        return not segment
    if pattern[0] == "*":
        return any(_naive(pattern[1:], segment[at:]) for at in range(len(segment) + 1))
    return bool(segment) and pattern[0] in ("?", segment[0]) and _naive(pattern[1:], segment[1:])


@given(st.text("ab*?", min_size=1, max_size=6), st.text("ab", min_size=1, max_size=8))
def test_the_compiled_pattern_agrees_with_a_naive_matcher(pattern, segment):
    pattern = re.sub(r"\*+", "*", pattern)
    assert bool(compile_glob("/" + pattern).fullmatch(segment)) == _naive(pattern, segment)
