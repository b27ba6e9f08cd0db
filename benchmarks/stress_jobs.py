"""Jobs that the stress commands start, stop and look at: every stage, and preprocessing."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.documents import table
from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.base.recipe import find_scripts, flag_words, load_script

#: What the audit hook sees of files.
_ACCESSES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
#: Files whose bytes an interruption must not change. Not among them: what tells of time.
_RESULTS = (
    *("model.pt", "metrics.jsonl", "predictions.csv", "baselines.csv", "leakage.json"),
    *("manifest.json", "trials.csv", "eeg.npy", "baseline.npy", "de.npy", "baseline_de.npy"),
)


#: Settings that make the networks of each stage tiny, by method and stage.
_CLASSIFIER = {"widths": (8, 8, 8, 8, 8), "n_features": 8}
_CRITIC = {"critic_widths": (8, 8, 8, 8, 8), "critic_hidden": 8, "critic_every": 2}
TINY: dict[str, dict[str, dict[str, Any]]] = {
    "spectral": {
        "gan": {"widths": (8, 8, 8, 8)},
        "classifier": _CLASSIFIER,
        "finetune": {},
    },
    "published": {
        "gan": {"widths": (4, 4, 4, 4), **_CRITIC},
        "classifier": _CLASSIFIER,
        "finetune": {},
    },
}


@dataclass(frozen=True)
class Job:
    """A command of the repository."""

    name: str  # in tables
    script: Path
    flags: dict[str, Any]  # where {at} stands for the folder it works in
    out: str  # the folder that it fills, below that one

    def words(self, at: Path) -> list[str]:
        """Return the words of its command line."""
        flags = {k: v.format(at=at) if isinstance(v, str) else v for k, v in self.flags.items()}
        return [str(self.script), *shlex.split(" ".join(flag_words(flags, None)))]


def _stage_job(stage: str, method: str) -> Job:
    places = {"data_dir": "{at}/store", "runs_dir": "{at}/runs"}
    flags = {**places, "method": method, "epochs": 3, **TINY[method][stage]}
    script = find_scripts(stage)["valence"]
    return Job(f"{stage}, {method}", script, flags, f"runs/valence/trial/fold0/{stage}")


_RECORDINGS = {"source": "deap", "data_dir": "{at}/recordings", "out_dir": "{at}/made", "jobs": 1}
JOBS = [
    Job("preprocessing", ROOT / "preprocess_de.py", _RECORDINGS, "made"),
    *(_stage_job(stage, method) for method, stages in TINY.items() for stage in stages),
]


@dataclass(frozen=True)
class CleanRun:
    """A job that was not disturbed, to which those that are can be compared."""

    job: Job
    before: Path  # the folder it works in, as it was
    after: Path  # and as it is
    seconds: float  # how long it took
    n_accesses: int  # how often it used its files

    def lost(self, at: Path) -> str | None:
        """Run the job again where it was disturbed; return what differs then, or None."""
        code, _ = start(self.job, at)
        if code:
            return f"the command then failed: {(at / 'log').read_text()[-2000:]}"
        left = [path for path in at.rglob("*") if path.suffix in (".tmp", ".lock", ".new", ".old")]
        if left:
            return f"{left[0].name} is left"
        for name in _RESULTS:
            ours, theirs = at / self.job.out / name, self.after / self.job.out / name
            if theirs.is_file() and ours.read_bytes() != theirs.read_bytes():
                return f"{name} is another one"
        return None


def clean_runs(folder: Path, names: Collection[str]) -> Iterator[CleanRun]:
    """Run every job in `folder`, each after those that it needs, and yield those of `names`."""
    # Imported once: children are copies of this process, and start within milliseconds.
    import de3dgan.figures.eeg  # noqa: F401
    import de3dgan.training.run  # noqa: F401

    before, after = folder / "before", folder / "after"
    write_data(after)
    for job in JOBS:
        if not {job.name, job.name.replace(job.name.split(",")[0], "finetune")} & set(names):
            continue  # neither asked for nor needed
        if job.name.startswith("gan"):  # of another method than what is there
            shutil.rmtree(after / "runs", ignore_errors=True)
        shutil.copytree(after, before)
        begun = time.monotonic()
        code, n_accesses = start(job, after)
        if code:
            raise RuntimeError((after / "log").read_text())
        if job.name in names:
            yield CleanRun(job, before, after, time.monotonic() - begun, n_accesses)
        shutil.rmtree(before)


def disturbed(
    jobs: Collection[str],
    ways: Mapping[str, int],
    seen: str,
    disturb: Callable[[CleanRun, str, Path], tuple[int, str | None]],
) -> NoReturn:
    """Disturb each job in each way, print a table, and exit with 1 if anything was lost.

    Parameters
    ----------
    jobs : collection of str
        Names of the jobs.
    ways : mapping of str to int
        How often each job is disturbed in each way.
    seen : str
        What it is called if a job did not end with 0.
    disturb : callable
        Runs a job, in a way, in a folder that it makes and removes; returns the exit code, and what
        is wrong or None.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for clean in clean_runs(Path(folder), jobs):
            for way, n in ways.items():
                n_seen = n_lost = 0
                for _ in range(n):
                    code, wrong = disturb(clean, way, Path(folder, "at"))
                    n_seen += code != 0
                    n_lost += wrong is not None
                    if wrong:
                        print(f"{clean.job.name}, {way}: {wrong}", file=sys.stderr, flush=True)
                rows.append((clean.job.name, way, n, n_seen, n_lost))
                print(*rows[-1], file=sys.stderr, flush=True)
    print(*table(("stage", "how", "tried", seen, "lost"), rows), sep="\n")
    sys.exit(any(n_lost for *_, n_lost in rows))


