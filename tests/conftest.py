"""What several test modules need: scripts run as users run them, and small data to run them on."""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    # Before PyTorch is imported, and for every process that tests start; another number is tried by
    # setting it, see benchmarks/STRESS.md.
    os.environ.setdefault(_name, "1")
os.environ["COLUMNS"] = "100"
# What is another way here and in every process that tests start: see that module.
_HOOK = os.path.join(os.path.dirname(__file__), "at_start")
os.environ["PYTHONPATH"] = os.pathsep.join([_HOOK, os.environ.get("PYTHONPATH", "")]).strip(
    os.pathsep
)

import contextlib  # noqa: E402
import functools  # noqa: E402
import hashlib  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402
import runpy  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from functools import cache  # noqa: E402
from pathlib import Path  # noqa: E402
from types import ModuleType  # noqa: E402

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

runpy.run_path(os.path.join(_HOOK, "sitecustomize.py"))  # before what it changes is imported

from de3dgan.base import recipe  # noqa: E402
from de3dgan.data.synthetic import write_store  # noqa: E402
from tests.browser import browser  # noqa: E402, F401, a fixture

# A slow or busy machine is no failure.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def untraced(function: Callable) -> Callable:
    """Return a function of a library which coverage does not trace: that takes twice as long."""

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return function(*args, **kwargs)
        finally:
            sys.settrace(tracer)

    return call


for _name in ("savefig", "draw_without_rendering", "subplots"):
    setattr(Figure, _name, untraced(getattr(Figure, _name)))


def pytest_xdist_auto_num_workers() -> int:
    """Return how many processors there are for ``-n auto``; halves of a core count as well."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


ROOT = Path(__file__).resolve().parents[1]
STAGES = tuple(recipe.SCRIPTS)
FOLDERS = {
    "Valence": ROOT,
    "Arousal": ROOT / "Arousal-main",
    "Four_Class": ROOT / "Four_Class-main",
    "Workload": ROOT / "Workload-main",
    "SEED": ROOT / "SEED-main",
}
METHODS = ("spectral", "published")
#: Flags that make each stage's networks tiny, and its batches large; of the default method.
TINY = {
    "gan": "--widths 8 8 8 8".split(),
    "classifier": "--widths 8 8 8 8 8 --n-features 8 --batch-size 256 --epoch-steps 0".split(),
    "finetune": "--batch-size 256 --epoch-steps 0".split(),
}
#: The same for each method.
TINY_OF = {
    "spectral": TINY,
    "published": {
        "gan": (
            "--method published --widths 4 4 4 4 --critic-widths 8 8 8 8 8 --critic-hidden 8"
        ).split(),
        "classifier": ["--method", "published", *TINY["classifier"]],
        "finetune": ["--method", "published", *TINY["finetune"]],
    },
}
_TINY_CLASSIFIER = {
    "widths": (8, 8, 8, 8, 8),
    "n_features": 8,
    "batch_size": 32,
    "lr": 1e-3,
    "epochs": 3,
    "epoch_steps": 0,
}
_TINY_FINETUNE = {"batch_size": 32, "lr": 1e-3, "epochs": 3, "epoch_steps": 0}
#: The same for `main(Config(...))` and `main(Published(...))`, on the little store.
TINY_CONFIG = {
    "spectral": {
        "gan": {"widths": (8, 8, 8, 8), "epochs": 3},
        "classifier": _TINY_CLASSIFIER,
        "finetune": _TINY_FINETUNE,
    },
    "published": {
        "gan": {
            "widths": (4, 4, 4, 4),
            "critic_widths": (8, 8, 8, 8, 8),
            "critic_hidden": 8,
            "critic_every": 2,
            "epochs": 3,
        },
        "classifier": _TINY_CLASSIFIER,
        "finetune": _TINY_FINETUNE,
    },
}


def script_of(stage: str, task: str = "Valence") -> Path:
    """Return the path of a stage's script."""
    return FOLDERS[task] / f"{recipe.SCRIPTS[stage]}_{task}.py"


def run_script(
    *args: object, cwd: Path = ROOT, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Run ``python *args`` in a process of its own, as a user does."""
    return subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_here(script: Path, *args: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run a script as `run_script` does, but in this process, which saves its imports."""
    out, err = io.StringIO(), io.StringIO()
    old_argv, old_path, old_handler = sys.argv, list(sys.path), signal.getsignal(signal.SIGTERM)
    sys.argv = [str(script), *map(str, args)]
    code = 0
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            contextlib.chdir(cwd or ROOT),
        ):
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as exit_:
        code = exit_.code or 0
    finally:
        sys.argv, sys.path[:] = old_argv, old_path
        signal.signal(signal.SIGTERM, old_handler)
    return subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue())


