"""The scripts, as a user runs them: recordings in, three stages, results out."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from de3dgan.data.labels import class_labels
from de3dgan.data.opening import open_store
from de3dgan.data.splits import make_split
from de3dgan.data.store import Store
from de3dgan.data.synthetic import write_store
from de3dgan.evaluation.names import CHOSEN, JUDGES
from de3dgan.reporting.summary import describe
from tests.conftest import (
    FOLDERS,
    METHODS,
    ROOT,
    STAGES,
    TINY,
    TINY_OF,
    contents,
    eeg_is_measured,
    load_script,
    nothing_is_drawn,
    read_lines,
    run_here,
    run_script,
    script_of,
)

SUMMARY = ROOT / "de3dgan" / "reporting" / "summary.py"
ORIGIN = (
    "task stage protocol leaky fold person fold_seed seed reference split_fingerprint "
    "n_train_trials n_val_trials n_test_trials best_epoch seconds peak_rss_mib environment"
).split()
#: What a result has of its own.
SCORED = ("test", "majority", "best", "artefact")
OWN = {
    "gan": {"quality", "judges", "membership"},
    "classifier": {*SCORED, "best_baseline", "artefact_baseline", "trial_sharpness"},
    "finetune": {*SCORED, "best_baseline", "artefact_baseline", "trial_sharpness"},
}
METRICS = {"accuracy", "balanced_accuracy", "macro_f1", "auc", "mcc", "kappa", "ece"}
METRICS |= {"within_auc"}
FILES = {
    "CARD.md",
    "config.json",
    "leakage.json",
    "log.txt",
    "metrics.jsonl",
    "model.pt",
    "result.json",
    "state.pt",
}
FIGURES = {
    "gan": {"traces.png", "spectrogram.png", "spectra.png", "de_maps.png", "learning_curves.png"},
    "classifier": {"confusion_matrix.png", "reliability.png", "learning_curves.png"},
    "finetune": {"confusion_matrix.png", "reliability.png", "learning_curves.png"},
}
#: Losses and validation figures of an epoch, by method; stage 3's are those of stage 2 and more.
LOSSES = {
    "spectral": "log_likelihood val_log_likelihood".split(),
    "published": "critic_gap generated_score reconstruction val_de_mae".split(),
    "classifier": "loss val_loss val_balanced_accuracy".split(),
}
#: Tasks whose generated EEG is measured as that of users is, and those whose figures are drawn.
MEASURED = ("valence", "published valence")
DRAWN = ("valence", "four_class")
RATINGS = {
    "valence": ("valence",),
    "published valence": ("valence",),
    "four_class": ("valence", "arousal"),
    "workload": ("arithmetic",),
}


@pytest.fixture(scope="module")
def eegmat_store(tmp_path_factory) -> Path:
    """Return the store of eight of the bundled people of EEGMAT."""
    recordings = tmp_path_factory.mktemp("recordings")
    for path in sorted((ROOT / "eeg_dataset" / "EEGMAT").glob("Subject*.edf"))[:16]:
        (recordings / path.name).symlink_to(path)
    folder = tmp_path_factory.mktemp("features") / "eegmat"
    args = ("--source", "eegmat", "--data-dir", recordings, "--out-dir", folder, "--jobs", 1)
    done = run_here(ROOT / "preprocess_de.py", *args, cwd=ROOT / "Workload-main")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def stores(eegmat_store, little_store) -> dict[str, Path]:
    """Return the store that each task is run on."""
    return {
        "valence": little_store,
        "four_class": little_store,
        "workload": eegmat_store,
        "published valence": little_store,
    }


@pytest.fixture(scope="module")
def runs(stores, tmp_path_factory) -> dict[str, Path]:
    """Return the fold directory of each task after its three stages.

    And that of "published valence", after those of the paper's method. One stage runs as a process.
    """
    folder = tmp_path_factory.mktemp("all")
    folds = {}
    for name in TASKS:
        task = "Valence" if "valence" in name else next(t for t in FOLDERS if t.lower() == name)
        method = "published" if "published" in name else "spectral"
        protocol = "subject" if task == "Workload" else "trial"
        folds[name] = folder / method / task.lower() / protocol / "fold0"
        for stage in STAGES:
            args = ["--runs-dir", folder / method, *TINY_OF[method][stage]]
            args += ["--epochs", n_epochs(name), "--protocol", protocol]
            args += ["--data-dir", stores[name]]
            run = run_script if (name, stage) == ("valence", "classifier") else run_here
            cwd = ROOT / "tests" if name == "valence" else FOLDERS[task]
            with contextlib.ExitStack() as stack:
                if name in MEASURED:
                    stack.enter_context(eeg_is_measured())
                if name not in DRAWN:
                    stack.enter_context(nothing_is_drawn())
                done = run(script_of(stage, task), *args, cwd=cwd)
            assert done.returncode == 0, done.stderr
    return folds


def n_epochs(task: str) -> int:
    return 2 if task == "valence" else 1


@pytest.fixture(scope="module")
def stimuli_store(tmp_path_factory) -> Path:
    """Return a store with stimuli enough to hold some out."""
    folder = tmp_path_factory.mktemp("stimuli") / "deap"
    return write_store(folder, stimuli=[f"video{k:02d}" for k in range(6)])


@pytest.fixture(scope="module")
def by_protocol(stimuli_store, tmp_path_factory) -> dict[str, Path]:
    """Return the classifier stage's directory for each other protocol.

    The seed of training is not that of the folds, which its trials must not depend on.
    """
    folder = tmp_path_factory.mktemp("protocols") / "runs"
    protocols = ("video", "subject", "random-frame")
    for protocol in protocols:
        args = ["--data-dir", stimuli_store, "--runs-dir", folder, "--epochs", 1]
        args += ["--protocol", protocol, "--seed", 1, *TINY["classifier"]]
        with nothing_is_drawn():
            done = run_here(script_of("classifier"), *args)
        assert done.returncode == 0, done.stderr
    return {p: folder / "valence" / p / "fold0" / "classifier" for p in protocols}


TASKS = ["valence", "four_class", "workload", "published valence"]


def read_predictions(folder: Path) -> dict[str, np.ndarray]:
    with open(folder / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    n_classes = len(rows[0]) - 4
    by_class = [f"p_{c}" for c in range(n_classes)]
    assert list(rows[0]) == ["trial", "frame", "label", *by_class, "subject"]
    columns = {name: np.array([int(row[name]) for row in rows]) for name in list(rows[0])[:3]}
    p = np.array([[float(row[f"p_{c}"]) for c in range(n_classes)] for row in rows])
    return {**columns, "p": p, "subject": np.array([row["subject"] for row in rows])}


def read_result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def split_of(store: Store, result: dict, ratings: tuple[str, ...]) -> tuple:
    labels = class_labels(store, ratings, 0.5 if ratings == ("arithmetic",) else 5)
    split = make_split(store, labels, result["protocol"], result["fold"], result["fold_seed"])
    return split, labels


@dataclasses.dataclass(frozen=True)
class Between:
    """Equals every number from `low` to `high`."""

    low: float
    high: float

    def __eq__(self, other: object) -> bool:
        return other is not None and self.low - 1e-9 <= other <= self.high + 1e-9

    @staticmethod
    def mean(several, weights=None) -> Between:
        several = list(several)
        ends = ([getattr(b, end) for b in several] for end in ("low", "high"))
        return Between(*(np.average(values, weights=weights) for values in ends))


def area(positive: np.ndarray, p: np.ndarray) -> Between:
    """Return the AUC, where what rounding may have made equal is told apart either way."""
    rounding = 2e-9 * positive
    return Between(*(metrics.roc_auc_score(positive, p + e) for e in (-rounding, rounding)))


def area_within(positive: np.ndarray, p: np.ndarray, persons: np.ndarray) -> Between | None:
    """Return the AUC over pairs of one person: each person's, weighted by their pairs."""
    each = [persons == person for person in np.unique(persons)]
    pairs = {i: positive[of].sum() * (~positive[of]).sum() for i, of in enumerate(each)}
    pairs = {i: n for i, n in pairs.items() if n}
    if not pairs:
        return None
    areas = (area(positive[each[i]], p[each[i]]) for i in pairs)
    return Between.mean(areas, weights=list(pairs.values()))


