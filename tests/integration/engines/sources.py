"""The source of engines that are installed, or that the environment lists, looked at without importing it."""

import ast
import importlib.util
import os
from pathlib import Path

import pytest


def packages(name):
    """Return the folders of a package, for a test's parameters; one that is skipped if there are none."""
    listed = os.environ.get(f"CACHEFS_{name.upper()}_SOURCES", "").split(":")
    found = [Path(each) for each in listed if each]
    installed = importlib.util.find_spec(name)
    if installed is not None:
        found += [Path(each) for each in installed.submodule_search_locations]
    return found or [pytest.param(None, marks=pytest.mark.skip(reason=f"{name} is not installed"))]


def functions(file):
    """Return the parameters of a module's functions and methods by name."""
    found = {}
    for node in ast.parse(file.read_text()).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for each in inside:
            if isinstance(each, ast.FunctionDef):
                found[prefix + each.name] = [argument.arg for argument in each.args.args]
    return found