def load_script(stage: str, task: str = "Valence") -> ModuleType:
    """Import a stage's script as a module."""
    return recipe.load_script(script_of(stage, task))


def run_stage(
    stage: str, store: Path, runs: Path, method: str = "spectral", **settings: object
) -> Path:
    """Run a stage of the valence task in this process, and return its run directory."""
    settings = {**TINY_CONFIG[method][stage], **settings}
    config_class = recipe.load_recipe(script_of(stage), method)
    config = config_class(data_dir=store, runs_dir=runs, **settings)
    load_script(stage).main(config)
    return runs / "valence" / config.protocol / f"fold{config.fold}" / stage


def contents(folder: Path) -> dict[str, str]:
    """Return everything below a folder: directories, and files with a hash and their time."""
    return {
        str(path.relative_to(folder)): ""
        if path.is_dir()
        else f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}"
        for path in sorted(folder.rglob("*"))
    }


def read_lines(path: Path) -> list[dict]:
    """Return the lines of a ``.jsonl`` file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@contextlib.contextmanager
def nothing_is_drawn() -> Iterator[None]:
    """Let stages draw nothing, which takes most of a little run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("de3dgan.figures.stages.plotting", lambda run: None)
        yield


@pytest.fixture
def no_figures(monkeypatch) -> None:
    """Let stages draw nothing in a test."""
    monkeypatch.setattr("de3dgan.figures.stages.plotting", lambda run: None)


@contextlib.contextmanager
def baselines_know_nothing() -> Iterator[None]:
    """Let baselines of stages be as likely right as not, without learning, which takes long."""
    from de3dgan.evaluation import baselines

    def predictions(frames, split, labels, asked, maps=None) -> tuple[dict, dict]:
        n_classes = labels.max() + 1
        found = dict.fromkeys(baselines.NAMES, np.full((len(asked), n_classes), 1 / n_classes))
        return found, {name: candidates[0] for name, candidates in baselines.CHOSEN.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "predictions", predictions)
        yield


@pytest.fixture
def no_baselines() -> Iterator[None]:
    """Let baselines know nothing in a test."""
    with baselines_know_nothing():
        yield


@contextlib.contextmanager
def eeg_is_measured() -> Iterator[None]:
    """Let stages measure generated EEG as those of users do; it takes seconds."""
    from de3dgan.evaluation.quality import quality
    from de3dgan.stages import generators

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generators, "quality", quality)
        yield


@pytest.fixture(scope="session")
def little_store(tmp_path_factory) -> Path:
    """Return a store of 28 short trials of noise; not to be changed."""
    return write_store(tmp_path_factory.mktemp("little") / "deap")


@pytest.fixture(scope="session")
def finished_runs(little_store, tmp_path_factory) -> Path:
    """Return the runs of one fold, with one control and without figures; not to be changed."""
    runs = tmp_path_factory.mktemp("finished") / "runs"
    chosen = {"protocol": "subject", "epochs": 2}
    with nothing_is_drawn():
        with eeg_is_measured():
            run_stage("gan", little_store, runs, **chosen)
        run_stage("classifier", little_store, runs, **chosen)
        for augmentation in ("generated", "none"):
            run_stage("finetune", little_store, runs, **chosen, augmentation=augmentation)
    return runs


@pytest.fixture(scope="session")
def finished_of(little_store, tmp_path_factory) -> Callable[[str], Path]:
    """Return what trains all stages of a method on the little store, once; not to be changed.

    It returns the folder of runs; figures are left out, and baselines know nothing.
    """

    @cache
    def finished(method: str) -> Path:
        runs = tmp_path_factory.mktemp("finished") / "runs"
        with nothing_is_drawn(), baselines_know_nothing():
            for stage in STAGES:
                run_stage(stage, little_store, runs, method)
        return runs

    return finished


@pytest.fixture(scope="session")
def deap_dir(tmp_path_factory) -> Path:
    """Return a folder of simulated DEAP files: 3 subjects, one with 3 trials, the rest with 2."""
    from de3dgan.data.simulation import Signal
    from de3dgan.data.synthetic import write_deap

    folder = tmp_path_factory.mktemp("recordings") / "deap"
    write_deap(folder, 3, Signal(n_trials=2))
    write_deap(folder, 1, Signal(n_trials=3))
    return folder


@pytest.fixture(scope="session")
def deap_store(deap_dir, tmp_path_factory) -> Path:
    """Return the store that preprocess_de.py makes of `deap_dir`."""
    folder = tmp_path_factory.mktemp("features") / "deap"
    args = ("--source", "deap", "--data-dir", deap_dir, "--out-dir", folder, "--jobs", 1)
    done = run_here(ROOT / "preprocess_de.py", *args, cwd=ROOT / "tests")
    assert done.returncode == 0, done.stderr
    return folder
