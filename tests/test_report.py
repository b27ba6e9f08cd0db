"""The report, as a user makes it: of real little runs, and of runs with planted predictions."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tyro
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from sklearn import metrics

from de3dgan.base.files import read_csv, read_json
from de3dgan.base.recipe import find_scripts, flag_words, load_recipe
from de3dgan.evaluation.names import NAMES as BASELINES
from de3dgan.evaluation.statistics import estimate
from de3dgan.figures import style
from de3dgan.reporting import study
from de3dgan.reporting.commands import wrapped
from de3dgan.reporting.formats import Cell, Table, latex, latex_text
from de3dgan.reporting.page import VERDICTS
from de3dgan.reporting.results import MODELS, Predictions
from de3dgan.reporting.study import COMPARISONS, Study
from de3dgan.reporting.summary import describe
from de3dgan.training import model_card
from tests.browser import WIDTHS, Browser
from tests.conftest import ROOT, load_script, run_here, run_stage
from tests.helpers import smallest_png
from tests.planted import DONE, N_FRAMES, RATES, edit, edit_settings, plant

REPORT = ROOT / "report.py"


@pytest.fixture
def undrawn(monkeypatch, no_figures):
    monkeypatch.setattr(style, "png", smallest_png)


@pytest.fixture(scope="module")
def real_runs(finished_runs, tmp_path_factory) -> Path:
    """Return the runs of one fold, but for three controls; not to be changed."""
    runs = tmp_path_factory.mktemp("real runs, größer")  # a blank and an umlaut
    shutil.copytree(finished_runs / "valence", runs / "valence")
    for name in ("traces", "spectrogram", "spectra", "de_maps"):
        (runs / "valence" / "subject" / "fold0" / "gan" / f"{name}.png").write_bytes(smallest_png())
    return runs


@pytest.fixture(scope="module")
def reported(real_runs) -> Path:
    """Return the folder that the report of `real_runs` is in."""
    done = run_here(REPORT, "--runs-dir", real_runs)
    assert done.returncode == 0, done.stderr
    assert "Task valence, protocol subject: " in done.stdout
    assert sorted(path.name for path in (real_runs / "report").iterdir()) == [
        "report.html",
        "report.md",
        "tables",
    ]
    return real_runs / "report"


def report(runs: Path, *args: object) -> str:
    """Make a report, and return its page."""
    done = run_here(REPORT, "--runs-dir", runs, *args)
    assert done.returncode == 0, done.stderr
    return (runs / "report" / "report.html").read_text()


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / "tables" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


class Page(HTMLParser):
    """What is in a page; refuses tags that do not balance."""

    EMPTY = {"meta", "img", "br", "link", "hr", "input"}

    def __init__(self, html: str, keep_lines: bool = False):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[list[str]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open
        if not keep_lines:
            self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"style", "script"} & set(self.open):
            return
        self.text += data
        if {"td", "th"} & set(self.open):
            self.cells[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def rows(self, name: str) -> list[list[str]]:
        """Return the rows of tables that begin with a name, marked or not."""
        return [row for row in self.cells if row[0].replace("⚠ leaky", "").strip() == name]


# --- in a browser


def in_column(browser: Browser, table: str, column: int) -> list[float]:
    """Return the figures of a column of a table, from top to bottom."""
    cells = browser.driver.find_elements(
        By.CSS_SELECTOR, f"table:has(#{table}) tbody tr td:nth-child({column})"
    )
    return [float(cell.text.split("\n")[0].replace("–", "nan")) for cell in cells]


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_works_in_a_browser(width, scripts, reported, browser):
    browser.scripts(scripts)
    try:
        browser.open(reported / "report.html", width)
        assert browser.too_wide() <= 0
        assert not browser.complaints()
        models, accuracy = "valence-subject-models-1", 3
        before = in_column(browser, models, accuracy)
        heading = f"table:has(#{models}) thead th:nth-child({accuracy})"
        (cell,) = browser.driver.find_elements(By.CSS_SELECTOR, heading)
        buttons = cell.find_elements(By.TAG_NAME, "button")
        assert len(buttons) == scripts
        for order in (-1, 1, 0) if scripts else ():
            buttons[0].send_keys(Keys.ENTER)  # from the keyboard
            wanted = sorted(before, reverse=order < 0) if order else before
            assert in_column(browser, models, accuracy) == wanted
            words = {-1: "descending", 1: "ascending", 0: None}
            assert cell.get_attribute("aria-sort") == words[order]
        image = browser.driver.find_element(By.CSS_SELECTOR, "figure img")
        small = image.size["width"]
        browser.driver.execute_script("arguments[0].scrollIntoView()", image)
        image.click()
        assert image.size["width"] > 1.2 * small
        assert browser.too_wide() <= 0  # it scrolls in its own box
        image.click()
        assert image.size["width"] == small
        assert not browser.complaints()
    finally:
        browser.scripts(True)


def test_it_prints(reported, browser):
    browser.open(reported / "report.html")
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF")
    assert 5 < len(re.findall(rb"/Type\s*/Page\b", pdf)) < 60


def test_people_are_in_the_order_of_stage_2_and_have_its_figures(real_runs, reported):
    rows = table(reported, "valence-subject-people")
    found = read_csv(real_runs / "valence/subject/fold0/classifier/predictions.csv", "")
    p = np.array([found["p_0"], found["p_1"]], float).argmax(0)
    labels, people = np.array(found["label"], int), np.array(found["subject"])
    trials = np.array(found["trial"])
    assert [row["person"] for row in rows] and {row["person"] for row in rows} == set(people)
    for row in rows:
        own = people == row["person"]
        expected = metrics.balanced_accuracy_score(labels[own], p[own])
        assert float(row["classifier"]) == pytest.approx(expected)
        assert int(row["n_trials"]) == len(set(trials[own]))
        assert int(row["n_classes"]) == len(set(labels[own]))
    scores = [float(row["classifier"]) for row in rows]
    assert scores == sorted(scores, reverse=True)


def test_without_stage_3_people_are_in_the_order_of_stage_2(finished_runs, tmp_path, undrawn):
    rates = {**RATES, "best": 0.5, "classifier": 0.8}
    plant(tmp_path, finished_runs, rates, stages=("classifier",))
    report(tmp_path)
    scores = [
        float(row["classifier"]) for row in table(tmp_path / "report", "valence-subject-people")
    ]
    assert scores == sorted(scores, reverse=True)


# --- the page


def test_page_needs_nothing_else_and_is_well_formed(reported):
    html = (reported / "report.html").read_text()
    assert len(html) < 6e6
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert page.all("html")[0]["lang"] == "en"
    assert {"viewport", "color-scheme"} <= {meta.get("name") for meta in page.all("meta")}
    assert page.all("script") == [{}] and not page.all("link")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("src", "href"):
            value = attributes.get(name) or "#"
            assert value.startswith("data:image/webp;base64,") or value[1:] in {"", *ids}, value[
                :80
            ]
    assert "url(" not in html and "@import" not in html
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))


def test_figures_have_a_text_and_a_size(reported):
    page = Page((reported / "report.html").read_text())
    pictures = page.all("img")
    assert len(pictures) == 1 + 1 + 1 + 4 + 2 * 2 + 3
    assert all(len(picture["alt"]) > 30 for picture in pictures)
    widths = [int(picture["width"]) for picture in pictures]
    assert widths.count(1) == 4 and min(w for w in widths if w > 1) > 600  # 4 stood in, above
    assert len({picture["alt"] for picture in pictures}) == len(pictures)
    for wanted in (
        "Scalp maps",
        "Power spectra",
        "Confusion matrices",
        "Learning curves of stage 1",
    ):
        assert any(wanted in picture["alt"] for picture in pictures)


def test_verdict_comes_first_and_sections_in_order(reported):
    text = Page((reported / "report.html").read_text()).text
    order = [
        next(said for _, said in VERDICTS.values() if said in text),
        "Keep in mind",
        "Per one-second frame:",
        "Per trial, whose prediction",
        "Balanced accuracy per frame of the first model",
        "a single person's figure says little",
        "is not known from these runs",
        "copies of one that was seen: none",
        "EEG generated from the DE of test trials",
        "How often each judge",
        "Four seconds of real and of generated EEG",
        "All settings.",
        "To make it again",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "leaky" not in text.partition(" Cards ")[0].replace("marked as leaky", "")
    assert "Seeds 520 and 520 have 1 of 5 folds: the other groups are not tested." in text
    assert f"Not run, or not finished, in any fold: {MODELS['finetune-real']};" in text


def test_quality_and_certificate_are_those_of_the_stages(real_runs, reported):
    page = Page((reported / "report.html").read_text())
    gan = real_runs / "valence" / "subject" / "fold0" / "gan"
    quality = json.loads((gan / "result.json").read_text())["quality"]
    for row in table(reported, "valence-subject-quality"):
        figure, _, name = row["figure"].partition(".")
        value = quality[row["eeg"]][figure]
        if row["band"]:
            value = value[row["band"]]
        assert float(row["mean"]) == pytest.approx(value[name] if name else value)
    assert (
        len(table(reported, "valence-subject-quality"))
        == 3 * (2 * 2 + 3 * 4 + 4 + 3 + 2) + (2 + 3 + 3) * 4
    )
    for words in ("Noise of the same DE", "0.5 is perfect", "Real EEG (what is reachable)"):
        assert words in page.text
    certificate = json.loads((gan / "leakage.json").read_text())
    rows = {
        row["artefact"]: row
        for row in table(reported, "valence-subject-leakage")
        if row["stage"] == "gan"
    }
    assert set(rows) == {entry["artefact"] for entry in certificate["artefacts"]}
    for entry in certificate["artefacts"]:
        assert int(rows[entry["artefact"]]["groups_seen_highest"]) == len(entry["groups"])
        assert rows[entry["artefact"]]["groups_of_both_highest"] == "0"
    assert f"Fold 0, tested on {', '.join(certificate['test_groups'])}" in page.text


# --- the commands


def commands(html: str) -> list[tuple[str, list[str]]]:
    """Return the script and the words after it of each command of a page, of fold 0."""
    lines = Page(html, keep_lines=True).text.partition("To make it again")[2]
    block = lines[: lines.index("python report.py")].replace("$fold", "0").replace("\\\n", " ")
    assert all(len(line) < 160 for line in lines.splitlines())
    found = [shlex.split(line) for line in block.splitlines() if line.startswith("  python ")]
    return [(words[1], words[2:]) for words in found]


def settings_of(config: object, like: dict) -> dict:
    return json.loads(json.dumps({key: getattr(config, key) for key in like}))


def test_commands_would_make_the_same_runs_again(real_runs, reported):
    found = commands((reported / "report.html").read_text())
    assert len(found) == 4
    folder = real_runs / "valence" / "subject" / "fold0"
    for (script, words), stage in zip(found, ("gan", *DONE), strict=True):
        config_class = load_script(stage.partition("-")[0]).Config
        assert (ROOT / script).is_file()
        config = tyro.cli(config_class, args=words)
        assert config.runs_dir.resolve() == real_runs.resolve()
        wanted = json.loads((folder / stage / "config.json").read_text())["settings"]
        assert settings_of(config, wanted) == wanted


def test_commands_of_a_published_run_say_what_is_not_published(little_store, tmp_path, undrawn):
    """These are the defaults of our method, and not of the paper's."""
    settings = {"epochs": 1, "dropout": 0.7, "choose_by": "val_loss"}
    run_stage("classifier", little_store, tmp_path, "published", **settings)
    ((_, words),) = commands(report(tmp_path))
    assert "published" in words
    config = tyro.cli(load_script("classifier").Published, args=words)
    folder = tmp_path / "valence" / "trial" / "fold0" / "classifier"
    wanted = json.loads((folder / "config.json").read_text())["settings"]
    assert settings_of(config, wanted) == wanted


