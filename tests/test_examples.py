"""The examples of docstrings: each is run, and gives what it says."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.conftest import ROOT
from tests.test_repository import python_files

MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in python_files("de3dgan", "models")
    if ">>>" in path.read_text()
]


def test_there_are_examples():
    assert "de3dgan.stages.generated" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name):
    module = importlib.import_module(name if name.startswith("de3dgan") else f"de3dgan.{name}")
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.attempted and not found.failed
