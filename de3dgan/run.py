"""A run: one stage of one fold, and the directory that explains and reproduces it.

========================  =====================================================================
``config.json``           every setting, what the run depends on, and the versions it ran with
``log.txt``               what happened when
``metrics.jsonl``         a line per epoch
``state.pt``              what a stopped run goes on from
``model.pt``              the network of the chosen epoch, for the next stage
``predictions.csv``       test predictions, a row per frame (classifier stages)
``leakage.json``          the certificate of who has seen the test groups, see `leakage`
``result.json``           the figures; a run that has it is finished
``tensorboard/, *.png``   curves and figures; figures of leaky evaluations are ``*-leaky.png``
========================  =====================================================================
"""

from __future__ import annotations

import dataclasses
import json
import platform
import re
import resource
import shlex
import shutil
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from de3dgan import checkpoints, leakage
from de3dgan.data import Frames
from de3dgan.errors import UserError
from de3dgan.files import differences, read_json, sha256, write_json
from de3dgan.ledger import Ledger
from de3dgan.paths import ROOT, from_root, shown
from de3dgan.seeds import seed_torch
from de3dgan.splits import N_FOLDS, Split, class_labels, make_split
from de3dgan.store import Store

#: Name of each stage's script, before the task's suffix.
SCRIPTS = {
    "gan": "3D-UNet_GAN",
    "classifier": "SA-ST_Net_Classifier",
    "finetune": "Finetune_Classifier",
}
#: The lowest value of a number that can be meant, whichever stage has it.
_LOWEST = {
    **dict.fromkeys(("epochs", "batch_size", "critic_every"), 1),
    **dict.fromkeys(("widths", "critic_widths", "critic_hidden", "n_features"), 1),
    **dict.fromkeys(("seed", "lr", "critic_lr", "weight_decay", "dropout"), 0),
    **dict.fromkeys(("penalty_weight", "reconstruction_weight", "consistency_weight"), 0),
    **dict.fromkeys(("noise", "averaging", "loudness_sd", "calibration_steps", "label_weight"), 0),
}
#: Settings that a fold's three stages must agree on.
_SHARED = (
    *("fold", "protocol", "seed", "data_dir", "runs_dir", "task", "ratings", "threshold"),
    "method",
)
#: Settings that say where a run happens, not what it computes.
_PLACES = ("data_dir", "runs_dir", "device", "restart")
#: Files by which a directory is known to hold a run.
_FILES = ("config.json", "state.pt", "model.pt", "result.json")


