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
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from de3dgan import checkpoints, leakage, processes
from de3dgan.compute import Compute, compute_of
from de3dgan.data import Frames
from de3dgan.errors import UserError
from de3dgan.files import (
    append_line,
    differences,
    held,
    make_folder,
    read_json,
    read_object,
    remove_dead_lock,
    remove_folder,
    sha256,
    write_json,
    writing,
)
from de3dgan.ledger import Ledger
from de3dgan.paths import ROOT, SCRIPTS, from_root, shown
from de3dgan.seeds import seed_torch
from de3dgan.splits import N_FOLDS, Split, class_labels, make_split
from de3dgan.store import Store
from de3dgan.validation import OBJECT, TEXT, check

#: The lowest value of a number that can be meant, whichever stage has it.
_LOWEST = {
    **dict.fromkeys(("epochs", "batch_size", "critic_every"), 1),
    **dict.fromkeys(("widths", "critic_widths", "critic_hidden", "n_features"), 1),
    **dict.fromkeys(("seed", "lr", "critic_lr", "weight_decay", "dropout"), 0),
    **dict.fromkeys(("penalty_weight", "reconstruction_weight", "consistency_weight"), 0),
    **dict.fromkeys(("noise", "averaging", "loudness_sd", "calibration_steps", "label_weight"), 0),
}
#: Settings that a fold's three stages must agree on.
_OF_FOLD = ("fold", "protocol", "seed", "task", "ratings", "threshold", "method")
#: What a run's identity holds, and ``config.json``: where it was begun, too.
_IDENTITY = {
    **dict.fromkeys(("stage", "store_hash", "split_fingerprint"), TEXT),
    **dict.fromkeys(("settings", "upstream"), OBJECT),
}
_CONFIG = {**_IDENTITY, "environment": OBJECT}
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
    compute : Compute
        How networks compute.
    ledger : Ledger
        Which frames each artefact has seen.
    identity : dict
        What shapes the run: its stage, settings, store, split, and the hashes of the checkpoints
        that it reads. Files of a run with another identity are refused.
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
    compute: Compute
    ledger: Ledger
    identity: dict[str, Any]
    upstream: dict[str, dict[str, Any]] = field(default_factory=dict)
    certificate: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    before: dict[str, float] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def open(
        cls, config: Any, stage: str, needs: tuple[str, ...] = (), variant: str | None = None
    ) -> Iterator[Run]:
        """Open the run of `config`, a new one or one to go on with, and keep others from it.

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
            missing or does not fit, if the directory holds a run with other settings, or if
            another process is at it.
        """
        check_config(config)
        if (stage, config.method, config.protocol) == ("gan", "spectral", "window"):
            raise UserError(
                "The window protocol cuts trials into single seconds, and the generator learns "
                "from whole trials: choose another --protocol, or reproduce the paper with "
                "--method published."
            )
        compute = compute_of(config)
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
        identity = {
            "stage": stage,
            "settings": _plain(config),
            "store_hash": store.hash,
            "split_fingerprint": split.fingerprint,
            "upstream": {},
        }
        run = cls(
            config,
            stage,
            fold_dir / folder,
            store,
            labels,
            split,
            compute,
            Ledger(store.n_trials * store.n_frames),
            identity,
        )
        identity["upstream"].update({name: run._read_upstream(name) for name in needs})
        run._refuse_other_run()
        # What is finished is only looked at, wherever it may have been put.
        only_looked_at = run._done and not config.restart
        processes.join(compute.device)
        is_first = processes.is_first()
        if only_looked_at and is_first:
            remove_dead_lock(run.dir)
        with held(run.dir) if is_first and not only_looked_at else nullcontext():
            if is_first:
                run._claim()
            processes.wait()
            seed_torch(config.seed, 0, f"{stage}: initial weights")
            yield run

    @property
    def device(self) -> torch.device:
        """Where networks are."""
        return self.compute.device

    @property
    def finished(self) -> bool:
        """Whether there is a result already; says so if there is."""
        if self._done and processes.is_first():
            print(
                f"{shown(self.dir)} is finished: see result.json and the figures there, or begin "
                "anew with --restart."
            )
        return self._done

    @property
    def _done(self) -> bool:
        return (self.dir / "result.json").is_file() and (self.dir / "model.pt").is_file()

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
        if processes.is_first():
            tqdm.write(message)
        self.note(message)

    def note(self, message: str) -> None:
        """Add a line to ``log.txt``."""
        if processes.is_first():
            append_line(self.dir / "log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}")

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
            **self.identity,
            "trials": {part: self.split.trials(part).tolist() for part in parts},
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
            "environment": environment(self.compute),
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
        for name in own_names if stage == self.stage else (*_OF_FOLD, "data_dir", "runs_dir"):
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
        file_hash = sha256(path)
        content = read_model(path, stage, remedy)
        if sha256(path) != file_hash:
            raise UserError(f"{shown(path)} is just being replaced: run the same command again.")
        theirs, ours = content["arguments"]["ch_names"], self.store.ch_names
        changed = [
            *differences(_of_fold(content), _of_fold(self.identity)),
            *differences(dict(enumerate(theirs)), dict(enumerate(ours)), "ch_names.")[:1],
        ]
        if changed:
            raise UserError(
                f"{shown(path)} is of another fold or task than this run, and differs in "
                f"{', '.join(changed)}: {remedy}"
            )
        certified = path.with_name("leakage.json")
        admits = certified.is_file() and read_object(certified, remedy).get("leaky") is True
        frames = Frames(self.store, torch.device("cpu"), self.split.leaky)
        problem = leakage.foreign_data(content, frames, self.split, admits)
        if problem:
            raise UserError(f"{shown(path)} is not of this run's split: {problem}: {remedy}")
        self.upstream[stage] = content
        return file_hash[:16]

    def _refuse_other_run(self) -> None:
        """Refuse to go on with what another run has left in the directory."""
        begun = [name for name in _FILES if (self.dir / name).is_file()]
        if self.config.restart or not begun:
            return
        path = self.dir / "config.json"
        if not path.is_file():
            raise UserError(
                f"{shown(self.dir)} holds {begun[0]} but no config.json to say of which run: begin "
                "anew with --restart."
            )
        there = read_json(path)
        check(there, _CONFIG, path, "begin anew with --restart.")
        changed = differences({key: there[key] for key in self.identity}, self.identity)
        if changed:
            raise UserError(
                f"{shown(self.dir)} holds a run that differs in {', '.join(changed)}: give the "
                "same settings to go on with it, --restart to replace it, or another --runs-dir."
            )
        if (self.dir / "state.pt").is_file() and not self._done:
            self.read_state()  # before anything is made that takes long

    @property
    def begin_anew(self) -> str:
        """What mends a run that cannot be gone on with."""
        return f"begin anew with: {self.command(self.stage)} --restart"

    def read_state(self) -> dict[str, Any]:
        """Read ``state.pt``.

        Raises
        ------
        UserError
            If it is damaged, or of another run.
        """
        path = self.dir / "state.pt"
        state = checkpoints.load_state(path, self.begin_anew)
        changed = differences(state["of"], self.identity)
        if changed:
            raise UserError(
                f"{shown(path)} is of another run, which differs in {', '.join(changed)}: "
                f"{self.begin_anew}"
            )
        return state

    def _claim(self) -> None:
        """Make the directory this run's; it is this process's already."""
        if self.config.restart:
            with writing(self.dir):
                remove_folder(self.dir)
        self._refuse_other_run()  # in which case another process has been quicker
        if self._done:
            return
        path, now = self.dir / "config.json", environment(self.compute)
        for left in self.dir.glob(".*.tmp"):  # of a process that was killed while writing
            left.unlink(missing_ok=True)
        if not path.is_file():
            make_folder(self.dir)
            write_json(path, {**self.identity, "environment": now})
        else:
            changed = differences(read_json(path)["environment"], now)
            if changed:
                self.log(
                    f"This run was begun elsewhere, so that its last digits may be others than "
                    f"without the interruption: {', '.join(changed)}."
                )


