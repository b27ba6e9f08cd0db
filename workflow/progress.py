"""One line that says how far a study is, when it ends, and what it has found last."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TextIO

from snakemake.logging import LogEvent
from tqdm import tqdm

from de3dgan.base.programs import SCRIPTS

#: File of a study's folder that has what Snakemake and the stages say.
LOG = "study.log"
#: Columns of the line: a terminal of 80, less that of its cursor.
_COLUMNS = 79
#: Seconds between changes of the line on a terminal while no job ends.
_TICK = 5


@dataclass
class _Job:
    """A job that has been started."""

    rule: str
    output: Path | None
    started: float


class Progress(logging.Filter):
    """Listens to what Snakemake logs, and shows it as one line.

    Jobs done and jobs to do of each stage, the time since the start and the time that is left, and
    the last balanced accuracy per frame. On a terminal the line is written anew in its place;
    elsewhere, as in a file, each job that ends adds one, without control characters. All else that
    is said goes to `LOG`. As long as no job of a kind has ended, neither now nor in an earlier run
    of the study, the time that is left is *at least* that of the others.

    Parameters
    ----------
    out : file
        Where the line is shown.
    """

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self.n_jobs: dict[str, int] = {}
        self.n_done: dict[str, int] = defaultdict(int)
        self.running: dict[int, _Job] = {}
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.found: tuple[str, ...] = ()
        self.log: Path | None = None
        self._out, self._began = out, time.monotonic()
        self._bar: tqdm | None = None
        self._over, self._lock = threading.Event(), threading.RLock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Take note of a record, and let it pass."""
        event = getattr(record, "event", None)
        with self._lock:
            if event == LogEvent.RUN_INFO:
                self.n_jobs = {rule: n for rule, n in record.stats.items() if rule != "total"}
                self._begin()
            elif event == LogEvent.JOB_INFO:
                output = Path(record.output[0]).absolute() if record.output else None
                self.running[record.jobid] = _Job(record.rule_name, output, time.monotonic())
            elif event == LogEvent.JOB_FINISHED and record.job_id in self.running:
                self._finished(self.running.pop(record.job_id))
            elif event == LogEvent.JOB_ERROR:
                self.running.pop(record.jobid, None)
        return True

    def line(self) -> str:
        """Return the line, of at most 79 characters."""
        kinds = [
            f"{stage} {self.n_done[stage]}/{self.n_jobs[stage]}"
            for stage in SCRIPTS
            if stage in self.n_jobs
        ]
        parts = [", ".join(kinds), f"{_duration(time.monotonic() - self._began)}, {self._left()}"]
        lines = [" | ".join([*parts, found]) for found in self.found] + [" | ".join(parts)]
        return next((line for line in lines if len(line) <= _COLUMNS), lines[-1][:_COLUMNS])

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the line in the block, and say in the end where everything is."""
        kept = [os.dup(stream) for stream in (1, 2)]
        try:
            yield
        finally:
            self._over.set()
            with self._lock:
                if self._bar is not None:
                    self._bar.close()
            for stream, descriptor in enumerate(kept, 1):
                (sys.stdout, sys.stderr)[stream - 1].flush()
                os.dup2(descriptor, stream)
                os.close(descriptor)

    def _begin(self) -> None:
        """Have everything but the line go to `LOG`; Snakemake is in the study's folder by now."""
        if self.log is not None:
            return
        self.log = Path(LOG).absolute()
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for stream, file in enumerate((sys.stdout, sys.stderr), 1):
            file.flush()
            os.dup2(descriptor, stream)
        os.close(descriptor)
        for path in self.log.parent.glob("folds*/seed*/*/*/fold*/*/result.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                seconds = float(json.loads(path.read_text(encoding="utf-8"))["seconds"])
                self.seconds[path.parent.name.partition("-")[0]].append(seconds)
        if self._out.isatty():
            self._bar = tqdm(
                bar_format="{desc}", file=self._out, ncols=_COLUMNS + 1, desc=self.line()
            )
            threading.Thread(target=self._tick, daemon=True).start()
        else:
            print(f"What is done is in {self.log}.", file=self._out, flush=True)

    def _tick(self) -> None:
        while not self._over.wait(_TICK):
            self._show()

    def _show(self) -> None:
        with self._lock:
            if self._bar is None:
                print(self.line(), file=self._out, flush=True)
            elif not self._over.is_set():
                self._bar.set_description_str(self.line())

    def _finished(self, job: _Job) -> None:
        self.n_done[job.rule] += 1
        self.seconds[job.rule].append(time.monotonic() - job.started)
        self.found = _result(job.output) or self.found
        if job.rule in SCRIPTS or job.rule == "preprocess":
            self._show()

    def _left(self) -> str:
        """Return how long it takes from now, in words."""
        seconds, known = 0.0, True
        for rule, n_jobs in self.n_jobs.items():
            n_left = n_jobs - self.n_done[rule]
            if rule in self.seconds:
                # The rest of those that run: they take as long as others have.
                spent = [
                    min(time.monotonic() - job.started, mean(self.seconds[rule]))
                    for job in self.running.values()
                    if job.rule == rule
                ]
                seconds += n_left * mean(self.seconds[rule]) - sum(spent)
            elif n_left and rule in SCRIPTS:
                known = False
        if not seconds and not known:
            return "end not known yet"
        share = sum(job.rule in SCRIPTS for job in self.running.values()) or 1
        return f"{'' if known else 'at least '}{_duration(seconds / share)} left"


def _result(output: Path | None) -> tuple[str, ...]:
    """Return what a classifier's run has found, in words and in fewer; nothing of other jobs."""
    path = output and output.with_name("result.json")
    if not (path and path.is_file()):
        return ()
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        score = f"fold {result['fold']}: {result['test']['frame']['balanced_accuracy']:.2f}"
        return f"{result['task']} {path.parent.name} {score}", f"{result['task']} {score}", score
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _duration(seconds: float) -> str:
    """Return seconds in words, such as "1 h 20"."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d}"