@dataclass(frozen=True)
class Run:
    """A run directory and everything that a stage needs to know.

    Attributes
    ----------
    config : dataclass
        The script's configuration.
    stage : str
        "gan", "classifier" or "finetune".
    dir : Path
        The run directory.
    store, labels, split
        The data, the class of each trial, int (n_trials,), and who is trained and tested on.
    device : torch.device
        Where networks are.
    ledger : Ledger
        Which frames each artefact has seen.
    upstream : dict
        The checkpoints of earlier stages, by stage.
    certificate : dict
        The leakage certificate, once there is one.
    started : float
        When this process began with it.
    before : dict
        What `spent` said when an earlier process stopped.
    """

    config: Any
    stage: str
    dir: Path
    store: Store
    labels: np.ndarray
    split: Split
    device: torch.device
    ledger: Ledger
    upstream: dict[str, dict[str, Any]] = field(default_factory=dict)
    certificate: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    before: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(
        cls, config: Any, stage: str, needs: tuple[str, ...] = (), variant: str | None = None
    ) -> Run:
        """Open the run of `config`, a new one or one to go on with.

        Parameters
        ----------
        config : dataclass
            The script's configuration.
        stage : str
            The stage it is of.
        needs : tuple of str
            Stages whose checkpoints it reads.
        variant : str, optional
            What sets it apart from the stage's usual run; its directory is <stage>-<variant>.

        Raises
        ------
        UserError
            If the data, the fold or the device is not there, if a checkpoint that it reads is
            missing or of another split, or if the directory holds a run with other settings.
        """
        check_config(config)
        if (stage, config.method, config.protocol) == ("gan", "spectral", "window"):
            raise UserError(
                "The window protocol cuts trials into single seconds, and the generator learns "
                "from whole trials: choose another --protocol, or reproduce the paper with "
                "--method published."
            )
        store = Store.open(from_root(config.data_dir))
        labels = class_labels(store, config.ratings, config.threshold)
        absent = set(range(2 ** len(config.ratings))) - set(labels.tolist())
        if absent:
            raise UserError(
                f"No trial in {shown(store.path)} is of class {min(absent)} of the task "
                f"{config.task}: there is nothing to tell apart."
            )
        split = make_split(store, labels, config.protocol, config.fold, config.seed)
        fold_dir = from_root(config.runs_dir) / config.task / config.protocol / f"fold{config.fold}"
        folder = f"{stage}-{variant}" if variant else stage
        run = cls(
            config,
            stage,
            fold_dir / folder,
            store,
            labels,
            split,
            device_of(config.device),
            Ledger(store.n_trials * store.n_frames),
        )
        dependencies = {name: run._read_upstream(name) for name in needs}
        run._claim(dependencies)
        seed_torch(config.seed, 0, f"{stage}: initial weights")
        return run

    @property
    def finished(self) -> bool:
        """Whether there is a result already; says so if there is."""
        done = (self.dir / "result.json").is_file() and (self.dir / "model.pt").is_file()
        if done:
            print(
                f"{shown(self.dir)} is finished: see result.json and the figures there, or begin "
                "anew with --restart."
            )
        return done

    @property
    def title(self) -> str:
        """What figures and messages call the run, once certified; says so if it is leaky."""
        leaky = " (LEAKY: see leakage.json)" if self.certificate["leaky"] else ""
        return f"{self.config.task}, protocol {self.split.protocol}, fold {self.split.fold}{leaky}"

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return 2 ** len(self.config.ratings)

    def log(self, message: str) -> None:
        """Add a line to ``log.txt`` and to the terminal."""
        tqdm.write(message)
        with open(self.dir / "log.txt", "a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")

    def spent(self) -> dict[str, float]:
        """Return the time and the memory that the run has taken, over all its processes."""
        unit = 1024**2 if sys.platform == "darwin" else 1024  # macOS counts in bytes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
        return {
            "seconds": self.before.get("seconds", 0) + time.monotonic() - self.started,
            "peak_rss_mib": max(self.before.get("peak_rss_mib", 0), peak),
        }

    def figures(self) -> ModuleType | None:
        """Return the module that draws, or None where what it draws with is not installed."""
        try:
            from de3dgan import figures
        except ImportError as error:
            self.log(f"{error.name} is not installed: there will be no figures.")
            return None
        return figures

    def frames(self) -> Frames:
        """Return the store's EEG, with the baseline removal of the protocol; reading is noted."""
        return Frames(self.store, self.device, self.split.leaky, ledger=self.ledger)

    def figure(self, name: str) -> Path:
        """Return where to draw a figure of the certified run."""
        return self.dir / f"{name}{'-leaky' if self.certificate['leaky'] else ''}.png"

    def hand_over(self, best_epoch: int, network: dict[str, Any]) -> dict[str, Any]:
        """Write ``model.pt``, a network and what it comes from, and return what is in it."""
        parts = ("train", "val", "test")
        origin = {
            "stage": self.stage,
            "task": self.config.task,
            "store_hash": self.store.hash,
            "split_fingerprint": self.split.fingerprint,
            "trials": {part: self.split.trials(part).tolist() for part in parts},
            "config": _plain(self.config),
            "best_epoch": best_epoch,
            "seen": self.ledger.content(),
        }
        content = {**origin, **network}
        checkpoints.save(self.dir / "model.pt", content)
        return content

    def certify(self, content: dict[str, Any], frames: Frames, tested: np.ndarray) -> None:
        """Write ``leakage.json``: whether what is tested has been seen before.

        Parameters
        ----------
        content : dict
            That of the run's own ``model.pt``.
        frames : Frames
            The real EEG.
        tested : array of int
            The frames that are predicted, or measured.
        """
        chain = {**self.upstream, self.stage: content}
        found = leakage.certificate(frames, self.split, self.labels, tested, chain)
        write_json(self.dir / "leakage.json", found)
        self.certificate.update(found)
        for reason in found["reasons"]:
            self.log(f"LEAKY: {reason}")

    def write_result(self, **figures: Any) -> None:
        """Write ``result.json``, which makes the run a finished one."""
        split = self.split
        result = {
            "task": self.config.task,
            "stage": self.stage,
            "protocol": split.protocol,
            "leaky": self.certificate["leaky"],
            "fold": split.fold,
            "seed": split.seed,
            "split_fingerprint": split.fingerprint,
            "n_train_trials": len(split.trials("train")),
            "n_val_trials": len(split.trials("val")),
            "n_test_trials": len(split.trials("test")),
            **figures,
            **{name: round(value, 1) for name, value in self.spent().items()},
        }
        write_json(self.dir / "result.json", result)

    def command(self, stage: str) -> str:
        """Return the command that runs `stage` for this run's fold, from the same folder.

        For the run's own stage, with all its settings.
        """
        script = Path(sys.argv[0]).name
        own = SCRIPTS[self.stage]
        suffix = script.removeprefix(own) if script.startswith(own) else f"_{self.config.task}.py"
        words = ["python", shown(Path(sys.argv[0]).resolve().parent / f"{SCRIPTS[stage]}{suffix}")]
        own_names = [f.name for f in dataclasses.fields(self.config) if f.name != "restart"]
        for name in own_names if stage == self.stage else _SHARED:
            value = getattr(self.config, name)
            default = type(self.config).__dataclass_fields__[name].default
            # The defaults of a method are those that its name stands for.
            at_default = value == default and not (name == "method" and value == "published")
            if isinstance(value, Path):
                at_default = ROOT / value == ROOT / default
            if name == "fold" or not at_default:
                values = value if isinstance(value, tuple) else (value,)
                words += [f"--{name.replace('_', '-')}", *map(str, values)]
        return shlex.join(words)

    def _read_upstream(self, stage: str) -> str:
        """Load an earlier stage's checkpoint and return its hash."""
        path = self.dir.parent / stage / "model.pt"
        command = self.command(stage)
        if not path.is_file():
            raise UserError(
                f"The {stage} stage of this fold has not been run ({shown(path)} is missing): run "
                f"{command}"
            )
        remedy = f"make the right one with: {command} --restart"
        content = checkpoints.load(path, remedy)
        if content.get("stage") != stage:
            raise UserError(
                f"{shown(path)} is of the {content.get('stage')} stage, not of {stage}: {remedy}"
            )
        theirs, ours = content.get("split_fingerprint"), self.split.fingerprint
        if theirs != ours:
            raise UserError(
                f"{shown(path)} was trained on another split (fingerprint {theirs}) than this "
                f"run's (fingerprint {ours}): {remedy}"
            )
        theirs, ours = content["config"].get("method"), self.config.method
        if theirs != ours:
            raise UserError(
                f"{shown(path)} was made with --method {theirs}, and this run is --method {ours}: "
                f"{remedy}"
            )
        if content["arguments"]["ch_names"] != self.store.ch_names:
            raise UserError(f"{shown(path)} is for other electrodes than the store's: {remedy}")
        self.upstream[stage] = content
        return sha256(path)[:16]

    def _claim(self, dependencies: dict[str, str]) -> None:
        """Make the directory this run's, or check that it is."""
        own = {
            "stage": self.stage,
            "settings": _plain(self.config),
            "store_hash": self.store.hash,
            "split_fingerprint": self.split.fingerprint,
            "upstream": dependencies,
        }
        path = self.dir / "config.json"
        begun = [name for name in _FILES if (self.dir / name).is_file()]
        if self.config.restart and begun:
            shutil.rmtree(self.dir)
        elif begun and not path.is_file():
            raise UserError(
                f"{shown(self.dir)} holds {begun[0]} but no config.json to say of which run: begin "
                "anew with --restart."
            )
        if path.is_file():
            there = read_json(path)
            if not isinstance(there, dict):
                raise UserError(f"{shown(path)} is damaged: begin anew with --restart.")
            for left in self.dir.glob(".*.tmp"):  # of a process that was killed while writing
                left.unlink(missing_ok=True)
            changed = differences({key: there.get(key) for key in own}, own)
            if changed:
                raise UserError(
                    f"{shown(self.dir)} holds a run that differs in {', '.join(changed)}: give the "
                    "same settings to go on with it, --restart to replace it, or another "
                    "--runs-dir."
                )
            return
        versions = {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "scipy", "scikit-learn")},
            "threads": torch.get_num_threads(),
            "device": _device_name(self.device),
        }
        self.dir.mkdir(parents=True, exist_ok=True)
        write_json(path, {**own, "versions": versions})


