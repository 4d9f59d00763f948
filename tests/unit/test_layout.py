"""The drawn folders are linked under one import root, and every package imports."""

import importlib
import pkgutil
from pathlib import Path

import pytest

import cachefs

ROOT = Path(cachefs.__file__).parent.parent
LINKED = ("workers", "dataflow", "sdk", "k8s")
DRAWN = {"cachefs", *LINKED, "tests", "docs", "bench"}


@pytest.mark.parametrize("folder", LINKED)
def test_a_drawn_folder_is_linked_under_the_import_root(folder):
    link = ROOT / "cachefs" / folder
    assert link.is_symlink(), f"{link} must be a link: was the checkout unpacked without links?"
    assert link.readlink() == Path("..") / folder


def test_the_top_level_has_the_drawn_folders_and_no_other():
    folders = {
        path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")
    }
    assert folders - {"dist", "build"} == DRAWN


def _packages() -> list[str]:
    return [
        module.name
        for module in pkgutil.walk_packages([str(ROOT / "cachefs")], "cachefs.")
        if module.ispkg and ".migrations" not in module.name
    ]


@pytest.mark.parametrize("package", _packages())
def test_every_package_imports_and_says_what_it_is(package):
    assert importlib.import_module(package).__doc__ or ".proto" in package
