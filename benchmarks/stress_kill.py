"""Kill and interrupt every stage, and preprocessing, and see that nothing is lost.

    .venv/bin/python benchmarks/stress_kill.py --n 50 --seed 0

A stage is started on a small store, and stopped: by SIGKILL at a random moment, by SIGKILL just
before a random access to one of its files, by Ctrl-C, or by SIGTERM. What it has left must be whole
files, and the same command must then end with the bytes of a run that was never stopped.
"""

from __future__ import annotations

import json
import math
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from de3dgan.cli import command_line

#: What the audit hook sees of files.
_ACCESSES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
#: Files whose bytes an interruption must not change. Not among them: what tells of time.
_RESULTS = (
    *("model.pt", "metrics.jsonl", "predictions.csv", "baselines.csv", "leakage.json"),
    *("manifest.json", "trials.csv", "eeg.npy", "baseline.npy", "de.npy", "baseline_de.npy"),
)
#: Ways to stop: the signal, whether it comes at a random access to a file or after a time, and how
#: often, as a share of `Config.n`.
HOWS = {
    "SIGKILL at a random moment": (signal.SIGKILL, False, 0.5),
    "SIGKILL at a random file access": (signal.SIGKILL, True, 0.5),
    "Ctrl-C at a random moment": (signal.SIGINT, False, 0.2),
    "SIGTERM at a random moment": (signal.SIGTERM, False, 0.2),
}


@dataclass(frozen=True)
class Config:
    """How often."""

    n: int = 50  # times that each stage is killed; Ctrl-C and SIGTERM come a fifth as often
    seed: int = 0  # draws the moments


@dataclass(frozen=True)
class Job:
    """A command of the repository.

    Attributes
    ----------
    name : str
        In tables.
    script : str
        The script, below the repository.
    flags : str
        Its flags; ``{at}`` stands for the folder it works in.
    out : str
        The folder that it fills, below that one.
    """

    name: str
    script: str
    flags: str
    out: str


_WHERE = "--data-dir {at}/store --runs-dir {at}/runs --epochs 3"
_FOLD = "runs/valence/trial/fold0"
JOBS = [
    Job(
        "preprocessing",
        "preprocess_de.py",
        "--source deap --data-dir {at}/recordings --out-dir {at}/made --jobs 1",
        "made",
    ),
    *(
        Job(
            f"{stage}, {method}",
            f"{script}_Valence.py",
            f"{_WHERE} --method {method} {flags}",
            f"{_FOLD}/{stage}",
        )
        for method, of_gan in {
            "spectral": "--widths 8 8 8 8 --calibration-steps 2",
            "published": (
                "--widths 4 4 4 4 --critic-widths 8 8 8 8 8 --critic-hidden 8 --critic-every 2"
            ),
        }.items()
        for stage, script, flags in (
            ("gan", "3D-UNet_GAN", of_gan),
            ("classifier", "SA-ST_Net_Classifier", "--widths 8 8 8 8 8 --n-features 8"),
            ("finetune", "Finetune_Classifier", ""),
        )
    ),
]


def main(config: Config) -> None:
    """Print the table; exit with 1 if anything was lost."""
    from benchmarks.stress import table

    rows = run(config.n, config.seed)
    print(table(rows))
    sys.exit(any(row["lost"] for row in rows))