@pytest.mark.parametrize("method", ["spectral", "published"])
@pytest.mark.parametrize("stage", ["gan", "classifier", "finetune"])
@pytest.mark.parametrize("task", ["valence", "four_class", "workload"])
def test_any_setting_comes_back_from_a_command(task, stage, method):
    """Tuples, a negative threshold, names with blanks and quotes, defaults of copied scripts."""
    script = find_scripts(stage)[task]
    recipe = load_recipe(script, method)
    default = recipe()
    changed = {"threshold": -1.5, "seed": 3, "ratings": ("arousal", "dominance")}
    if hasattr(default, "widths"):
        changed["widths"] = tuple(width + 1 for width in default.widths)
    if hasattr(default, "class_names"):
        changed["class_names"] = ("a b", "it's", "c", "$fold")
    for wanted in (default, recipe(**changed)):
        command = wrapped(["python", script.name, *flag_words(wanted.settings(), recipe)])
        words = shlex.split("\n".join(command).replace("\\\n", " "))
        assert ("published" in words) == (method == "published")
        assert tyro.cli(recipe, args=words[2:]) == wanted
    assert len(command) > 1 and all(len(line) < 100 for line in command)


def test_commands_of_a_task_without_scripts_say_where_its_name_goes(
    finished_runs, tmp_path, undrawn
):
    runs = plant(tmp_path / "runs", finished_runs, task="joy", folds=[0], stages=["classifier"])
    ((script, words),) = commands(report(runs))
    assert script == "SA-ST_Net_Classifier_<your task>.py"
    recipe = load_recipe(find_scripts("classifier")["valence"])
    wanted = json.loads((runs / "joy/subject/fold0/classifier/config.json").read_text())["settings"]
    assert settings_of(tyro.cli(recipe, args=words), wanted) == wanted