def scores(labels: np.ndarray, p: np.ndarray, persons: np.ndarray) -> dict[str, float]:
    """Compute the metrics anew, by scikit-learn's names and by definition."""
    predicted = p.argmax(1)
    recalls = [np.mean(predicted[labels == c] == c) for c in np.unique(labels)]
    if len(np.unique(labels)) < p.shape[1]:
        auc = None
    elif p.shape[1] == 2:
        auc = area(labels, p[:, 1])
    else:
        auc = Between.mean(area(labels == c, p[:, c]) for c in range(p.shape[1]))
    classes = [1] if p.shape[1] == 2 else range(p.shape[1])
    within = [area_within(labels == c, p[:, c], persons) for c in classes]
    return {
        "accuracy": np.mean(predicted == labels),
        "balanced_accuracy": np.mean(recalls),
        "macro_f1": metrics.f1_score(labels, predicted, average="macro", zero_division=0),
        "auc": auc,
        "within_auc": None if None in within else Between.mean(within),
        "mcc": metrics.matthews_corrcoef(labels, predicted),
        "kappa": metrics.cohen_kappa_score(labels, predicted),
        "ece": calibration_error(predicted == labels, p.max(1)),
    }


def calibration_error(right: np.ndarray, confidence: np.ndarray) -> float:
    edges = np.linspace(0, 1, 11)
    inside = [(confidence > a) & (confidence <= b) for a, b in zip(edges, edges[1:], strict=False)]
    return sum(abs(right[i].mean() - confidence[i].mean()) * i.mean() for i in inside if i.any())