def run(n: int, seed: int) -> list[dict[str, object]]:
    """Kill every job `n` times, and interrupt it.

    Returns
    -------
    list of dict
        Per job and way: how often it was ``tried`` and ``stopped`` (rather than finished before),
        and how often something was ``lost``.
    """
    # Imported once: children are copies of this process, and start within milliseconds.
    import de3dgan.figures  # noqa: F401
    import de3dgan.run  # noqa: F401

    rng = random.Random(seed)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        clean, upstream = Path(folder, "clean"), None
        if (child := os.fork()) == 0:  # this process must have no threads, which are not copied
            _write_data(clean)
            os._exit(0)
        os.waitpid(child, 0)
        for job in JOBS:
            if job.name.startswith("gan"):
                shutil.rmtree(clean / "runs", ignore_errors=True)
            upstream = Path(shutil.copytree(clean, Path(folder, "upstream")))
            start = time.monotonic()
            code, n_accesses = _start(job, clean)
            seconds = time.monotonic() - start
            if code:
                raise RuntimeError((clean / "log").read_text())
            for how, (number, at_access, share) in HOWS.items():
                tried = math.ceil(n * share)
                row = {"stage": job.name, "how": how, "tried": tried, "stopped": 0, "lost": 0}
                for _ in range(tried):
                    at = Path(shutil.copytree(upstream, Path(folder, "at")))
                    stop = (number, rng.randrange(n_accesses) if at_access else None)
                    code, _ = _start(job, at, stop, rng.uniform(0, seconds))
                    row["stopped"] += code != 0
                    wrong = _wrong(job, at, clean, code, number)
                    if wrong:
                        row["lost"] += 1
                        print(f"{job.name}, {how}: {wrong}", file=sys.stderr, flush=True)
                    shutil.rmtree(at)
                rows.append(row)
                print(f"{row} ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)
            shutil.rmtree(upstream)
    return rows


def _wrong(job: Job, at: Path, clean: Path, code: int, number: int) -> str | None:
    """Return what an interruption has spoilt, or None: now, or once the command has run again."""
    expected = {0, -number} if number == signal.SIGKILL else {0, -number, 128 + number}
    if code not in expected:
        return f"exit code {code}: {(at / 'log').read_text()[-2000:]}"
    torn = _torn(at / job.out)
    if torn:
        return torn
    code, _ = _start(job, at)
    if code:
        return f"the command then failed: {(at / 'log').read_text()[-2000:]}"
    left = [path for path in at.rglob("*") if path.suffix in (".tmp", ".lock", ".new", ".old")]
    if left:
        return f"{left[0].name} is left"
    for name in _RESULTS:
        ours, theirs = at / job.out / name, clean / job.out / name
        if theirs.is_file() and ours.read_bytes() != theirs.read_bytes():
            return f"{name} is another one"
    return None


def _torn(folder: Path) -> str | None:
    """Return what is not whole of what was left, or None."""
    from de3dgan import checkpoints
    from de3dgan.errors import UserError
    from de3dgan.store import Store

    try:
        for path in folder.glob("*.pt"):
            checkpoints.load(path, "it is torn")
        for path in folder.glob("*.json*"):
            for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [""]:
                json.loads(line or path.read_text())
        if folder.name == "made":
            Store.open(folder)
    except (UserError, ValueError) as error:
        return str(error)
    return None


def _write_data(folder: Path) -> None:
    """Write recordings, a store of others that they replace, and a store to train on."""
    from de3dgan.preprocessing import build_store
    from de3dgan.synthetic import Signal, write_deap, write_store

    with _silent(os.devnull):
        write_store(folder / "store")
        write_deap(folder / "recordings", 1, Signal(n_trials=2, seed=1))
        build_store("deap", folder / "recordings", folder / "made", n_jobs=1)
        write_deap(folder / "recordings", 2, Signal(n_trials=2))


def _start(
    job: Job, at: Path, stop: tuple[int, int | None] | None = None, seconds: float = 0
) -> tuple[int, int]:
    """Run a job in a copy of this process, and stop it as `stop` says.

    Returns
    -------
    code : int
        Its exit code; that of a signal is negative.
    n_accesses : int
        How often it used its files, if it was not stopped.
    """
    counter = at / "accesses"
    child = os.fork()
    if child == 0:
        os._exit(_run_in_child(job, at, stop[1] if stop else None, counter))
    if stop and stop[1] is None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.002)
        os.kill(child, stop[0])
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, int(counter.read_text()) if counter.is_file() else 0


def _run_in_child(job: Job, at: Path, last_access: int | None, counter: Path) -> int:
    """Run a job's script as a user does; count accesses to its files, and die at the last one."""
    accesses = 0

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal accesses
        if event in _ACCESSES and any(str(at) in str(argument) for argument in arguments[:2]):
            if accesses == last_access:
                os.kill(os.getpid(), signal.SIGKILL)
            accesses += 1

    with _silent(at / "log"):
        sys.addaudithook(audit)
        sys.argv = [str(ROOT / job.script), *job.flags.format(at=at).split()]
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        done = accesses
        counter.write_text(str(done))
    return code


@contextmanager
def _silent(path: str | Path) -> Iterator[None]:
    """Send what is printed in the block, by other processes too, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with open(path, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), saved, strict=True):
            os.dup2(old, number)
            os.close(old)


if __name__ == "__main__":
    command_line(main, Config)