# --- the figures


def test_numbers_are_those_of_scikit_learn(finished_runs, tmp_path, undrawn):
    runs = plant(tmp_path / "runs", finished_runs, {**RATES, "svm": 0.8})
    page = Page(report(runs))
    for unit in ("frame", "trial"):
        rows = table(runs / "report", f"valence-subject-models-per-{unit}")
        found = {(row["model"], row["metric"]): row for row in rows}
        for model, file in {
            **{m: "classifier/baselines.csv" for m in BASELINES},
            **{m: f"{m}/predictions.csv" for m in DONE},
        }.items():
            true, p, who = pooled(runs, file, model, unit)
            wanted = {
                "accuracy": metrics.accuracy_score(true, p > 0.5),
                "balanced_accuracy": metrics.balanced_accuracy_score(true, p > 0.5),
                "macro_f1": metrics.f1_score(true, p > 0.5, average="macro"),
                "auc": metrics.roc_auc_score(true, p),
                "within_auc": within_people(true, p, who),
                "mcc": metrics.matthews_corrcoef(true, p > 0.5),
                "kappa": metrics.cohen_kappa_score(true, p > 0.5),
            }
            for metric, value in wanted.items():
                row = found[model, metric]
                assert float(row["value"]) == pytest.approx(value, abs=1e-9)
                assert float(row["low"]) <= value <= float(row["high"])
            cells = page.rows(MODELS[model])[unit == "trial"]
            shown = [cell.split()[0].replace("\N{MINUS SIGN}", "-") for cell in cells[1:8]]
            assert [float(cell) for cell in shown] == pytest.approx([*wanted.values()], abs=6e-4)
    assert "80 trials of 40 groups (subject)" in page.text and "960 frames" in page.text