def per_trial(
    trials: np.ndarray, labels: np.ndarray, p: np.ndarray, persons: np.ndarray, sharpness: float
) -> tuple:
    each = np.unique(trials)
    means = np.array([p[trials == t].mean(0) for t in each]) ** sharpness
    return (
        np.array([labels[trials == t][0] for t in each]),
        means / means.sum(1, keepdims=True),
        np.array([persons[trials == t][0] for t in each]),
    )


def is_png(path: Path) -> bool:
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 5000


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_directory_holds_what_the_design_lists(stage, task, runs):
    folder = runs[task] / stage
    figures = FIGURES[stage] if task in DRAWN else set()
    expected = FILES | figures | {"tensorboard"}
    if stage != "gan":
        expected |= {"predictions.csv"}
    if stage == "classifier":
        expected |= {"baselines.csv"}
    assert {path.name for path in folder.iterdir()} == expected
    assert all(is_png(folder / name) for name in figures)
    assert any(path.stat().st_size > 100 for path in (folder / "tensorboard").iterdir())
    lines = read_lines(folder / "metrics.jsonl")
    assert [line["epoch"] for line in lines] == list(range(n_epochs(task)))
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    method = "published" if "published" in task else "spectral"
    expected = LOSSES[method if stage == "gan" else "classifier"]
    left_out = "paired EEG is left out" in (folder / "log.txt").read_text()
    if stage == "finetune" and not left_out:
        expected = [*expected, "cross_entropy", "feature_distance"]
        if method == "spectral":
            expected.append("paired_cross_entropy")
    assert set(lines[0]) == {"epoch", *expected}
    settings = json.loads((folder / "config.json").read_text())["settings"]
    assert settings["method"] == method


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("stage", STAGES)
def test_result_json_has_exactly_the_promised_keys(stage, task, runs, stores):
    result = read_result(runs[task] / stage)
    assert set(result) == set(ORIGIN) | OWN[stage]
    store = open_store(stores[task])
    split, _ = split_of(store, result, RATINGS[task])
    assert (result["task"], result["stage"]) == (task.split()[-1], stage)
    assert result["protocol"] == ("subject" if task == "workload" else "trial")
    assert (result["leaky"], result["fold"]) == (False, 0)
    assert (result["fold_seed"], result["seed"]) == (520, 520)
    assert result["split_fingerprint"] == split.fingerprint
    counts = [result[f"n_{part}_trials"] for part in ("train", "val", "test")]
    assert counts == [len(split.trials(part)) for part in ("train", "val", "test")]
    assert sum(counts) == store.n_trials
    assert result["best_epoch"] in range(n_epochs(task))
    assert result["seconds"] > 0
    assert 100 < result["peak_rss_mib"] < 10_000
    if stage == "gan":
        check_quality(result, store.eeg[split.trials("test")], task)
    else:
        for kind in SCORED:
            assert set(result[kind]) == {"frame", "trial"}
            assert all(set(figures) == METRICS for figures in result[kind].values())
        for kind, candidates in CHOSEN.items():
            assert result[f"{kind}_baseline"] in candidates


