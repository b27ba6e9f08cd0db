"""The workflow: its graph, a small study in full, what stopping and mistakes do, its profiles."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from snakemake.common.configfile import load_configfile
from snakemake.logging import LogEvent

from de3dgan.base import recipe
from de3dgan.base.errors import UserError
from de3dgan.base.recipe import N_FOLDS, SCRIPTS
from de3dgan.data.synthetic import write_store
from tests.conftest import FOLDERS, ROOT, TINY, contents
from tests.helpers import one_line

sys.path.append(str(ROOT / "workflow"))

import progress  # noqa: E402
import run  # noqa: E402
import study  # noqa: E402

PROFILES = ROOT / "workflow" / "profiles"
AUGMENTATIONS = ("", "-none", "-real", "-jitter", "-noise", "-surrogate", "-shuffled")
FOLD = "folds520/seed1/valence/trial/fold0"
#: A study that takes seconds per stage.
SMALL = {
    "tasks": "valence",
    "protocol": "trial",
    "seeds": 1,
    "folds": 0,
    "augmentations": "generated none",
    **{f"{stage}_epochs": 1 for stage in TINY},
    **{f"{stage}_flags": " ".join(flags) for stage, flags in TINY.items()},
}


def command(folder: Path, *options: object, **settings: object) -> list[str]:
    """Return the command of a study in `folder`, as make study has it."""
    settings = {"runs": folder / "runs", "features": folder / "features", **settings}
    return [
        *(sys.executable, str(ROOT / "workflow" / "run.py")),
        *("--cores", "1", *map(str, options)),
        *("--config", *(f"{name}={value}" for name, value in settings.items())),
    ]


def snakemake(
    folder: Path, *options: object, **settings: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *options, **settings),
        cwd=folder,  # not the repository: it works from anywhere
        capture_output=True,
        text=True,
        timeout=300,
    )


def default_config() -> dict:
    return load_configfile(ROOT / "workflow" / "config.yaml")


# --- the graph


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Return the paper's study with two seeds of folds and two of training.

    The label of each job, and what it waits for.
    """
    folder = tmp_path_factory.mktemp("graph")
    seeds = {"fold_seeds": "1 2", "seeds": "2 3"}
    done = snakemake(folder, "--dag", tasks="valence arousal four_class", **seeds)
    assert done.returncode == 0, done.stderr
    labels = dict(re.findall(r'^\t(\d+)\[label = "(.*?)"', done.stdout, re.M))
    needs = {job: set() for job in labels}
    for before, after in re.findall(r"^\t(\d+) -> (\d+)$", done.stdout, re.M):
        needs[after].add(before)
    return labels, needs


def test_the_papers_study_has_as_many_jobs_as_arithmetic_says(graph):
    labels, _ = graph
    folds = 3 * 5 * 2 * 2  # tasks, folds, seeds of folds, seeds of training
    assert Counter(label.split("\\n")[0] for label in labels.values()) == {
        "preprocess": 1,
        "gan": folds,
        "classifier": folds,
        "finetune": folds * len(AUGMENTATIONS),
        "report": 1,
        "study": 1,
    }


def test_a_stage_waits_for_the_checkpoints_of_its_own_fold_and_for_nothing_else(graph):
    labels, needs = graph

    def named(job: str) -> tuple[str, tuple[str, ...]]:
        rule, *wildcards = labels[job].split("\\n")
        if rule == "gan" and len(wildcards) == 1:  # Snakemake leaves out what is as in its input
            trained = next(before for before in needs[job] if labels[before].startswith("gan"))
            wildcards = [*named(trained)[1][:-1], *wildcards]
        return rule, tuple(wildcards)

    store = next(job for job in labels if named(job)[0] == "preprocess")
    tuned = Counter()
    for job in labels:
        rule, wildcards = named(job)
        if rule in ("gan", "classifier"):
            # Generators are trained for the first task; those of others wait for it, to take it.
            others = [named(before) for before in needs[job] - {store}]
            is_first = rule == "classifier" or "task: valence" in wildcards
            assert others == ([] if is_first else [("gan", (*wildcards[:-1], "task: valence"))])
            assert [w.split(":")[0] for w in wildcards] == [
                "fold",
                "fold_seed",
                "protocol",
                "seed",
                "task",
            ]
        elif rule == "finetune":
            (_, of_gan), (_, of_classifier) = sorted(
                named(before) for before in needs[job] - {store}
            )
            assert {named(b)[0] for b in needs[job]} == {"preprocess", "gan", "classifier"}
            assert of_gan == of_classifier
            tuned[of_gan, wildcards] += 1
        elif rule == "report":
            assert len(needs[job]) == 60 * 9
    assert len(tuned) == 60 * 7
    assert {w for _, w in tuned} == {(f"control: {name}",) for name in AUGMENTATIONS}


