"""Which precision `--precision auto` finds to be faster in tests and in processes that they start.

Python imports a module of this name when it starts, if its folder is in PYTHONPATH; `conftest` puts
it there. DE3DGAN_TEST_PRECISION is "fp32" (the default), so that tests compute the same on every
machine, "bf16", or "auto": what is faster here.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

RATIO = {"fp32": 2.0, "bf16": 0.5, "auto": None}[os.environ.get("DE3DGAN_TEST_PRECISION", "fp32")]


class Finder(MetaPathFinder):
    """Replaces `bfloat16_ratio` when the module that has it is imported."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """Find the module, and have it changed once it has been executed."""
        if name != "de3dgan.training.device":
            return None
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            module.measured_bfloat16_ratio = module.bfloat16_ratio  # which its own tests test
            if RATIO is not None:
                module.bfloat16_ratio = lambda device: RATIO

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
