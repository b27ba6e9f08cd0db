"""Model cards: what a network is, what was measured, and what it is not for, as Markdown.

A card is written from what a stage leaves in its files; nothing is measured for it. What is leaky
is said first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from de3dgan.base.files import read_json
from de3dgan.base.programs import SCRIPTS

#: The file in the directory of a run, or beside a pretrained generator.
NAME = "CARD.md"
#: What each stage's network does.
_WHAT = {
    "gan": "A generator: it turns differential entropy (DE) into EEG in µV, at 128 Hz.",
    "classifier": "A classifier of one-second frames of EEG, trained on real EEG.",
    "finetune": "A classifier of one-second frames of EEG, trained further on real EEG with other "
    "EEG beside it.",
}
_TITLES = {"gan": "generator", "classifier": "classifier", "finetune": "fine-tuned classifier"}
#: What figures of a protocol say, and what not.
_SAID = {
    "trial": "People who are tested on were trained on as well, in other trials: its figures say "
    "nothing about new people.",
    "video": "People who are tested on were trained on as well, with other stimuli: its figures "
    "say nothing about new people.",
    "session": "People who are tested on were trained on as well, in other sessions: its figures "
    "say nothing about new people.",
    "within": "It is of one person, and says nothing about others.",
    "subject": "Its figures are of new people, who were recorded as those were that it has seen.",
    "random-frame": "Seconds of a trial that is tested on were trained on: its figures are of no "
    "use.",
}
_PLURALS = {"stimulus": "stimuli"}
#: What holds of every network.
LIMITS = (
    "Not for diagnosis, nor for any decision about a person.",
    "It is of one data set and one task. Whether it holds for other people, devices and montages "
    "was not measured.",
)
#: What holds of every generator.
LIMITS_OF_GENERATORS = (
    "Generated EEG is no evidence about people or states: it holds nothing that was not in the "
    "EEG that was trained on.",
    "It is no anonymisation: who was trained on can be told in part (`benchmarks/JUDGES.md`), and "
    "our method keeps spectra, coherency and lacking directions of training recordings.",
)
_CODE_LICENCE = "The code is under the MIT licence."


def of_run(folder: Path, result: Mapping[str, Any]) -> str:
    """Return the card of a run, from its ``config.json``, its ``leakage.json`` and its result.

    Parameters
    ----------
    folder : Path
        The run directory.
    result : dict
        What ``result.json`` holds, or is about to.
    """
    config, certificate = (read_json(folder / f"{name}.json") for name in ("config", "leakage"))
    settings, stage = config["settings"], result["stage"]
    person = f", person {result['person']}" if result["person"] else ""
    came_from = []
    if "taken_from" in config:
        came_from = [f"Trained for the task {config['taken_from']['task']}; it sees no class."]
    what = _TITLES[stage] + (f" ({folder.name})" if folder.name != stage else "")
    return card(
        f"{what}, {result['task']}, protocol {result['protocol']}{person}, fold {result['fold']}",
        _verdict(certificate),
        {
            "What it is": [
                _WHAT[stage],
                f"Stage script: `{SCRIPTS[stage]}`, method {settings['method']}. Classes of the "
                f"task: {', '.join(settings['class_names'])}.",
                *came_from,
            ],
            "Data": _data(config, result, certificate),
            "What was measured, on the test split": measured(result),
            "Limits": bullets(
                [
                    *LIMITS,
                    _SAID[result["protocol"]],
                    f"{_n(len(certificate['test_groups']), certificate['group'])} tested on are "
                    "few: conclusions need all folds and their intervals (`report.py`).",
                    *(LIMITS_OF_GENERATORS if stage == "gan" else ()),
                ]
            ),
            "Licence": [
                f"{_CODE_LICENCE} What may be done with the network depends on the licence of the "
                "recordings as well: see the page of the data set in `docs/data`."
            ],
            "How it was made": [
                *settings_and_versions(settings, config["environment"], result),
                "`config.json`, `result.json` and `leakage.json` beside this card have all of it.",
            ],
        },
    )


def card(title: str, first: str, sections: Mapping[str, Sequence[str]]) -> str:
    """Return a card: a title, what has to be known first, and sections of paragraphs."""
    parts = [f"# Model card: {title}", first]
    for heading, paragraphs in sections.items():
        parts += [f"## {heading}", *paragraphs]
    return "\n\n".join(part for part in parts if part) + "\n"


def bullets(items: Iterable[str]) -> list[str]:
    """Return a list, as one paragraph."""
    return ["\n".join(f"- {item}" for item in items)]


def settings_and_versions(
    settings: Mapping[str, Any], environment: Mapping[str, Any], result: Mapping[str, Any]
) -> list[str]:
    """Return two tables, of the settings and of what it ran with."""
    values = {name: value for name, value in settings.items() if value is not None}
    values["epoch handed over (from 0)"] = result["best_epoch"]
    versions = {name: value for name, value in environment.items() if value is not None}
    return [_table(("setting", "value"), values.items()), _table(("with", ""), versions.items())]


def measured(result: Mapping[str, Any]) -> list[str]:
    """Return what a result says: scores of a classifier, or the quality of generated EEG."""
    return _scores(result) if "test" in result else _quality(result)


def _verdict(certificate: Mapping[str, Any]) -> str:
    """Return what the leakage certificate says."""
    if certificate["leaky"]:
        return "**Leaky: its figures say nothing about new EEG.**\n\n" + "\n".join(
            f"- {reason}" for reason in certificate["reasons"]
        )
    return " ".join(
        [
            f"Not leaky: no {certificate['group']} tested on was seen by any scaler, network or "
            "choice of an epoch, and no recording tested on is a copy of one that was seen.",
            *certificate["notes"],
        ]
    )


def _data(
    config: Mapping[str, Any], result: Mapping[str, Any], certificate: Mapping[str, Any]
) -> list[str]:
    """Return who was trained, validated and tested on."""
    group = certificate["group"]
    seen = {
        f"read for the {entry['artefact']} of the {entry['stage']} stage": _n(
            len(entry["groups"]), group
        )
        for entry in certificate["artefacts"]
    }
    rows = {
        "trials to train, to choose the epoch, to test": ", ".join(
            str(result[f"n_{part}_trials"]) for part in ("train", "val", "test")
        ),
        **seen,
        "tested on": _n(len(certificate["test_groups"]), group),
        "store": f"`{config['store_hash'][:16]}`",
        "split": f"`{result['split_fingerprint']}`",
    }
    return [_table(("data", ""), rows.items())]


def _scores(result: Mapping[str, Any]) -> list[str]:
    """Return the scores of a classifier beside those of simple models."""
    models = {"this network": result["test"], "majority class": result.get("majority")}
    for name, what in (("best", "best baseline"), ("artefact", "what knows no emotion")):
        if name in result:
            models[f"{what} (`{result[f'{name}_baseline']}`)"] = result[name]
    shown = {"balanced_accuracy": "balanced accuracy", "auc": "AUC", "ece": "calibration error"}
    shown = {name: what for name, what in shown.items() if name in result["test"]["frame"]}
    heads = [f"{unit}: {what}" for unit in ("frame", "trial") for what in shown.values()]
    rows = [
        (model, *(_figure(scores[unit].get(name)) for unit in ("frame", "trial") for name in shown))
        for model, scores in models.items()
        if scores
    ]
    ours = result["test"]["frame"]["balanced_accuracy"]
    unbeaten = [
        what
        for name, what in (("best", "the best baseline"), ("artefact", "what knows no emotion"))
        if name in result and ours <= result[name]["frame"]["balanced_accuracy"]
    ]
    said = [f"The network does not beat {' nor '.join(unbeaten)} (balanced accuracy per frame)."]
    return [
        "A frame is one second; a trial's prediction is the mean of its frames'. Baselines are "
        "chosen on validation data, and have the names of `baselines.csv`.",
        _rows(("test split", *heads), rows),
        *(said if unbeaten else []),
    ]


def _quality(result: Mapping[str, Any]) -> list[str]:
    """Return the quality of generated EEG: judges, DE, privacy."""
    quality = result["quality"]
    verdicts = quality["generated"]["judged"]
    rows = []
    for unit, verdict in verdicts.items():
        others = (quality[eeg]["judged"].get(unit) for eeg in ("noise", "real"))
        rows.append(
            (
                f"per {unit}",
                verdict["judge"],
                _with_interval(verdict["auc"], verdict["low"], verdict["high"]),
                *(_figure(other["auc"]) if other else "–" for other in others),
            )
        )
    judged = (
        [
            "How often the strongest judge scores generated EEG higher than real EEG of new "
            "groups: 0.5 is not told at all, 1 is always.",
            _rows(("told", "judge", "AUC", "noise of the same DE", "real EEG"), rows),
        ]
        if rows
        else ["There were too few groups for judges of generated EEG."]
    )
    if not quality["generated"]["de_round_trip"]:
        return judged
    error, of_noise = (de_error(quality[eeg]) for eeg in ("generated", "noise"))
    return [
        *judged,
        f"DE of the generated EEG differs from the DE that it was generated from by {error:.3f} "
        f"nats in the mean over bands; that of noise of the same DE by {of_noise:.3f}.",
        _privacy(result.get("membership", {}).get("generated")),
    ]


def de_error(row: Mapping[str, Any]) -> float:
    """Return the mean absolute error of DE over bands in nats, of a row of `quality`."""
    errors = [band["mae"] for band in row["de_round_trip"].values()]
    return sum(errors) / len(errors)


def _privacy(told: Mapping[str, Any] | None) -> str:
    if not told:
        return (
            "Privacy: whether members of the training set can be told from others was not measured."
        )
    auc = _with_interval(told["auc"], told["auc_low"], told["auc_high"])
    return (
        "Privacy: members of the training set are told from others with an AUC of "
        f"{auc}; 0.5 is privacy ({told['members']} members, {told['others']} others)."
    )


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    text = _figure(value)
    return text if low is None or high is None else f"{text} ({low:.2f} to {high:.2f})"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _n(n: int, group: str) -> str:
    """Return "1 subject", "2 stimuli"."""
    return f"1 {group}" if n == 1 else f"{n} {_PLURALS.get(group, f'{group}s')}"


def _table(heads: Sequence[str], pairs: Iterable[tuple[str, Any]]) -> str:
    def plain(value: Any) -> str:
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    return _rows(heads, [(name, plain(value)) for name, value in pairs])


def _rows(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