def within_people(true: np.ndarray, p: np.ndarray, who: np.ndarray) -> float:
    """Return how often, of two items of a person, that of class 1 has the higher probability."""
    of_pairs = [
        np.sign(p[(who == name) & (true == 1)][:, None] - p[(who == name) & (true == 0)]).ravel()
        for name in set(who.tolist())
    ]
    return float((np.concatenate(of_pairs).mean() + 1) / 2)


def pooled(runs: Path, file: str, model: str, unit: str) -> tuple[np.ndarray, ...]:
    """Return labels, probabilities of class 1 and people over all folds."""
    rows = []
    for path in sorted(runs.glob(f"valence/subject/fold*/{file}")):
        with open(path, newline="") as handle:
            rows += [row for row in csv.DictReader(handle) if row.get("model", model) == model]
    true, p = (np.array([float(row[key]) for row in rows]) for key in ("label", "p_1"))
    who = np.array([row["subject"] for row in rows])
    if unit == "trial":
        return true[::N_FRAMES], p.reshape(-1, N_FRAMES).mean(1), who[::N_FRAMES]
    return true, p, who


@pytest.mark.parametrize(
    ("rate", "kind", "says"),
    [
        (0.8, "helped", "Helped: balanced accuracy is"),
        (0.4, "hurt", "Hurt: balanced accuracy is"),
        (0.6, "no evidence", "No evidence at this sample size: balanced accuracy is"),
    ],
)
def test_verdict_is_that_of_planted_predictions(rate, kind, says, finished_runs, tmp_path, undrawn):
    rates = {**RATES, "finetune": rate, "finetune-none": 0.6, "classifier": 0.9}
    rates |= {"above_46_hz": 0.55, "null_space": 0.45, "artefact": 0.45}
    runs = plant(tmp_path / "runs", finished_runs, rates)
    page = Page(report(runs))
    assert says in page.text
    assert f"verdict {kind}" in [attributes.get("class") for attributes in page.all("div")]
    headline = {"helped": "▲ Generated EEG helped", "hurt": "▼ Generated EEG hurt"}
    assert headline.get(kind, "○ No evidence that generated EEG") in page.text
    assert "Stage 2 beats the best baseline: balanced accuracy is" in page.text
    hardest = "power above 46 Hz (artefact), of what knows no emotion the hardest to beat"
    assert f"Stage 2 beats {hardest}: balanced accuracy is" in page.text
    beats = {"helped": "Stage 3 beats", "hurt": "Stage 3 does not beat the best baseline, but"}
    assert beats.get(kind, "Stage 3 does not beat the best baseline") in page.text
    rows = table(runs / "report", "valence-subject-comparisons")
    assert [(row["model"], row["against"]) for row in rows] == [
        (a, "above_46_hz" if b == "artefact" else b)
        for a, b in COMPARISONS
        if {a, b} <= {*BASELINES, *DONE}
    ]
    words = {"helped": "better", "hurt": "worse"}.get(kind, "no evidence")
    assert rows[0]["in_words"] == words
    assert float(rows[0]["value"]) == pytest.approx(rate - 0.6, abs=0.05)
    assert float(rows[0]["p"]) <= float(rows[0]["p_adjusted"])
    (row,) = page.rows("stage 3 against control: nothing")
    assert row[1].strip() == words