# --- a small study, in full


def with_store(folder: Path) -> Path:
    """Write a store that a study in a folder takes for finished; return the folder."""
    write_store(folder / "features" / "study-deap")
    (folder / "runs").mkdir()
    (folder / "runs" / "store-deap.cksum").write_text("as if made of recordings\n")
    return folder


@pytest.fixture(scope="module")
def studied(tmp_path_factory) -> Path:
    """Return the folder of a finished study; not to be changed."""
    folder = with_store(tmp_path_factory.mktemp("study"))
    done = snakemake(folder, data_dir=folder / "none", **SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert all(line.isprintable() for line in lines)  # nothing that only a terminal understands
    shown = [line for line in lines if line.startswith("gan ")]
    assert len(shown) == 4
    assert max(map(len, shown)) < 80
    assert re.match(r"gan 1/1, classifier 1/1, finetune 2/2 \| .*, 0 s left \| ", shown[-1])
    assert done.stdout.endswith(f"{folder / 'runs' / 'report' / 'report.html'}\n")
    assert "epoch" in (folder / "runs" / progress.LOG).read_text()
    return folder


@pytest.fixture
def again(studied, tmp_path) -> dict[str, object]:
    """Return the settings of that study, with a copy of its runs that may be changed."""
    runs = shutil.copytree(studied / "runs", tmp_path / "runs")
    return {
        **SMALL,
        "data_dir": studied / "none",
        "features": studied / "features",
        "runs": runs,
    }


def test_a_study_ends_with_a_report_and_is_not_done_again(studied, again, tmp_path):
    runs = again["runs"]
    assert "Task valence, protocol trial" in (runs / "report" / "report.html").read_text()
    stages = {path.parent.name for path in runs.glob(f"{FOLD}/*/result.json")}
    assert stages == {"gan", "classifier", "finetune", "finetune-none"}
    before = contents(runs / "folds520" / "seed1")
    done = snakemake(tmp_path, **again)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stderr
    assert contents(runs / "folds520" / "seed1") == before


@pytest.mark.slow
def test_other_settings_are_refused_again_and_again_and_change_nothing(again, tmp_path):
    runs = again["runs"]
    before = without_checksums(runs)
    for _ in range(2):
        done = snakemake(tmp_path, **{**again, "finetune_epochs": 2})
        assert done.returncode == 2
        last = done.stderr.splitlines()[-1]
        assert last.startswith("Error: ")
        assert "holds a run that differs in settings.epochs (1 there, 2 now)" in last
    assert without_checksums(runs) == before


@pytest.mark.slow
def test_what_was_finished_without_the_workflow_is_taken_over(again, tmp_path):
    runs = again["runs"]
    before = without_checksums(runs)
    shutil.rmtree(runs / ".snakemake")
    for path in runs.glob(f"{FOLD}/*/*.cksum"):
        path.unlink()
    done = snakemake(tmp_path, f"{FOLD}/classifier/model.cksum", **again)
    assert done.returncode == 0, done.stderr
    assert "classifier is finished: " in (runs / progress.LOG).read_text()
    assert without_checksums(runs) == before


@pytest.mark.slow
def test_a_checkpoint_that_is_made_anew_is_noticed_by_what_was_made_of_the_old_one(again, tmp_path):
    shutil.rmtree(again["runs"] / FOLD / "classifier")
    done = snakemake(tmp_path, **{**again, "classifier_epochs": 2})
    assert done.returncode == 2
    assert "gan 0/0" not in done.stderr and "classifier 1/1" in done.stderr
    assert "differs in upstream.classifier" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_store_is_made_of_recordings_once_and_again_if_there_are_more(deap_dir, tmp_path):
    recordings = shutil.copytree(deap_dir, tmp_path / "recordings")
    settings = {**SMALL, "data_dir": recordings}
    first = snakemake(tmp_path, "store-deap.cksum", **settings)
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "features" / "study-deap" / "manifest.json").is_file()
    edge = tmp_path / "runs" / "store-deap.cksum"
    made = edge.read_text()
    assert "Nothing to be done" in snakemake(tmp_path, edge.name, **settings).stderr

    shutil.copy(recordings / "s01.dat", recordings / "s20.dat")
    more = snakemake(tmp_path, edge.name, **settings)
    assert more.returncode == 0, more.stderr
    assert edge.read_text() != made