def check_quality(result: dict, tested: np.ndarray, task: str) -> None:
    quality = result["quality"]
    assert set(quality) == {"real", "generated", "noise"}
    assert set(quality["noise"]["de_round_trip"]) == {"theta", "alpha", "beta", "gamma"}
    if "published" not in task:  # what is locked needs no training
        bands = quality["generated"]["de_round_trip"].values()
        assert all(f["correlation"] > 0.95 and abs(f["bias"]) < 0.05 for f in bands)
    if task in MEASURED:
        assert len({tuple(figures) for figures in quality.values()}) == 1
        assert set(result["judges"]) == set(quality)
        for eeg, figures in quality.items():
            for length, verdict in figures["judged"].items():
                said = result["judges"][eeg][length]
                assert set(said) <= set(JUDGES)
                assert verdict["auc"] == said[verdict["judge"]]["auc"]
        assert set(result["membership"]) == {"generated"}  # what was trained
        assert quality["real"]["amplitude_uv"] == pytest.approx(
            tested.std(axis=(1, 2)).mean(), rel=1e-4
        )


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("stage", ["classifier", "finetune"])
def test_predictions_cover_the_test_split_and_give_the_reported_metrics(stage, task, runs, stores):
    store = open_store(stores[task])
    check_predictions(runs[task] / stage, store, RATINGS[task])


@pytest.mark.parametrize("protocol", ["video", "subject", "random-frame"])
def test_every_protocol_gives_predictions_of_its_own_test_split(
    protocol, by_protocol, stimuli_store
):
    store, folder = open_store(stimuli_store), by_protocol[protocol]
    check_predictions(folder, store, ("valence",))
    result = read_result(folder)
    assert (result["protocol"], result["fold_seed"], result["seed"]) == (protocol, 520, 1)
    assert result["leaky"] == (protocol == "random-frame")
    assert ("LEAKY" in (folder / "log.txt").read_text()) == (protocol == "random-frame")
    column = {"video": "stimulus", "subject": "subject"}.get(protocol)
    if column:
        split, _ = split_of(store, result, ("valence",))
        groups = [
            {store.columns[column][t] for t in split.trials(part)}
            for part in ("train", "val", "test")
        ]
        assert sum(map(len, groups)) == len(set.union(*groups))


def check_predictions(folder: Path, store: Store, ratings: tuple[str, ...]) -> None:
    result, rows = read_result(folder), read_predictions(folder)
    split, labels = split_of(store, result, ratings)
    assert (rows["trial"] * store.n_frames + rows["frame"]).tolist() == split.test.tolist()
    assert rows["label"].tolist() == labels[rows["trial"]].tolist()
    assert rows["subject"].tolist() == [store.columns["subject"][t] for t in rows["trial"]]
    p = rows["p"]
    assert p.shape == (len(split.test), 2 ** len(ratings))
    assert np.abs(p.sum(1) - 1).max() < 1e-5
    assert p.min() >= 0

    units = {
        "frame": (rows["label"], p, rows["subject"]),
        "trial": per_trial(
            rows["trial"], rows["label"], p, rows["subject"], result["trial_sharpness"]
        ),
    }
    known = labels[split.trials("train")]
    frequencies = np.bincount(known, minlength=p.shape[1]) / len(known)
    for unit, (truth, probabilities, persons) in units.items():
        majority = np.tile(frequencies, (len(truth), 1))
        for name, predicted in (("test", probabilities), ("majority", majority)):
            reported, expected = result[name][unit], scores(truth, predicted, persons)
            for metric in ("auc", "within_auc"):
                assert expected.pop(metric) == reported.pop(metric), metric
            assert reported == pytest.approx(expected, abs=1e-6)