def test_several_seeds_are_shown_as_spread_not_as_their_best(finished_runs, tmp_path, undrawn):
    runs = tmp_path / "runs"
    for seed, rate in ((520, 0.5), (521, 0.9)):
        plant(runs / f"seed{seed}", finished_runs, {**RATES, "classifier": rate}, seed=seed)
    page = Page(report(runs))
    rows = table(runs / "report", "valence-subject-models-per-frame")
    row = next(row for row in rows if (row["model"], row["metric"]) == ("classifier", "accuracy"))
    spread = float(row["sd_of_training_seeds"])
    assert float(row["value"]) == pytest.approx(0.7, abs=0.05)
    assert spread == pytest.approx(0.4 / 2**0.5, abs=0.05)
    assert f"seeds of training ± {spread:.3f}" in page.text
    assert "seeds of folds" not in page.text  # as there is one
    assert "means over 2 pairs of seeds (folds drawn by 520, trained by 520, 521)" in page.text
    assert page.text.count("for fold in 0 1 2 3 4; do") == 2
    assert page.rows("seed")[0][1].strip() == "520, 521"


def test_unfinished_and_unlike_controls_are_noted(finished_runs, tmp_path, undrawn):
    runs = plant(tmp_path / "runs", finished_runs)
    folder = runs / "valence" / "subject" / "fold3" / "finetune-none"
    (folder / "result.json").unlink()
    text = Page(report(runs)).text
    assert f"Left out, since only 4 of 5 folds have it: {MODELS['finetune-none']}." in text
    assert "No verdict on generated EEG yet" in text and "--augmentation none" in text
    shutil.rmtree(runs)

    plant(runs, finished_runs)
    for path in runs.glob("valence/subject/fold*/finetune-none/config.json"):
        edit_settings(path.parent, epochs=99)
    text = Page(report(runs)).text
    assert f"Not comparable: {MODELS['finetune-none']} differs from stage 3 in epochs" in text
    assert "No verdict on generated EEG yet" in text


# --- leaky runs