def without_checksums(runs: Path) -> dict[str, str]:
    """Return the contents of runs less those of the graph's edges, and folders' names."""
    return {
        name: content
        for name, content in contents(runs / "folds520" / "seed1").items()
        if not name.endswith(".cksum")
    }


# --- stopping


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "control"),
    [(signal.SIGKILL, "noise"), (signal.SIGINT, "surrogate"), (signal.SIGTERM, "shuffled")],
)
def test_a_stopped_study_goes_on_where_it_was_and_redoes_nothing(stop, control, again, tmp_path):
    """The signal comes to all processes, as from a terminal or a cluster."""
    fold = again["runs"] / FOLD
    finished = {stage: contents(fold / stage) for stage in ("gan", "classifier")}
    settings = {**again, "augmentations": control, "finetune_epochs": 5000}
    metrics = fold / f"finetune-{control}" / "metrics.jsonl"

    def n_epochs_done() -> int:
        return metrics.read_text().count("\n") if metrics.is_file() else 0

    def run_until(n_epochs: int, signal_number: int) -> str:
        """Run the study, stop it when there are so many epochs, and return what it said."""
        (again["runs"] / progress.LOG).unlink()
        with open(tmp_path / "log", "w") as log:
            process = subprocess.Popen(
                command(tmp_path, **settings),
                cwd=tmp_path,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for(lambda: n_epochs_done() >= n_epochs, process)
        finally:
            os.killpg(process.pid, signal_number)
        assert process.wait(60) != 0
        return (again["runs"] / progress.LOG).read_text() + (tmp_path / "log").read_text()

    said = run_until(3, stop)
    if stop == signal.SIGINT:
        assert said.splitlines()[-1] == "Stopped. The same command goes on from there."
    if stop != signal.SIGKILL:  # the script saves, and then it gives its lock back
        wait_for(lambda: not (fold / f".finetune-{control}.lock").exists())
    so_far, n_so_far = metrics.read_text(), n_epochs_done()
    output = run_until(n_epochs_done() + 3, signal.SIGKILL)
    assert metrics.read_text().startswith(so_far)
    assert f"Going on after epoch {n_so_far} of 5000" in output
    assert "generator" not in output and "fold 0: classifier" not in output
    assert {stage: contents(fold / stage) for stage in finished} == finished


def wait_for(condition, process: subprocess.Popen | None = None, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        assert process is None or process.poll() is None, "it has ended"
        time.sleep(0.02)


# --- how far it is


def event(kind: LogEvent, **fields: object) -> logging.LogRecord:
    """Return a record as Snakemake logs it."""
    return logging.makeLogRecord({"msg": "", "event": kind, **fields})


@pytest.fixture
def shown(tmp_path, monkeypatch) -> progress.Progress:
    """Return the line of a study of two folds whose clock stands still, and is set by hand."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.chdir(tmp_path)
    line = progress.Progress(io.StringIO())
    line.now = now
    return line


def job(line: progress.Progress, number: int, rule: str, output: str, seconds: float) -> None:
    """Have a job begin and end."""
    line.filter(event(LogEvent.JOB_INFO, jobid=number, rule_name=rule, output=[output]))
    line.now[0] += seconds
    line.filter(event(LogEvent.JOB_FINISHED, job_id=number))


def test_the_line_says_what_is_done_how_long_it_takes_and_what_was_found(shown, tmp_path):
    with shown.shown():
        n_jobs = {"preprocess": 1, "gan": 2, "classifier": 2, "finetune": 14, "total": 19}
        shown.filter(event(LogEvent.RUN_INFO, stats=n_jobs))
        assert shown.line() == ("gan 0/2, classifier 0/2, finetune 0/14 | 0 s, end not known yet")
        job(shown, 1, "gan", "folds520/gan/model.cksum", 600)
        assert shown.line().endswith(" | 10 min, at least 10 min left")
        folder = tmp_path / "folds520" / "classifier"
        folder.mkdir(parents=True)
        result = {"task": "valence", "fold": 3, "test": {"frame": {"balanced_accuracy": 0.814}}}
        (folder / "result.json").write_text(json.dumps(result))
        job(shown, 2, "classifier", "folds520/classifier/model.cksum", 300)
        job(shown, 3, "finetune", "folds520/finetune/model.cksum", 300)
    assert shown.line() == (
        "gan 1/2, classifier 1/2, finetune 1/14 | 20 min, 1 h 20 left | fold 3: 0.81"
    )
    told = shown._out.getvalue().splitlines()
    assert told[0] == f"What is done is in {tmp_path / progress.LOG}."
    assert len(told) == 4


def test_time_that_is_left_is_known_from_earlier_runs_and_shared_by_jobs_at_once(shown, tmp_path):
    folder = tmp_path / "folds520" / "seed1" / "valence" / "trial" / "fold0"
    for stage, seconds in {"gan": 100, "classifier": 50, "finetune-none": 40}.items():
        (folder / stage).mkdir(parents=True)
        (folder / stage / "result.json").write_text(json.dumps({"seconds": seconds}))
    with shown.shown():
        n_jobs = {"gan": 2, "classifier": 2, "finetune": 4, "total": 8}
        shown.filter(event(LogEvent.RUN_INFO, stats=n_jobs))
        assert "0 s, 8 min left" in shown.line()  # 460 s
        for number in (1, 2):
            start = {"jobid": number, "rule_name": "gan", "output": [f"{number}"]}
            shown.filter(event(LogEvent.JOB_INFO, **start))
        shown.now[0] += 60
    assert "1 min, 3 min left" in shown.line()  # (460 - 2 · 60) / 2 s


# --- reasons


def failed(job: int, *logs: Path) -> logging.LogRecord:
    """Return the record of a failed job, as Snakemake logs it."""
    fields = {"jobid": job, "output": [f"product {job}"], "log": [str(log) for log in logs]}
    return logging.makeLogRecord({"msg": "", "event": LogEvent.JOB_ERROR, **fields})


def test_sentences_of_failed_jobs_are_said_once_and_after_what_has_no_sentence(tmp_path):
    reasons = run.Reasons()
    for job in (1, 2):
        (tmp_path / f"{job}.reason").write_text("The disk is full.")
        assert reasons.filter(failed(job, tmp_path / f"{job}.reason"))
    reasons.filter(failed(3, tmp_path / "3.reason", tmp_path / "slurm.log"))
    reasons.filter(failed(4, tmp_path / "4.reason"))  # and is tried again
    reasons.filter(logging.makeLogRecord({"event": LogEvent.JOB_FINISHED, "job_id": 4}))
    assert reasons.sentences() == ["The disk is full."]
    assert reasons.unexplained() == [
        f"product 3 was not made, and no reason was given: see {tmp_path / 'slurm.log'}."
    ]


@pytest.mark.parametrize(
    ("said", "stopped"),
    [
        ("Terminating processes on user request, this might take some time.", True),
        ("CalledProcessError: Command 'x' returned non-zero exit status 130.", True),
        ("CalledProcessError: Command 'x' returned non-zero exit status 143.", True),
        ("CalledProcessError: Command 'x' returned non-zero exit status 2.", False),
    ],
)
def test_a_study_is_stopped_though_its_job_was_so_first(said, stopped):
    reasons = run.Reasons()
    reasons.filter(logging.makeLogRecord({"msg": said}))
    assert reasons.stopped == stopped


@pytest.mark.parametrize(
    "message",
    [
        'WorkflowError in file "Snakefile", line 3:\nAs it is.\n  File "Snakefile", line 3, in x',
        "Error: As it is.",
        "As it is.",
    ],
)
def test_of_a_mistake_between_jobs_the_sentence_is_kept(message):
    reasons = run.Reasons()
    reasons.filter(logging.makeLogRecord({"msg": message, "event": LogEvent.ERROR}))
    assert reasons.sentences() == ["As it is."]
    reasons.filter(failed(1))  # which Snakemake follows up with a mistake of its own
    assert reasons.sentences() == []


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has a folder in which nobody can write")
def test_a_study_needs_no_home_to_write_to(tmp_path):
    home = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    done = subprocess.run(
        command(tmp_path, "--dry-run", folds=0),
        cwd=tmp_path,
        env={**home, "HOME": "/proc"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# --- settings


def test_make_study_ends_with_the_sentence_about_a_mistake_in_the_settings():
    done = subprocess.run(
        ["make", "-o", ".venv/installed", "study", "TASK=sleep", f"RUN='{sys.executable}'"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    # After it, make says "Stop." in the user's language.
    assert 'Error: There is no task "sleep": choose from arousal, four_class, ' in last
    assert not list((ROOT / ".venv").glob("reason-*"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"task": "valence"}, 'no setting "task": choose from tasks, '),
        ({"tasks": ["valence", "sleep"]}, 'no task "sleep": choose from arousal, four_class, '),
        ({"tasks": ""}, "at least one of its tasks"),
        ({"folds": []}, "at least one of its folds"),
        ({"folds": "0 5"}, "folds must be a whole number, 0 to 4, and '5' is not"),
        ({"folds": 1.5}, "folds must be a whole number"),
        ({"seeds": None}, "at least one of its seeds"),
        ({"seeds": "a"}, "seeds must be a whole number, 0 to 4294967295, and 'a' is not"),
        ({"protocol": "person"}, 'no protocol "person": choose from random-frame, session, sub'),
        ({"method": "ours"}, 'no method "ours": choose from published, spectral'),
        ({"device": "tpu"}, 'no device "tpu"'),
        ({"augmentations": "mixup"}, 'no augmentation "mixup"'),
        ({"augmentations": "none people"}, "give --train-groups in gan_flags"),
        ({"gan_epochs": 0}, "gan_epochs must be a whole number, 1 or more, and 0 is not"),
        ({"at_once": 0}, "at_once must be a whole number"),
        ({"source": "nowhere"}, 'no source "nowhere": choose from bids, dea'),
        ({"tasks": "valence workload", "data_dir": "x"}, "data_dir is the folder of one source"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, sentence):
    with pytest.raises(UserError) as error:
        study.Study({**default_config(), **settings})
    assert sentence in one_line(error)


def test_settings_are_those_that_are_documented():
    assert set(default_config()) == set(study.SETTINGS)
    whole = study.Study(default_config())
    assert whole.folds == list(range(N_FOLDS))
    assert whole.stages == ["gan", "classifier", *(f"finetune{name}" for name in AUGMENTATIONS)]
    assert whole.runs == ROOT / "runs" / "study"
    assert whole.store("eegmat") == ROOT / "DE_feature" / "study-eegmat"
    published = study.Study({**default_config(), "method": "published"})
    assert published.runs == ROOT / "runs" / "study-published"
    assert published.flags["gan"] == "--method published"


def test_tasks_are_those_that_have_scripts_and_a_copy_is_one(tmp_path, monkeypatch):
    whole = study.Study({**default_config(), "tasks": list(map(str.lower, FOLDERS))})
    sources = {task: whole.source(task) for task in whole.tasks}
    deap = dict.fromkeys(("valence", "arousal", "four_class"), "deap")
    assert sources == {**deap, "workload": "eegmat", "seed": "seed"}
    for name, folder in FOLDERS.items():
        for stage in SCRIPTS:
            assert whole.script(stage, name.lower()).is_file()
            assert whole.script(stage, name.lower()).parent == folder

    copy = tmp_path / "Dominance-main"
    copy.mkdir()
    for path in FOLDERS["Arousal"].glob("*.py"):
        text = path.read_text().replace("arousal", "dominance")
        (copy / path.name.replace("Arousal", "Dominance")).write_text(text)
    monkeypatch.setattr(recipe, "ROOT", tmp_path)
    own = study.Study({**default_config(), "tasks": "dominance"})
    assert own.script("finetune", "dominance").is_file()
    assert own.sources == ["deap"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        (
            ["TASK=workload", "DATA_DIR=a b", "SEEDS=1 2", "PROTOCOL=trial", "AT_ONCE=3"],
            'tasks="workload" data_dir="a b" protocol="trial" seeds="1 2" at_once="3"'.split(),
        ),
        (
            "METHOD=published GAN_EPOCHS=3 CLASSIFIER_EPOCHS=2 FINETUNE_EPOCHS=1".split(),
            'method="published" gan_epochs="3" classifier_epochs="2" finetune_epochs="1"'.split(),
        ),
    ],
)
def test_make_study_hands_its_settings_over(given, expected):
    make = ["make", "--no-print-directory", "-n", "study", *given]
    shown = subprocess.run(make, cwd=ROOT, capture_output=True, text=True).stdout
    assert "--workflow-profile workflow/profiles/default" in shown
    config = shown.partition("--config")[2].split()
    assert config == " ".join(expected).split()
    for name in re.findall(r"(\w+)=", " ".join(config)):
        assert name in study.SETTINGS


# --- profiles


def test_both_profiles_agree_on_what_is_done_again_and_slurm_has_resources_for_each_rule():
    here, slurm = (
        load_configfile(PROFILES / name / "config.yaml") for name in ("default", "slurm")
    )
    common = ("rerun-triggers", "rerun-incomplete", "nolock", "scheduler", "quiet")
    assert {name: here[name] for name in common} == {name: slurm[name] for name in common}
    rules = set(
        re.findall(r"^rule (\w+):", (ROOT / "workflow" / "Snakefile").read_text(), re.M)
    ) - {"study"}
    assert set(slurm["set-resources"]) == rules
    for rule, resources in slurm["set-resources"].items():
        expected = {"mem_mb", "runtime"} | ({"gpu"} if rule in SCRIPTS else set())
        assert set(resources) == expected, rule
    assert set(slurm["set-threads"]) == rules - {"report"}
    profile = (PROFILES / "slurm" / "config.yaml").read_text()
    plugin = re.search(r"snakemake-executor-plugin-slurm==[\d.]+\d", profile)[0]
    assert plugin in (ROOT / "docs" / "studies.md").read_text()


def test_the_slurm_profile_is_one_that_snakemake_reads(tmp_path):
    """With its executor if that is installed, which it need not be here."""
    has_plugin = find_spec("snakemake_executor_plugin_slurm") is not None
    executor = [] if has_plugin else ["--executor", "local"]
    done = snakemake(
        tmp_path, "--dry-run", "--workflow-profile", PROFILES / "slurm", *executor, folds=0
    )
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^finetune +{len(AUGMENTATIONS)}$", done.stdout, re.M)
