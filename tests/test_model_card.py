"""Model cards: every run has one, and it says what the files beside it say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from de3dgan.training import model_card
from tests.conftest import STAGES

FOLD = Path("valence/subject/fold0")


def read(folder: Path) -> tuple[str, dict, dict, dict]:
    """Return the card of a run, and what its result, its config and its certificate hold."""
    files = (
        json.loads((folder / f"{n}.json").read_text()) for n in ("result", "config", "leakage")
    )
    return (folder / model_card.NAME).read_text(), *files


@pytest.mark.parametrize("stage", [*STAGES, "finetune-none"])
def test_every_run_has_a_card_with_its_data_settings_limits_and_licence(stage, finished_runs):
    folder = finished_runs / FOLD / stage
    card, result, config, certificate = read(folder)
    assert card == model_card.of_run(folder, result)  # nothing but the files is needed for it
    first = card.split("\n\n")[1]
    assert first.startswith("Not leaky: no subject tested on was seen")
    n_trials = ", ".join(str(result[f"n_{part}_trials"]) for part in ("train", "val", "test"))
    assert f"| {n_trials} |" in card
    assert f"| tested on | {len(certificate['test_groups'])} subjects |" in card
    for name, value in config["settings"].items():
        if isinstance(value, int | float | str):
            assert f"| {name} | {value} |" in card
    for said in ("Not for diagnosis", "MIT licence", config["environment"]["torch"], "new people"):
        assert said in card
    assert ("(finetune-none)" in card.splitlines()[0]) == (stage == "finetune-none")


def test_the_card_of_a_generator_has_its_judges_its_de_error_and_its_privacy(finished_runs):
    card, result, _, _ = read(finished_runs / FOLD / "gan")
    generated, noise = (result["quality"][eeg] for eeg in ("generated", "noise"))
    for unit, verdict in generated["judged"].items():
        assert f"| per {unit} | {verdict['judge']} | {verdict['auc']:.3f} (" in card
        assert f"| {noise['judged'][unit]['auc']:.3f} |" in card
    errors = [band["mae"] for band in generated["de_round_trip"].values()]
    assert f"by {sum(errors) / 4:.3f} nats" in card
    assert "Privacy: " in card and "no anonymisation" in card


def test_privacy_is_told_where_it_was_measured(finished_runs):
    folder = finished_runs / FOLD / "gan"
    _, result, _, _ = read(folder)
    told = {"auc": 0.61, "auc_low": 0.5, "auc_high": 0.72, "members": 20, "others": 8}
    card = model_card.of_run(folder, {**result, "membership": {"generated": told}})
    assert "told from others with an AUC of 0.610 (0.50 to 0.72); 0.5 is privacy (20" in card


@pytest.mark.parametrize("stage", ["classifier", "finetune"])
def test_the_card_of_a_classifier_has_its_scores_and_what_it_does_not_beat(stage, finished_runs):
    folder = finished_runs / FOLD / stage
    card, result, _, _ = read(folder)
    for name in ("test", "majority", "best", "artefact"):
        figures = result[name]
        assert (
            f"| {figures['frame']['balanced_accuracy']:.3f} | {figures['frame']['auc']:.3f}" in card
        )
    for high, said in ((0.0, True), (1.0, False)):
        test = {
            unit: {**result["test"][unit], "balanced_accuracy": high} for unit in result["test"]
        }
        changed = model_card.of_run(folder, {**result, "test": test})
        assert ("does not beat the best baseline nor what knows no emotion" in changed) == said


def test_a_leaky_run_says_so_first(finished_runs, tmp_path):
    _, result, config, certificate = read(finished_runs / FOLD / "classifier")
    folder = tmp_path / "classifier"
    folder.mkdir()
    certificate |= {"leaky": True, "reasons": ["The scaler saw everyone.", "So did the network."]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "leakage.json").write_text(json.dumps(certificate))
    card = model_card.of_run(folder, result)
    title, first, reasons, _ = card.split("\n\n", 3)
    assert title.startswith("# Model card: classifier")
    assert first == "**Leaky: its figures say nothing about new EEG.**"
    assert reasons == "- The scaler saw everyone.\n- So did the network."