def test_leaky_runs_are_marked_everywhere(little_store, tmp_path, undrawn):
    runs = tmp_path / "runs"
    run_stage("classifier", little_store, runs, protocol="random-frame", epochs=1)
    done = run_here(REPORT, "--runs-dir", runs, "--out", tmp_path / "out")
    assert "protocol random-frame (leaky): No verdict" in done.stdout
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert page.text.index("Leaky: these figures say nothing about new EEG") < page.text.index(
        "No verdict on generated EEG yet"
    )
    for model in ("classifier", *BASELINES):
        rows = page.rows(MODELS[model])
        assert len(rows) >= 2 and all("⚠ leaky" in row[0] for row in rows)
    (row,) = page.rows("stage 2 against best baseline, as chosen on validation")
    assert "⚠ leaky" in row[0]
    assert page.text.count("⚠ leaky") >= len(page.all("img")) + 2 * 15 + 2
    names = sorted(path.name for path in (tmp_path / "out" / "tables").iterdir())
    assert names and all("-leaky." in name for name in names)
    rows = table(tmp_path / "out", "valence-random-frame-models-per-frame-leaky")
    assert {row["leaky"] for row in rows} == {"True"}
    tex = (
        tmp_path / "out" / "tables" / "valence-random-frame-models-per-frame-leaky.tex"
    ).read_text()
    assert tex.count(r"\textbf{(leaky)}") == 15
    assert "groups (trial) tested on." in page.text


def test_how_far_the_certificate_goes_is_said_wherever_it_is_quoted(
    finished_runs, tmp_path, undrawn
):
    runs, note = shutil.copytree(finished_runs, tmp_path / "runs"), "Not all were compared."
    for path in runs.glob("valence/subject/fold*/*/leakage.json"):
        edit(path, notes=[note])
    assert Page(report(runs)).text.count(note) == 1
    assert describe(runs / "valence/subject/fold0").count(note) == 1
    stage = runs / "valence/subject/fold0/finetune"
    assert model_card.of_run(stage, read_json(stage / "result.json")).count(note) == 1


def test_only_what_is_leaky_is_marked(finished_runs, tmp_path, undrawn):
    runs = plant(tmp_path / "runs", finished_runs)
    for path in runs.glob("valence/subject/fold*/finetune/leakage.json"):
        edit(path, leaky=True, reasons=["It has seen p01."])
    page = Page(report(runs))
    assert "Leaky are: stage 3." in page.text and "It has seen p01." in page.text
    assert all("⚠ leaky" in row[0] for row in page.rows(MODELS["finetune"]))
    assert "⚠ leaky" in page.rows("stage 3 against control: nothing")[0][0]
    stage_2 = "stage 2 against best baseline, as chosen on validation"
    for name in (MODELS["classifier"], MODELS["finetune-none"], stage_2):
        assert page.rows(name) and all("leaky" not in row[0] for row in page.rows(name))


# --- tables as files


def test_latex_tables_are_whole(reported):
    paths = sorted((reported / "tables").glob("*.tex"))
    assert len(paths) == 8
    for path in paths:
        tex = path.read_text()
        lines = tex.splitlines()
        assert r"\usepackage{booktabs}" in tex.partition(r"\begin{tabular}")[0]
        body = [line for line in lines if line.endswith(r"\\")]
        n_columns = len(re.search(r"\\begin\{tabular\}\{(l[lr]*)\}", tex)[1])
        for line in body:
            spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) == n_columns, line
            assert not re.search(r"(?<!\\)[%#_]", line), line
        for command in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"):
            assert tex.count(command) == 1


def test_markdown_has_the_verdict_and_the_same_tables(reported):
    text = (reported / "report.md").read_text()
    said = next(said for _, said in VERDICTS.values() if f"**{said}" in text)
    assert text.index(said) < text.index("### All models")
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 8
    for lines in map(str.splitlines, tables):
        assert len({line.count("|") for line in lines}) == 1
    for row in table(reported, "valence-subject-models-per-frame"):
        in_headings = row["model"] == "best"  # of the table of people
        assert text.count(f"| {row['name']} |") == 2 + in_headings


def test_latex_escapes():
    assert latex(r"50 % of a_b & #1 {x} \y ~ ^ < $") == (
        r"50 \% of a\_b \& \#1 \{x\} \textbackslash{}y \textasciitilde{} \textasciicircum{} "
        r"\textless{} \$"
    )
    row = [Cell("a_b", mark="leaky"), Cell("\N{MINUS SIGN}0.5", ("\N{MINUS SIGN}1 to 0",))]
    lines = latex_text(Table("t", "What.", ("x", "y"), [row], [])).splitlines()
    assert r"a\_b \textbf{(leaky)} & $-$0.5 \\" in lines
    assert r" & \scriptsize $-$1 to 0 \\" in lines


