"""A run: one stage of one fold, and the directory that explains and reproduces it.

========================  =====================================================================
``config.json``           every setting, what the run depends on, and the versions it ran with
``log.txt``               what happened when
``metrics.jsonl``         a line per epoch
``state.pt``              what a stopped run goes on from
``model.pt``              the network of the chosen epoch, for the next stage
``predictions.csv``       test predictions, a row per frame (classifier stages)
``leakage.json``          the certificate of who has seen the test groups, see `leakage`
``CARD.md``               the model card: what it is, what was measured, its limits, in words
``result.json``           the figures; a run that has it is finished
``tensorboard/, *.png``   curves and figures; figures of leaky evaluations are ``*-leaky.png``
========================  =====================================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from de3dgan.base.errors import UserError
from de3dgan.base.files import append_line, differences, write_json, write_text
from de3dgan.base.paths import display_path, from_root
from de3dgan.base.recipe import Recipe
from de3dgan.base.seeds import seed_torch
from de3dgan.data.frames import Frames
from de3dgan.data.ledger import Ledger
from de3dgan.data.opening import open_store
from de3dgan.data.splits import Split, labels_and_split
from de3dgan.data.store import Store
from de3dgan.training import checkpoints, directory, distributed, model_card, sharing
from de3dgan.training.device import Compute, device_of, in_precision
from de3dgan.training.environment import environment, peak_rss_mib
from de3dgan.training.upstream import read_upstream


@dataclass(frozen=True)
class Run:
    """A run directory and everything that a stage needs to know.

    Attributes
    ----------
    config : Recipe
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
    state : dict
        What ``state.pt`` held when the run was opened, if it had been stopped; training takes it.
    before : dict
        What `spent` said when an earlier process stopped.
    started : float
        When this process began with it.
    quiet : bool
        Whether it shows nothing on the terminal and no curves: one that is part of a program.
    """

    config: Recipe
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
    state: dict[str, Any] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    quiet: bool = False

    @classmethod
    @contextmanager
    def open(
        cls,
        config: Recipe,
        stage: str,
        needs: tuple[str, ...] = (),
        variant: str | None = None,
        split_of: Callable[[Recipe, Store], tuple[np.ndarray, Split]] = labels_and_split,
    ) -> Iterator[Run]:
        """Open the run of `config`, a new one or one to go on with, and keep others from it.

        Parameters
        ----------
        config : Recipe
            The script's configuration.
        stage : str
            The stage it is of.
        needs : tuple of str
            Stages whose checkpoints it reads.
        variant : str, optional
            What sets it apart from the stage's usual run; its directory is <stage>-<variant>.
        split_of : callable, optional
            What draws the split, and says the class of each trial; by default, as the recipe asks.

        Raises
        ------
        UserError
            If the data, the fold or the device is not there, if a checkpoint that it reads is
            missing or does not fit, if the directory holds a run with other settings, or if
            another process is at it.
        """
        config.check()
        if (stage, config.method, config.protocol) == ("gan", "spectral", "random-frame"):
            raise UserError(
                "The random-frame protocol cuts trials into single seconds, and the generator "
                "learns from whole trials: choose another --protocol, or reproduce the paper with "
                "--method published."
            )
        store = open_store(from_root(config.data_dir))
        labels, split = split_of(config, store)
        whose = config.person or ""
        of_task = Path(config.protocol, whose, f"fold{config.fold}")
        fold_dir = from_root(config.runs_dir) / config.task / of_task
        run_dir = fold_dir / (f"{stage}-{variant}" if variant else stage)
        identity = {
            "stage": stage,
            "settings": config.settings(),
            "store_hash": store.hash,
            "split_fingerprint": split.fingerprint,
            "upstream": {},
        }
        device = device_of(config.device)
        upstream = {}
        for name in needs:
            upstream[name], identity["upstream"][name] = read_upstream(
                fold_dir / name / "model.pt", name, config.command(name), identity, store, split
            )
        if not config.restart:  # known before processes join, or anything is written
            directory.refuse_other_run(run_dir, identity)
        distributed.init(device)
        with directory.claimed(run_dir, identity, config.restart) as begun:
            said = ""
            if stage == "gan" and not config.restart:
                said = distributed.broadcast(_taken(run_dir, identity, of_task))
            compute, reason = in_precision(
                Compute(device, compile=config.compile),
                config.precision,
                begun and begun["environment"]["precision"],
            )
            ledger = Ledger(store.n_trials * store.n_frames)
            run = cls(config, stage, run_dir, store, labels, split, compute, ledger, identity)
            run.upstream.update(upstream)
            run._note_environment(begun, reason)
            if said:
                run.log(said)
            if not directory.is_finished(run_dir):  # a damaged state is known before anything long
                run.state.update(directory.read_state(run_dir, identity, run.begin_anew))
                run.before.update(run.state.get("spent", {}))
            seed_torch(config.seed, 0, f"{stage}: initial weights")
            yield run

    @property
    def device(self) -> torch.device:
        """Where networks are."""
        return self.compute.device

    @property
    def finished(self) -> bool:
        """Whether there is a result already; says so if there is."""
        finished = directory.is_finished(self.dir)
        if finished and distributed.is_main_process():
            print(
                f"{display_path(self.dir)} is finished: see result.json and the figures there, or "
                "begin anew with --restart."
            )
        return finished

    @property
    def title(self) -> str:
        """What figures and messages call the run, once certified; says so if it is leaky."""
        leaky = " (LEAKY: see leakage.json)" if self.certificate["leaky"] else ""
        whose = f", {self.config.person}" if self.config.person else ""
        protocol = f"protocol {self.split.protocol}{whose}"
        return f"{self.config.task}, {protocol}, fold {self.split.fold}{leaky}"

    def log(self, message: str) -> None:
        """Add a line to ``log.txt`` and to the terminal."""
        if distributed.is_main_process() and not self.quiet:
            tqdm.write(message)
        self.note(message)

    def _note_environment(self, begun: Mapping[str, Any] | None, reason: str) -> None:
        """Write ``config.json`` and why the precision is what it is, or what is other than there.

        Parameters
        ----------
        begun : dict, optional
            What ``config.json`` holds, if the run was begun before.
        reason : str
            Of the precision; empty if it was said or has been kept.
        """
        if directory.is_finished(self.dir) or not distributed.is_main_process():
            return
        now = environment(self.compute)
        if begun is None:
            directory.begin(self.dir, self.identity, now)
            if reason:
                self.log(reason)
        elif changed := differences(begun["environment"], now):
            self.log(
                "This run was begun elsewhere, so that its last digits may be others than "
                f"without the interruption: {', '.join(changed)}."
            )

    def note(self, message: str) -> None:
        """Add a line to ``log.txt``."""
        if distributed.is_main_process():
            append_line(self.dir / "log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}")

    def spent(self) -> dict[str, float]:
        """Return the time and the memory that the run has taken, over all its processes."""
        return {
            "seconds": self.before.get("seconds", 0) + time.monotonic() - self.started,
            "peak_rss_mib": max(self.before.get("peak_rss_mib", 0), peak_rss_mib()),
        }

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

    def write_result(self, **figures: Any) -> None:
        """Write ``result.json``, which makes the run a finished one."""
        if not distributed.is_main_process():
            return
        split = self.split
        result = {
            "task": self.config.task,
            "stage": self.stage,
            "protocol": split.protocol,
            "leaky": self.certificate["leaky"],
            "fold": split.fold,
            "person": self.config.person,
            "fold_seed": split.seed,
            "seed": self.config.seed,
            "reference": self.store.reference,
            "split_fingerprint": split.fingerprint,
            "n_train_trials": len(split.trials("train")),
            "n_val_trials": len(split.trials("val")),
            "n_test_trials": len(split.trials("test")),
            **figures,
            **{name: round(value, 1) for name, value in self.spent().items()},
            "environment": environment(self.compute),
        }
        write_text(self.dir / model_card.NAME, model_card.of_run(self.dir, result))
        write_json(self.dir / "result.json", result)  # the last: with it, the run is finished

    @property
    def begin_anew(self) -> str:
        """What mends a run that cannot be gone on with."""
        return f"begin anew with: {self.config.command()} --restart"


def _taken(folder: Path, identity: Mapping[str, Any], of_task: Path) -> str:
    """Take the generator of another task if there is one; say so, or why not, in a sentence.

    Parameters
    ----------
    folder : Path
        The run directory, <runs>/<task>/<of_task>/gan.
    identity : dict
        That of the run.
    of_task : Path
        Where a fold is in the folder of a task.
    """
    if not distributed.is_main_process() or directory.has_trained(folder):
        return ""
    started = time.monotonic()
    tasks = folder.parents[len(of_task.parts) + 1].iterdir()
    siblings = (task / of_task / folder.name for task in tasks)
    donor, why_not = sharing.finished_elsewhere(folder, siblings, identity)
    if donor is None:
        return why_not
    seconds = round(time.monotonic() - started, 1)
    sharing.take(
        donor, folder, identity, {"seconds": seconds, "peak_rss_mib": round(peak_rss_mib(), 1)}
    )
    return (
        f"Took the generator in {display_path(donor)}: it is of the same fold and settings, and "
        "sees no class. --restart trains one for this task."
    )
