"""What is another way in tests, and in every process that they start.

Python imports a module of this name when it starts, if its folder is in PYTHONPATH; `conftest` puts
it there. Some modules of the package are changed when they have been imported:

- `--precision auto` finds float32, so that tests compute the same on every machine, unless
  DE3DGAN_TEST_PRECISION is "bf16", or "auto": what is faster here.
- Stages measure little of generated EEG, and do not tune baselines, since that takes seconds each
  time, unless DE3DGAN_TEST_MEASURES is "all". Tests of what judges and baselines can tell are about
  the functions, and a few whole runs measure what users' runs do, by `conftest.eeg_is_measured`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

RATIO = {"fp32": 2.0, "bf16": 0.5, "auto": None}[os.environ.get("DE3DGAN_TEST_PRECISION", "fp32")]
LITTLE = os.environ.get("DE3DGAN_TEST_MEASURES", "little") == "little"


def fix_precision(device: ModuleType) -> None:
    """Replace what `--precision auto` measures."""
    device.measured_bfloat16_ratio = device.bfloat16_ratio  # which its own tests test
    if RATIO is not None:
        device.bfloat16_ratio = lambda of: RATIO


def shorten_network_judge(network_judge: ModuleType) -> None:
    """Let the network that judges EEG learn little."""
    if LITTLE:
        network_judge._STEPS = 10


def shorten_judges(judges: ModuleType) -> None:
    """Let intervals of judges rest on few draws."""
    if LITTLE:
        judges._N_DRAWS = 50


def fix_baselines(baselines: ModuleType) -> None:
    """Leave nothing to be tuned: the last value of each grid."""
    if LITTLE:
        from dataclasses import replace

        for name in ("LOGISTIC", "SVM"):
            family = getattr(baselines, name)
            grid = {key: values[-1:] for key, values in family.grid.items()}
            setattr(baselines, name, replace(family, grid=grid))


def shorten_generators(generators: ModuleType) -> None:
    """Measure the DE and the amplitude of generated EEG only."""
    if LITTLE:
        generators._EPOCHS = 1
        generators.quality = few_figures


def few_figures(
    store: Any, split: Any, labels: Any, real: Callable, samplers: dict, **others: Any
) -> dict[str, Any]:
    """Stand in for `de3dgan.evaluation.quality.quality`: its figures that take no time."""
    from de3dgan.eeg.de import trial_de
    from de3dgan.evaluation.measures import de_round_trip

    test = split.trials("test")
    rows = {}
    for name, sample in {"real": lambda trials, draw: real(trials), **samplers}.items():
        eeg = sample(test, 0)
        rows[name] = {
            "judged": {},
            "de_round_trip": de_round_trip(trial_de(eeg), store.absolute_de(test)),
            "amplitude_uv": float(eeg.std()),
        }
    return {"quality": rows, "judges": {}, "membership": {}}


CHANGES = {
    "de3dgan.training.device": fix_precision,
    "de3dgan.evaluation.network_judge": shorten_network_judge,
    "de3dgan.evaluation.judges": shorten_judges,
    "de3dgan.evaluation.baselines": fix_baselines,
    "de3dgan.stages.generators": shorten_generators,
}


class Finder(MetaPathFinder):
    """Has modules changed once they have been imported."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """Find one of the modules, and have it changed once it has been executed."""
        if name not in CHANGES:
            return None
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            CHANGES[name](module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