def test_html_escapes(finished_runs, tmp_path, undrawn):
    runs = plant(tmp_path / "runs", finished_runs, folds=[0])
    for path in runs.glob("valence/subject/fold*/*/config.json"):
        edit_settings(path.parent, class_names=["<b>low", "high & dry"])
    html = report(runs)
    assert "&lt;b&gt;low, high &amp; dry" in html and "<b>" not in html


# --- what can be wrong


#: What is done to a fold, and what is then said; more of it is in test_results.py.
DAMAGED = {
    "predictions": (
        lambda fold: (fold / "finetune" / "predictions.csv").write_text("x"),
        "predictions.csv is damaged",
    ),
    "history": (
        lambda fold: (fold / "finetune" / "metrics.jsonl").write_text("{"),
        "metrics.jsonl is damaged or missing: rerun the finetune stage",
    ),
    "figure": (
        lambda fold: (fold / "gan" / "traces.png").write_bytes(b""),
        "traces.png is damaged: rerun the gan stage",
    ),
    "all of it": (shutil.rmtree, "There is no finished classifier below"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_wrong_is_said_in_a_sentence(name, real_runs, tmp_path, undrawn):
    runs = tmp_path / "runs"
    shutil.copytree(real_runs / "valence", runs / "valence")
    damage, says = DAMAGED[name]
    damage(runs / "valence" / "subject" / "fold0")
    done = run_here(REPORT, "--runs-dir", runs, "--out", tmp_path / "out")
    assert done.returncode == 2 and done.stdout == ""
    assert says in done.stderr
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_several_studies_share_a_page(finished_runs, tmp_path, undrawn):
    runs = plant(tmp_path / "runs", finished_runs)
    plant(runs, finished_runs, {**RATES, "finetune": 0.9}, task="arousal")
    page = Page(report(runs))
    assert [a["id"] for a in page.all("h2")] == ["arousal-subject", "valence-subject"]
    assert "Task arousal, protocol subject: ▲ Generated EEG helped" in page.text
    assert (runs / "report" / "tables" / "arousal-subject-comparisons.csv").is_file()


def test_models_that_predict_the_same_are_equivalent(finished_runs, tmp_path, undrawn):
    runs = plant(tmp_path / "runs", finished_runs)
    for folder in (runs / "valence" / "subject").iterdir():
        for control in ("none", "real"):
            there = folder / f"finetune-{control}"
            if there.is_dir():
                shutil.copy(folder / "finetune" / "predictions.csv", there)
    page = Page(report(runs))
    assert "Equivalent within 1 percentage point: balanced accuracy is 0.0" in page.text
    rows = table(runs / "report", "valence-subject-comparisons")
    row = next(row for row in rows if row["against"] == "finetune-none")
    assert (row["in_words"], row["equivalent"]) == ("equivalent", "True")
    assert {float(row[f"{name}_value"]) for name in ("auc", "within_auc")} == {0.0}


def test_intervals_of_very_many_groups_are_of_random_ones_together(monkeypatch):
    """They are as wide as those of all groups, and the figures are the same."""
    rng = np.random.default_rng(0)
    n_groups, n_frames = 400, 8
    trials = np.repeat(np.arange(n_groups), n_frames)
    labels = trials % 2
    score = labels + np.repeat(rng.normal(size=n_groups), n_frames) + rng.normal(size=len(trials))
    p = 1 / (1 + np.exp(-score))
    frames, persons = np.tile(np.arange(n_frames), n_groups), trials // 4
    predictions = Predictions(
        *(trials, frames, labels, np.stack([1 - p, p], 1), trials.astype(str), persons.astype(str)),
        np.ones(len(trials)),
    )
    all_folds = Study("t", "trial", "trial", {(0, 0): []}, {"classifier": [predictions]}, [])
    whole = estimate(all_folds.clusters("classifier", "frame"))
    monkeypatch.setattr(study, "_MOST_GROUPS", 100)
    clusters = all_folds.clusters("classifier", "frame")
    assert len(clusters[0, 0].groups) == 100
    few = estimate(clusters)
    for metric in ("balanced_accuracy", "auc", "within_auc"):
        assert few[metric].value == pytest.approx(whole[metric].value)
        widths = [found[metric].high - found[metric].low for found in (few, whole)]
        assert widths[0] == pytest.approx(widths[1], rel=0.25), metric
