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


def check_functions(package, expected):
    """Fail if a module of a package lacks a function, or that has other parameters: module → name → them."""
    for module, wanted in expected.items():
        found = functions(package / module)
        for name, parameters in wanted.items():
            assert found.get(name) == parameters, f"{name} of {module}"


def environment_of(system, place, **more):
    """Return the environment of an engine that reads from a system, and keeps what it writes in a folder."""
    clean = {name: value for name, value in os.environ.items() if "CACHEFS" not in name}
    return clean | {
        "CACHEFS_STATE": str(system.folder),
        "XDG_CACHE_HOME": str(place / "cache"),
        **more,
    }
