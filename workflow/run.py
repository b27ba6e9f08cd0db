"""Run a study by Snakemake, and say in the end, in a sentence, why it has failed if it has.

    python workflow/run.py --config tasks="valence arousal"

It takes all options of ``snakemake``, and runs the Snakefile beside it. One line says how far it is
(`progress`); what Snakemake and the jobs say is in ``study.log`` of the study's folder. When a job
has failed, the sentence with which it has ended is far up there, or on another machine. Here it is
the last line. The exit code is 2 if there is something for a user to mend, as it is of all scripts,
and 130 if the study was stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from snakemake.cli import args_to_api, parse_args
from snakemake.exceptions import print_exception
from snakemake.logging import LogEvent

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from progress import Progress  # noqa: E402

from de3dgan.base.paths import USERS_FOLDER  # noqa: E402

#: The end of the name of the file in which a job leaves its sentence: its log, to Snakemake.
_REASON = ".reason"
#: What Snakemake says where it, or a job, was stopped: scripts exit with these codes then.
_STOPPED = re.compile(r"on user request|non-zero exit status (130|143)\b")


class Reasons(logging.Filter):
    """Listens to what Snakemake logs, for what a user should know in the end.

    Attributes
    ----------
    failed : dict of int to (str, list of Path)
        By job: what it was to make, and its logs.
    mistakes : list of str
        What the Snakefile, or Snakemake, found wrong itself.
    stopped : bool
        Whether the user has stopped it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failed: dict[int, tuple[str, list[Path]]] = {}
        self.mistakes: list[str] = []
        self.stopped = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Take note of a record, and let it pass."""
        event = getattr(record, "event", None)
        # A job may end before Snakemake has noticed what has stopped both.
        if _STOPPED.search(record.getMessage()):
            self.stopped = True
        if event == LogEvent.JOB_ERROR:
            logs = [Path(log).absolute() for log in record.log]  # Snakemake leaves this folder
            self.failed[record.jobid] = ", ".join(record.output), logs
        elif event == LogEvent.JOB_FINISHED:
            self.failed.pop(record.job_id, None)  # at another try
        elif event == LogEvent.ERROR:
            self.mistakes.append(_without_places(record.getMessage()))
        return True

    def sentences(self) -> list[str]:
        """Return the reasons, each once, for a user to mend."""
        if not self.failed:
            return list(dict.fromkeys(self.mistakes))
        reasons = [reason for _, logs in self.failed.values() for reason in _reasons(logs)]
        return list(dict.fromkeys(reasons))

    def unexplained(self, log: Path | None = None) -> list[str]:
        """Return where to look for the reason of what failed without a sentence, `log` or above."""
        lines = []
        for product, logs in self.failed.values():
            if not _reasons(logs):
                others = [str(log) for log in logs if log.suffix != _REASON]
                where = " and ".join(others) or str(log or "above")
                lines.append(f"{product} was not made, and no reason was given: see {where}.")
        return lines


def _reasons(logs: list[Path]) -> list[str]:
    """Return the sentences that a job has left."""
    left = [log for log in logs if log.suffix == _REASON and log.is_file()]
    return [reason for log in left if (reason := log.read_text(encoding="utf-8"))]


def _without_places(message: str) -> str:
    """Return what an exception says, without its name and the lines of code it comes from."""
    lines = re.sub(r"\A\w+( in .*)?:\s", "", message).splitlines()
    return " ".join(line.strip() for line in lines if not line.startswith('  File "'))


def run(arguments: list[str], reason_file: Path | None) -> NoReturn:
    """Run Snakemake, and exit.

    Parameters
    ----------
    arguments : list of str
        For ``snakemake``.
    reason_file : Path, optional
        Where to write the last line rather than to say it, and exit with 0: for ``make``, which
        would say something after it, and says this instead.
    """
    reason_file = reason_file and reason_file.absolute()  # Snakemake changes the folder
    os.environ[USERS_FOLDER] = os.getcwd()
    reasons, progress = Reasons(), Progress(os.fdopen(os.dup(2), "w"))
    logging.getLogger("snakemake.logging").addFilter(reasons)
    with _cache_folder(), progress.shown():
        parsed = _parsed(["--snakefile", str(HERE / "Snakefile"), *arguments], reasons)
        if parsed is not None and not parsed[1].dryrun:
            logging.getLogger("snakemake.logging").addFilter(progress)
        succeeds = parsed is not None and _succeeds(*parsed)
    if succeeds:
        if progress.log:
            print(f"Finished. The report: {progress.log.with_name('report') / 'report.html'}")
        sys.exit(0)
    if reasons.stopped:
        print("Stopped. The same command goes on from there.", file=sys.stderr)
        sys.exit(130)
    sentences = reasons.sentences()
    lines = [f"Error: {line}" for line in (*reasons.unexplained(progress.log), *sentences)]
    last = lines.pop() if lines and reason_file else None
    print("".join(f"{line}\n" for line in lines), end="", file=sys.stderr)
    if last:
        reason_file.write_text(last.rstrip("."), encoding="utf-8")
        sys.exit(0)
    sys.exit(2 if sentences else 1)


@contextlib.contextmanager
def _cache_folder() -> Iterator[None]:
    """Give Snakemake a cache of its own in the block where the user's cannot be written."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
    if os.access(cache, os.W_OK):
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        yield


def _parsed(arguments: list[str], reasons: Reasons) -> tuple[Any, Any] | None:
    """Return Snakemake's parser and what it makes of `arguments`; None, and why, of wrong ones.

    In the place of its page of usage there is its last line.
    """
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            parser, parsed = parse_args(arguments)
    except SystemExit as stop:
        if not stop.code:
            raise  # --help
        complaint = output.getvalue().splitlines()[-1].partition("error: ")[2]
        plugin = "a cluster needs a plugin, as docs/studies.md says"
        hint = plugin if "--executor" in complaint else "see --help"
        reasons.mistakes.append(f"{complaint}; {hint}.")
        return None
    print(output.getvalue(), end="", file=sys.stderr)
    return parser, parsed


def _succeeds(parser: Any, parsed: Any) -> bool:
    """Do what ``snakemake`` does."""
    try:
        return args_to_api(parsed, parser)
    except Exception as error:  # as its own main does
        print_exception(error)
        return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--reason-file", type=Path)
    known, others = parser.parse_known_args()
    run(others, known.reason_file)