def test_the_random_frame_protocol_is_of_the_published_generator_only(little_store, tmp_path):
    args = ["--data-dir", little_store, "--runs-dir", tmp_path, "--protocol", "random-frame"]
    done = run_here(script_of("gan"), *args, *TINY["gan"])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--method published" in done.stderr


def test_the_stages_of_a_fold_test_on_the_same_trials(runs):
    for task in TASKS:
        prints = {read_result(runs[task] / stage)["split_fingerprint"] for stage in STAGES}
        assert len(prints) == 1


def test_preprocessing_twice_computes_nothing(deap_dir, deap_store):
    before = contents(deap_store)
    args = ("--source", "deap", "--data-dir", deap_dir, "--out-dir", deap_store, "--jobs", 1)
    done = run_here(ROOT / "preprocess_de.py", *args)
    assert done.returncode == 0
    assert "nothing to compute" in done.stdout
    assert contents(deap_store) == before


def test_the_mat_export_holds_the_de_of_the_store(deap_dir, deap_store, tmp_path):
    from scipy.io import loadmat

    from de3dgan.data.mat_export import export_mat
    from de3dgan.eeg.montage import grid_cells

    store = open_store(deap_store)
    export_mat(store, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    content = loadmat(tmp_path / "s02.mat")
    trials = [t for t, s in enumerate(store.columns["subject"]) if s == "s02"]
    data = content["data"].reshape(len(trials), 120, 4, 72)[..., grid_cells(store.ch_names)]
    np.testing.assert_array_equal(data, store.de[trials].swapaxes(1, 2))
    high = np.repeat(store.rating("arousal")[trials] > 5, 120)
    np.testing.assert_array_equal(content["arousal_labels"].ravel(), high)


@pytest.mark.parametrize("stage", STAGES)
def test_a_finished_run_says_so_and_changes_nothing(stage, runs, stores):
    folder = runs["four_class"]
    before = contents(folder)
    args = ["--data-dir", stores["four_class"], "--runs-dir", folder.parents[2], "--epochs", 1]
    args += TINY[stage]
    done = run_here(script_of(stage, "Four_Class"), *args, cwd=ROOT / "tests")
    assert done.returncode == 0, done.stderr
    assert "is finished" in done.stdout
    assert "--restart" in done.stdout
    assert contents(folder) == before


def test_generated_trials_are_not_left_on_disk(runs):
    assert not [p for folder in runs.values() for p in folder.rglob("*.tmp")]


# --- the summary


def test_the_summary_prints_a_table_of_what_the_stages_reported(runs):
    folder = runs["valence"]
    done = run_here(SUMMARY, "--fold-dir", folder)
    assert done.returncode == 0, done.stderr
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in done.stdout.splitlines()
        if line.startswith("| ")
    }
    (heading,) = (cells for name, cells in rows.items() if name == "test split")
    assert heading == [
        f"{unit}: {metric}"
        for unit in ("frame", "trial")
        for metric in ("balanced accuracy", "AUC", "AUC within persons")
    ]
    expected = {
        "majority": read_result(folder / "finetune")["majority"],
        "stage 2": read_result(folder / "classifier")["test"],
        "stage 3": read_result(folder / "finetune")["test"],
    }
    for start, figures in expected.items():
        (cells,) = (cells for name, cells in rows.items() if name.startswith(start))
        assert cells == [
            f"{figures[u][m]:.3f}"
            for u in ("frame", "trial")
            for m in ("balanced_accuracy", "auc", "within_auc")
        ]
    for baseline in (
        "random, classes as in training",
        "logistic regression on DE",
        "support vector machine on the network's maps",
        "best baseline, as chosen on validation",
    ):
        assert all(0 <= float(cell) <= 1 for cell in rows[baseline])
    pngs = {path.name for path in folder.rglob("*.png")}
    assert all(name in done.stdout for name in pngs)
    assert (folder / "summary.md").read_text() in done.stdout


