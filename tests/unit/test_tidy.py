"""Style as a test: what the linters cannot see.

Each rule is a function from a file to its faults, and is itself tested on a fault.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 6
BANNED_MODULES = ("util", "utils", "helper", "helpers", "manager", "common", "misc", "base", "impl")
BANNED_CLASS_ENDINGS = ("Manager", "Helper", "Util", "Utils", "Base", "Impl", "Data", "Info")


def tracked(*patterns: str) -> list[Path]:
    """Return the files of the checkout, those not yet added included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    files = [ROOT / line for line in listing.splitlines()]
    return [file for file in files if file.is_file() and not file.is_symlink()]


def sources() -> list[Path]:
    return [file for file in tracked("*.py") if "_pb2" not in file.name]


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def faults_in_source(path: str, text: str) -> Iterator[str]:
    """Yield what is wrong with one Python file."""
    in_tests = path.startswith(("tests/", "bench/"))
    lines = text.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{lines} lines; at most {FILE_LINES_MAX}"
    if re.search(r"\b(FIXME|XXX)\b", text) and not path.endswith("test_tidy.py"):
        yield "a FIXME"
    if re.search(r"TODO(?!\(#\d+\))", text) and not path.endswith("test_tidy.py"):
        yield "a TODO without its issue"
    if Path(path).stem in BANNED_MODULES:
        yield "a module name that says nothing"
    tree = ast.parse(text)
    if not ast.get_docstring(tree) and text.strip():
        yield "no module docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _faults_in_function(node, in_tests=in_tests)
        if isinstance(node, ast.ClassDef) and node.name.endswith(BANNED_CLASS_ENDINGS):
            yield f"class {node.name}: a name that says nothing"
        if isinstance(node, ast.keyword) and node.arg == "shell":
            yield f"line {node.value.lineno}: a shell"
    if not in_tests and "unittest.mock" in text:
        yield "a mock"


def _faults_in_function(
    node: ast.FunctionDef | ast.AsyncFunctionDef, *, in_tests: bool
) -> Iterator[str]:
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if length > FUNCTION_LINES_MAX and not in_tests:
        yield f"{node.name}: {length} lines; at most {FUNCTION_LINES_MAX}"
    names = [argument.arg for argument in node.args.posonlyargs + node.args.args]
    positional = len([one for one in names if one not in ("self", "cls")])
    is_command = any(isinstance(decorator, ast.Call) for decorator in node.decorator_list)
    if positional > PARAMETERS_MAX and not in_tests and not is_command:
        yield f"{node.name}: {positional} positional parameters; at most {PARAMETERS_MAX}"


@pytest.mark.parametrize("file", sources(), ids=name)
def test_a_source_file_is_tidy(file):
    assert list(faults_in_source(name(file), file.read_text())) == []


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        ("cachefs/x.py", '"""D."""\n' + "x = 1\n" * 600, "lines; at most"),
        ("cachefs/x.py", "x = 1\n", "no module docstring"),
        ("cachefs/utils.py", '"""D."""\n', "says nothing"),
        ("cachefs/x.py", '"""D."""\nclass LeaseManager: ...\n', "says nothing"),
        ("cachefs/x.py", '"""D."""\n# TODO: later\n', "without its issue"),
        ("cachefs/x.py", '"""D."""\nrun("ls", shell=True)\n', "a shell"),
        ("cachefs/x.py", '"""D."""\ndef f(a, b, c, d, e, f, g): ...\n', "positional parameters"),
        ("cachefs/x.py", '"""D."""\ndef f():\n' + "    x = 1\n" * 71, "f: 72 lines"),
        ("cachefs/x.py", '"""D."""\nfrom unittest.mock import Mock\n', "a mock"),
    ],
)
def test_each_rule_can_fail(path, text, fault):
    assert any(fault in found for found in faults_in_source(path, text))


@pytest.mark.parametrize("file", tracked("*.md"), ids=name)
def test_a_document_has_one_title(file):
    text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = [line for line in text.splitlines() if line.startswith("# ")]
    is_fragment = "docs/changes" in name(file)
    assert len(titles) == (0 if is_fragment else 1)


@pytest.mark.parametrize("file", tracked("*.md"), ids=name)
def test_a_link_in_a_document_leads_somewhere(file):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", file.read_text()):
        assert (file.parent / target).exists(), target


def test_every_error_class_has_a_row_in_the_table():
    from cachefs import errors  # noqa: PLC0415
    from cachefs.wire.failures import STATUS  # noqa: PLC0415

    classes = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.CacheFSError)
    }
    assert classes - set(STATUS) == {errors.CacheFSError}


def test_every_declared_metric_is_measured_somewhere():
    from cachefs.telemetry.metrics import DECLARED  # noqa: PLC0415

    elsewhere = [file for file in sources() if name(file) != "cachefs/telemetry/metrics.py"]
    code = "\n".join(file.read_text() for file in elsewhere if not name(file).startswith("tests/"))
    assert [metric for metric in DECLARED if f'"{metric}"' not in code] == []