def contents(folder: Path) -> dict[str, str]:
    """Return everything below a folder: directories, and files with a hash and their time."""
    return {
        str(path.relative_to(folder)): ""
        if path.is_dir()
        else f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}"
        for path in sorted(folder.rglob("*"))
    }


def torn(folder: Path) -> str | None:
    """Return what is not whole of what was left, or None."""
    from de3dgan.data.opening import open_store
    from de3dgan.training import checkpoints

    try:
        for path in folder.glob("*.pt"):
            checkpoints.load(path, "it is torn")
        for path in folder.glob("[!.]*.json*"):
            for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [""]:
                json.loads(line or path.read_text())
        if folder.name == "made":
            open_store(folder)
    except (UserError, ValueError) as error:
        return str(error)
    return None


def write_data(folder: Path) -> None:
    """Write recordings, a store of others that they replace, and a store to train on."""
    if (child := os.fork()) > 0:  # the process that forks must have no threads of its own
        os.waitpid(child, 0)
        return
    from de3dgan.data.preprocessing import build_store
    from de3dgan.data.simulation import Signal
    from de3dgan.data.synthetic import write_deap, write_store

    with _silent(os.devnull):
        write_store(folder / "store")
        write_deap(folder / "recordings", 1, Signal(n_trials=2, seed=1))
        build_store("deap", folder / "recordings", folder / "made", n_jobs=1)
        write_deap(folder / "recordings", 2, Signal(n_trials=2))
    os._exit(0)


def start(
    job: Job, at: Path, stop: tuple[int, int | None] | None = None, seconds: float = 0
) -> tuple[int, int]:
    """Run a job in a copy of this process, and stop it if asked to.

    `stop` is a signal and the access to a file before which SIGKILL comes; if that is None, the
    signal comes after some seconds. Return the exit code, negative for a signal, and how often the
    job used its files if it was not stopped.
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
        sys.argv = job.words(at)
        try:
            script = load_script(job.script)
            configs = (getattr(script, name, None) for name in ("Config", "Published"))
            command_line(script.main, *filter(None, configs))
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        counter.write_text(str(accesses))
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