def test_controls_of_stage_3_take_the_same_steps_in_folders_of_their_own(runs, stores, no_figures):
    """And the summary has a row for each."""
    fold = runs["published valence"]
    args = ["--data-dir", stores["published valence"], "--runs-dir", fold.parents[2]]
    args += ["--epochs", 1, *TINY_OF["published"]["finetune"]]
    before = contents(fold / "finetune")
    for control in ("none", "real", "jitter", "noise", "surrogate", "shuffled"):
        done = run_here(script_of("finetune"), *args, "--augmentation", control)
        assert done.returncode == 0, done.stderr
    assert contents(fold / "finetune") == before
    folders = [fold / "finetune", *sorted(fold.glob("finetune-*"))]
    assert len(folders) == 7
    history = [read_lines(folder / "metrics.jsonl") for folder in folders]
    assert {len(lines) for lines in history} == {1}
    losses = {
        folder.name: lines[-1]["loss"] for folder, lines in zip(folders, history, strict=True)
    }
    assert len(set(losses.values())) == 7  # none is another one by a different name
    assert "feature_distance" not in history[[f.name for f in folders].index("finetune-none")][-1]
    assert len({read_result(folder)["split_fingerprint"] for folder in folders}) == 1
    table = describe(fold)
    assert table.count("| control: fine-tuned with ") == 6
    for folder in folders[1:]:
        shutil.rmtree(folder)


def test_the_summary_of_an_unfinished_fold_names_what_is_missing(by_protocol):
    args = ("--fold-dir", by_protocol["video"].parent)
    done = run_here(SUMMARY, *args)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert "gan" in done.stderr


# --- help


def flags_with_comments(script: Path, config_class: str = "Config") -> dict[str, str]:
    """Return the flags of one of a script's dataclasses, those of `Recipe` among them."""
    own = fields_with_comments(script, config_class)
    if "(Recipe)" not in script.read_text() or config_class == "Published":
        return own
    return fields_with_comments(ROOT / "de3dgan" / "base" / "recipe.py", "Recipe") | own


def fields_with_comments(path: Path, config_class: str) -> dict[str, str]:
    """Return the fields that a dataclass declares, and the comment beside or above each."""
    source = path.read_text()
    source = source[re.search(rf"^class {config_class}\b", source, re.M).start() :]
    lines = re.split(r"\n *(?:def|class|@dataclass|@property)\b", source[6:])[0].splitlines()
    out, open_field, above = {}, None, ""
    for line in lines:
        if line.startswith("    ") and line[4:5].isalpha() and ":" in line.split("#")[0]:
            open_field = line.split(":")[0].strip()
            out[open_field] = above
        above = line.strip().removeprefix("# ") if line.lstrip().startswith("# ") else ""
        if open_field and "#" in line and not line.lstrip().startswith("#"):
            out[open_field] = line.split("#", 1)[1].strip()
    return out


