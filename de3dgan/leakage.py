"""The leakage certificate: whether anything that a figure was made with has seen the test groups.

Three independent looks, all at what is there rather than at what the configuration promises:

- **Overlap.** Every checkpoint holds, per artefact, the frames that were read while it was shaped
  (`ledger`). Their groups are looked up in ``trials.csv`` and set against the groups tested on.
- **Recomputation.** The statistics of scalers are computed anew from the frames that they are said
  to come from. (Weights cannot be: for them, there is the record alone.)
- **Probe.** A linear model is trained and tested on the same split with the classes of trials
  permuted. There is nothing to find then, so that finding it is a leak.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from de3dgan.baselines import frame_de
from de3dgan.data import Frames
from de3dgan.files import differences
from de3dgan.metrics import balanced_accuracy
from de3dgan.normalisation import (
    DE_SCALER,
    EEG_SCALER,
    RobustScaler,
    de_statistics,
    eeg_statistics,
)
from de3dgan.seeds import derived_rng
from de3dgan.splits import Split, group_names
from de3dgan.store import Store

#: Permutations of the probe, and how sure its interval is: a fold has up to six certificates, and
#: an honest one should not be suspected by chance.
N_PERMUTATIONS = 100
_CONFIDENCE = 0.999


def certificate(
    frames: Frames,
    split: Split,
    labels: np.ndarray,
    tested: np.ndarray,
    chain: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the leakage certificate of one evaluation.

    Parameters
    ----------
    frames : Frames
        The real EEG and its store.
    split : Split
        What the probe is trained and tested on.
    labels : array of int, (n_trials,)
        Class of each trial, for the probe.
    tested : array of int
        Frames that are predicted, or measured.
    chain : dict
        The content of each checkpoint that went into it, by stage.

    Returns
    -------
    dict
        ``group`` says what a group is; ``test_groups``, the tested trials of each group;
        ``artefacts``, a list with the ``stage``, the ``artefact``, the ``groups`` it saw, their
        ``overlap`` with the test groups, and for scalers whether they were ``recomputed``;
        ``probe``, see there; ``reasons``, a sentence for each thing found; and ``leaky``, whether
        there is one.
    """
    group, names = group_names(frames.store, split.protocol)
    test_groups: dict[str, list[int]] = {}
    for trial in np.unique(tested // frames.n_frames).tolist():
        test_groups.setdefault(str(names[trial]), []).append(trial)
    artefacts, reasons = [], []
    for stage, content in chain.items():
        for artefact, seen in content["seen"].items():
            trials = np.unique(np.flatnonzero(seen) // frames.n_frames)
            groups = set(names[trials])
            entry = {
                "stage": stage,
                "artefact": artefact,
                "n_frames": int(seen.sum()),
                "groups": _listed(names, groups),
                "overlap": _listed(names, groups & set(test_groups)),
            }
            if entry["overlap"]:
                reasons.append(
                    f"The {artefact} of the {stage} stage saw {len(entry['overlap'])} of the "
                    f"{len(test_groups)} groups ({group}) tested on."
                )
            key, recompute = _SCALERS.get(artefact, (None, None))
            if key:
                stored = content.get(key, {})
                entry["recomputed"] = _same(recompute(frames, np.flatnonzero(seen)), stored)
                if not entry["recomputed"]:
                    reasons.append(
                        f"The {artefact} of the {stage} stage is not that of the frames that it is "
                        "said to come from."
                    )
            artefacts.append(entry)
        missing = sorted(_expected(content) - set(content["seen"]))
        reasons += [
            f"Nothing is known of what the {artefact} of the {stage} stage saw."
            for artefact in missing
        ]
    found = probe(frames.store, split, labels)
    if not found["covers_chance"]:
        reasons.append(
            "A linear model finds the classes of trials even if they are permuted: balanced "
            f"accuracy {found['balanced_accuracy']:.3f}, chance {found['chance']:.3f}."
        )
    return {
        "protocol": split.protocol,
        "group": group,
        "test_groups": test_groups,
        "artefacts": artefacts,
        "probe": found,
        "reasons": reasons,
        "leaky": bool(reasons),
    }


def foreign_data(
    content: Mapping[str, Any], frames: Frames, split: Split, admits_leak: bool
) -> str | None:
    """Return in what the data of a checkpoint is not that of its split, or None.

    Its record of what it has seen must be of this split, and its statistics those of what it has
    seen. `certificate` looks at the same, but only once there is something to certify; a later
    stage asks before it begins.

    Parameters
    ----------
    content : dict
        That of an earlier stage's ``model.pt``.
    frames : Frames
        The real EEG and its store.
    split : Split
        The split of the later stage.
    admits_leak : bool
        Whether its own certificate says that it is leaky: what is made from it will be marked as
        leaky, too, and need not be refused.
    """
    ours = {part: split.trials(part).tolist() for part in ("train", "val", "test")}
    changed = differences(_parts(content["trials"]), _parts(ours), "trials.")
    if changed:
        return f"it differs in {changed[0]}"
    seen, artefacts = content["seen"], _expected(content)
    if set(seen) != artefacts:
        theirs, ours = (" and ".join(sorted(names)) for names in (seen, artefacts))
        return f"seen holds {theirs or 'nothing'}, and must hold {ours}"
    for artefact, of_frames in seen.items():
        if len(of_frames) != frames.shape[0]:
            return f"seen.{artefact} has {len(of_frames)} frames, the store {frames.shape[0]}"
        n_tested = int(of_frames[split.test].sum())
        if n_tested and not split.leaky and not admits_leak:
            return (
                f"its {artefact} saw {n_tested} of the {len(split.test)} frames to test on, and "
                "the leakage.json beside it does not say so"
            )
        key, recompute = _SCALERS.get(artefact, (None, None))
        if key in content:
            if not of_frames.any():
                return f"its {artefact} saw no frame"
            recomputed = recompute(frames, np.flatnonzero(of_frames))
            if not _same(recomputed, content[key]):
                changed = differences(content[key], asdict(recomputed), f"{key}.")
                return f"its {artefact} is not that of the frames it saw: {changed[0]}"
    return None


def probe(store: Store, split: Split, labels: np.ndarray) -> dict[str, Any]:
    """Train and test a linear model on a split whose trials have been given classes at random.

    Classes are permuted among the trials that are tested on, and among those that are not, so that
    each part keeps its balance and chance is exactly one in the number of classes. Trials that are
    on both sides of the split are permuted as one: a model that knows them again is found out.

    Parameters
    ----------
    store : Store
        The data.
    split : Split
        Training and validation frames are trained on, test frames tested.
    labels : array of int, (n_trials,)
        Class of each trial.

    Returns
    -------
    dict
        ``n_permutations``; the mean ``balanced_accuracy`` per frame over permutations, its 99.9 %
        interval ``low`` to ``high``, ``chance``, and whether it ``covers_chance``.

    Notes
    -----
    The model is ridge regression onto indicators of the classes, which serves all permutations
    at once; the class furthest above its frequency in training is predicted.
    """
    from scipy import stats  # imports of a second, which training does not need
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = derived_rng(split.seed, split.fold, "permuted classes")
    known, tested = np.concatenate([split.train, split.val]), split.test
    trained_on = np.isin(np.arange(store.n_trials), known // split.n_frames)
    tested_on = np.isin(np.arange(store.n_trials), tested // split.n_frames)
    strata = trained_on + 2 * tested_on
    permuted = np.tile(labels, (N_PERMUTATIONS, 1))
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        permuted[:, rows] = rng.permuted(permuted[:, rows], axis=1)

    n_classes = int(labels.max()) + 1
    indicators = np.eye(n_classes)[permuted[:, known // split.n_frames]]  # (n, n_known, n_classes)
    targets = indicators.swapaxes(0, 1).reshape(len(known), -1)
    model = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
    model.fit(frame_de(store, known), targets)
    excess = model.predict(frame_de(store, tested)) - targets.mean(0)
    predicted = excess.reshape(len(tested), N_PERMUTATIONS, n_classes).argmax(-1).T
    truth = permuted[:, tested // split.n_frames]
    scores = [balanced_accuracy(*pair) for pair in zip(truth, predicted, strict=True)]
    mean, chance = float(np.mean(scores)), 1 / n_classes
    quantile = stats.t.ppf((1 + _CONFIDENCE) / 2, N_PERMUTATIONS - 1)
    half = float(quantile * np.std(scores, ddof=1) / np.sqrt(N_PERMUTATIONS))
    return {
        "n_permutations": N_PERMUTATIONS,
        "balanced_accuracy": mean,
        "low": mean - half,
        "high": mean + half,
        "chance": chance,
        "covers_chance": bool(abs(mean - chance) <= half + 1e-9),
    }


def _expected(content: Mapping[str, Any]) -> set[str]:
    """Return the artefacts that a checkpoint must have a record of."""
    networks = {"generator"} if content["stage"] == "gan" else {"classifier"}
    if content["module"] == "Generator":  # the published one, which has a critic
        networks.add("critic")
    # Fine-tuning goes on with the scaler of the classifier, which has the record.
    scalers = {artefact for artefact, (key, _) in _SCALERS.items() if key in content}
    return networks | {"chosen epoch"} | (scalers if content["stage"] != "finetune" else set())


def _parts(trials: Mapping[str, Iterable[int]]) -> dict[int, str]:
    """Return the parts of a split that each trial is in, of the trials of each part."""
    parts: dict[int, str] = {}
    for part, of_part in trials.items():
        for trial in of_part:
            parts[trial] = f"{parts[trial]}+{part}" if trial in parts else part
    return parts


def _of_de(frames: Frames, numbers: np.ndarray) -> RobustScaler:
    return de_statistics(frames, np.unique(numbers // frames.n_frames))


#: Where a checkpoint has a scaler's statistics, and how they are computed.
_SCALERS = {EEG_SCALER: ("eeg_scaler", eeg_statistics), DE_SCALER: ("de_scaler", _of_de)}


def _same(scaler: RobustScaler, stored: Mapping[str, Any]) -> bool:
    """Return whether statistics agree to what another machine's rounding may change."""
    recomputed = asdict(scaler)
    return stored.keys() == recomputed.keys() and all(
        np.shape(value) == np.shape(stored[key]) and np.allclose(value, stored[key], rtol=1e-6)
        for key, value in recomputed.items()
    )


def _listed(names: np.ndarray, groups: set[str]) -> list[str]:
    """Return `groups` in the order of the store's trials."""
    return [name for name in dict.fromkeys(names.tolist()) if name in groups]
