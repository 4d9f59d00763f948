"""What Helm does with our templates: an interpreter of exactly the words that they use.

Whatever else a template may say is an error here, so that a chart that passes uses nothing that was not
compared with Helm's documentation: Go's ``text/template`` (actions, trimming of white space, what is true) and
the functions ``quote``, ``int64``, ``toYaml`` and ``nindent``.
"""

import json
import re

import yaml

_TOKEN = re.compile(r"\{\{(-?)\s?(.*?)\s?(-?)\}\}", re.DOTALL)
_PATH = r"\.(?:Values|Release)(?:\.[A-Za-z]+)+"


class UnknownWordError(Exception):
    """A template says what this interpreter does not know."""


def rendered(text, values, namespace):
    """Return what a template becomes."""
    world = {"Values": values, "Release": {"Namespace": namespace}}
    output, rest = _run(_tokens(text), 0, world, is_shown=True, depth=0)
    assert rest == len(_tokens(text))
    return output


def _tokens(text):
    """Return literal texts and actions, in turn; trim marks have been obeyed."""
    tokens, at, trim_next = [], 0, False
    for match in _TOKEN.finditer(text):
        before = text[at : match.start()]
        before = before.lstrip() if trim_next else before
        before = before.rstrip() if match[1] else before
        tokens += [("text", before), ("action", match[2])]
        trim_next, at = bool(match[3]), match.end()
    rest = text[at:]
    return [*tokens, ("text", rest.lstrip() if trim_next else rest)]


def _run(tokens, at, world, *, is_shown, depth):
    """Run tokens up to the ``else`` or ``end`` that ends a block; return its output and where that is."""
    output = []
    while at < len(tokens):
        kind, text = tokens[at]
        if kind == "text":
            output.append(text)
        elif text in ("else", "end"):
            if not depth:
                raise UnknownWordError(text)
            return "".join(output), at
        elif text.startswith("if "):
            is_true = _condition(text.removeprefix("if "), world)
            first, at = _run(tokens, at + 1, world, is_shown=is_shown and is_true, depth=depth + 1)
            second = ""
            if tokens[at] == ("action", "else"):
                second, at = _run(
                    tokens, at + 1, world, is_shown=is_shown and not is_true, depth=depth + 1
                )
            if tokens[at] != ("action", "end"):
                raise UnknownWordError("if without end")
            output.append(first if is_true else second)
        else:
            output.append(_value(text, world) if is_shown else "")
        at += 1
    if depth:
        raise UnknownWordError("if without end")
    return "".join(output), at


def _condition(text, world):
    if match := re.fullmatch(f"(not )?({_PATH})", text):
        return bool(_found(match[2], world)) is not bool(match[1])
    raise UnknownWordError(text)


def _value(text, world):
    if match := re.fullmatch(r'"([^"\\]*)"', text):
        return match[1]
    if match := re.fullmatch(f"({_PATH})( \\| quote)?", text):
        found = _found(match[1], world)
        assert isinstance(found, str), f"{text}: a number would be written as Go writes floats"
        return json.dumps(found, ensure_ascii=False) if match[2] else found
    if match := re.fullmatch(f"int64 ({_PATH})", text):
        return str(int(_found(match[1], world)))
    if match := re.fullmatch(f"toYaml ({_PATH}) \\| nindent ([0-9]+)", text):
        lines = yaml.safe_dump(_found(match[1], world), sort_keys=True).rstrip("\n").split("\n")
        return "".join(f"\n{' ' * int(match[2])}{line}" for line in lines)
    raise UnknownWordError(text)


def _found(path, world):
    value = world
    for name in path.strip(".").split("."):
        if name not in value:
            raise UnknownWordError(f"{path}: there is no {name}")
        value = value[name]
    return value