@pytest.mark.parametrize(
    "script",
    [script_of(stage, task) for task in FOLDERS for stage in STAGES]
    + [ROOT / "preprocess_de.py", ROOT / "generate.py"]
    + [SUMMARY],
    ids=lambda path: path.stem,
)
def test_help_documents_every_flag(script):
    done = run_here(script, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    text = " ".join(word for word in done.stdout.split() if word not in "│╭╰")
    comments = flags_with_comments(script)
    assert comments
    for name, comment in comments.items():
        assert f"--{name.strip('_').replace('_', '-')}" in text, name
        assert len(comment) > 5, f"{name} has no comment"
        assert comment in text, f"--help does not say what --{name} is: {comment}"


def flags_in_help(text: str) -> dict[str, str]:
    """Return what --help says of each flag; of one it speaks where a line begins with it."""
    _, *parts = re.split(r"^│? {1,2}--(?=[a-z])", text, flags=re.M)
    words = [" ".join(w for w in part.split() if w not in "│╭╰╮╯") for part in parts]
    return {re.match(r"[a-z-]+", said)[0]: said for said in words}


def default_in_help(said: str) -> str:
    (default,) = re.findall(r"\(default: (.*?)\)(?= |$)", said)
    return default


@pytest.mark.parametrize("method", [None, *METHODS])
@pytest.mark.parametrize("stage", STAGES)
def test_help_shows_the_defaults_of_the_method(stage, method):
    """The method may be said before --help or after it, or be left to its own default."""
    script = load_script(stage)
    config_class = script.Published if method == "published" else script.Config
    flags = [["--method", method, "--help"], ["--help", f"--method={method}"]] if method else []
    for args in flags or [["--help"]]:
        done = run_here(script_of(stage), *args)
        assert (done.returncode, done.stderr) == (0, "")
        said = flags_in_help(done.stdout)
        fields = dataclasses.fields(config_class)
        assert set(said) == {field.name.replace("_", "-") for field in fields}
        for field in fields:
            values = field.default if isinstance(field.default, tuple) else (field.default,)
            shown = " ".join(repr(v) if " " in str(v) else str(v) for v in values)
            assert default_in_help(said[field.name.replace("_", "-")]) == shown, field.name


@pytest.mark.parametrize("stage", STAGES)
def test_help_documents_every_flag_of_the_published_method(stage):
    done = run_here(script_of(stage), "--method", "published", "--help")
    text = " ".join(word for word in done.stdout.split() if word not in "│╭╰")
    own = flags_with_comments(script_of(stage), "Published")
    own.pop("method", None)  # `Recipe` says what it is
    for name, comment in own.items():
        assert len(comment) > 4, f"{name} has no comment"
        assert comment in text, f"--help does not say what --{name} is: {comment}"


def test_help_is_quick_since_it_imports_no_torch():
    args = (script_of("gan", "Arousal").name, "--method", "published", "--help")
    done = run_script("-X", "importtime", *args, cwd=ROOT / "Arousal-main")
    assert done.returncode == 0
    assert "--critic-every" in done.stdout
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "tyro" in imported
    assert not {"torch", "mne", "matplotlib"} & imported


@pytest.mark.parametrize("config", ["Config", "Published"])
@pytest.mark.parametrize("stage", STAGES)
def test_stage_scripts_have_the_contracts_flags(stage, config):
    script = load_script(stage)
    fields = getattr(script, config).__dataclass_fields__
    contract = "fold protocol data_dir runs_dir epochs batch_size seed device restart".split()
    assert set(contract) <= set(fields)
    assert fields["seed"].default == 520
    assert (fields["fold"].default, fields["protocol"].default) == (0, "trial")
    assert fields["method"].default == ("published" if config == "Published" else "spectral")
    assert (fields["epochs"].default == 300) == (config == "Published")
    assert isinstance(script.Published(), script.Config)


@pytest.mark.parametrize("stage", STAGES)
def test_tasks_differ_in_the_task_only(stage):
    """And so do the two methods in their values: each task's scripts have the same of them."""
    of_the_task = {"task", "ratings", "threshold", "class_names", "data_dir"}

    def values(config: object) -> dict:
        return {k: v for k, v in vars(config).items() if k not in of_the_task}

    first = load_script(stage)
    for task in FOLDERS:
        script = load_script(stage, task)
        assert script.Config().task == script.Published().task == task.lower()
        assert values(script.Config()) == values(first.Config())
        assert values(script.Published()) == values(first.Published())


def test_the_published_values_are_the_papers():
    gan, classifier, finetune = (load_script(stage).Published for stage in STAGES)
    assert (gan.batch_size, gan.lr, gan.critic_lr, gan.weight_decay) == (8, 1e-4, 1e-5, 5e-4)
    assert (gan.critic_every, gan.penalty_weight, gan.reconstruction_weight) == (5, 1.0, 0.5)
    assert (gan.widths, gan.critic_widths) == ((32, 64, 128, 256), (256, 128, 64, 32, 16))
    assert gan.critic_hidden == 1024
    assert (classifier.batch_size, classifier.lr, classifier.weight_decay) == (64, 1e-4, 5e-4)
    assert (classifier.dropout, classifier.n_features) == (0.5, 1024)
    assert classifier.widths == (256, 128, 64, 32, 16)
    assert (finetune.batch_size, finetune.lr, finetune.weight_decay) == (64, 1e-5, 5e-4)
    assert (finetune.label_weight, finetune.consistency_weight) == (0.0, 0.5)
    for stage in (classifier, finetune):  # the paper averages no weights
        assert (stage.ema_decay, stage.choose_by) == (0.0, "val_balanced_accuracy")