def check_config(config: Any) -> None:
    """Refuse values that cannot be meant.

    Raises
    ------
    UserError
        Naming the flag.
    """
    if not 0 <= config.fold < N_FOLDS:
        raise UserError(f"There is no fold {config.fold}: choose one from 0 to {N_FOLDS - 1}.")
    if not config.ratings:
        raise UserError("--ratings needs at least one column of trials.csv.")
    names = getattr(config, "class_names", None)
    if names is not None and len(names) != 2 ** len(config.ratings):
        raise UserError(
            f"--class-names needs a name for each of the {2 ** len(config.ratings)} classes, and "
            f"has {len(names)}."
        )
    if not re.fullmatch(r"\w[\w-]*", config.task):
        raise UserError(f"--task names a folder, and {config.task!r} is not letters and digits.")
    if config.seed >= 2**32:
        raise UserError(f"--seed must be below 2^32, and {config.seed} is not.")
    for field_ in dataclasses.fields(config):
        value = getattr(config, field_.name)
        lowest = _LOWEST.get(field_.name)
        if (
            lowest is not None
            and not min(value if isinstance(value, tuple) else (value,)) >= lowest
        ):
            flag = f"--{field_.name.replace('_', '-')}"
            raise UserError(f"{flag} must be at least {lowest}, and {value} is not.")
    for name in ("dropout", "averaging"):
        value = getattr(config, name, 0)
        if not value < 1:
            raise UserError(f"--{name} must be below 1, and {value} is not.")


def device_of(name: str) -> torch.device:
    """Return the device called `name`; "auto" is a GPU if there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("There is no GPU that PyTorch can use: leave out --device cuda.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def autocast(device: torch.device) -> torch.autocast:
    """Return a context in which networks compute in bfloat16 where the device gains from it.

    GPUs do, and processors that have bfloat16 instructions; on others it is emulated, and slower.
    """
    gains = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=gains)


def _plain(config: Any) -> dict[str, Any]:
    """Return the settings that shape a result, as JSON would hold them."""
    settings = dataclasses.asdict(config)
    return json.loads(json.dumps({k: v for k, v in settings.items() if k not in _PLACES}))


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