def read_model(path: Path, stage: str, remedy: str) -> dict[str, Any]:
    """Read the ``model.pt`` of a stage's run, as `checkpoints.load_model` does.

    Raises
    ------
    UserError
        As that does; or if it is not of the run that the ``config.json`` beside it describes.
    """
    content = checkpoints.load_model(path, stage, remedy)
    beside = read_object(path.with_name("config.json"), remedy)
    changed = differences(
        {key: content[key] for key in _IDENTITY}, {key: beside.get(key) for key in _IDENTITY}
    )
    if changed:
        raise UserError(
            f"{shown(path)} is not of the run that the config.json beside it describes; it "
            f"differs in {', '.join(changed)}: {remedy}"
        )
    return content


def _of_fold(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a run's identity that the stages of a fold share."""
    return {
        **{name: identity["settings"].get(name) for name in _OF_FOLD},
        "store_hash": identity["store_hash"],
        "split_fingerprint": identity["split_fingerprint"],
    }


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


def _plain(config: Any) -> dict[str, Any]:
    """Return the settings that shape a result, as JSON would hold them."""
    settings = dataclasses.asdict(config)
    return json.loads(json.dumps({k: v for k, v in settings.items() if k not in _PLACES}))


def environment(compute: Compute) -> dict[str, Any]:
    """Return what a result depends on besides the settings and the data.

    Returns
    -------
    dict
        The versions of Python and of packages; the ``platform``; how networks ``compute``, see
        `Compute.description`; the git ``commit`` of the code and whether it was ``modified`` since,
        both None outside of a git checkout.
    """
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # with the build, of which its package need not tell
        **{name: version(name) for name in ("numpy", "scipy", "scikit-learn")},
        "platform": platform.platform(),
        **compute.description,
        "commit": _git("rev-parse", "HEAD"),
        "modified": None if status is None else bool(status),
    }


def _git(*arguments: str) -> str | None:
    """Return what a git command says of this repository, or None if it is not in git."""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout.strip()
