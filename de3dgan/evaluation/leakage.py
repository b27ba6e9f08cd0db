"""The leakage certificate: whether anything that a result rests on has seen the test groups.

It consists of three independent checks. None of them relies on the configuration:

- **Overlap.** Every checkpoint records, per artefact, which frames were read while it was trained
  or fitted (`de3dgan.data.ledger`). Their groups are looked up in ``trials.csv`` and compared with
  the groups tested on.
- **Recomputation.** The statistics of scalers are computed anew from the frames that they are
  recorded to come from. (Weights cannot be: for them there is the record alone.)
- **Probe.** A linear model is trained and tested on the same split with the classes of trials
  permuted. Then there is no class to find, so that finding one is a leak.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from de3dgan.base.files import write_json
from de3dgan.base.seeds import derived_rng
from de3dgan.data.frames import Frames
from de3dgan.data.scalers import STATISTICS, same_statistics
from de3dgan.data.splits import Split, group_names
from de3dgan.data.store import Store
from de3dgan.evaluation.baselines import frame_de
from de3dgan.evaluation.metrics import balanced_accuracy
from de3dgan.training.run import Run
from de3dgan.training.upstream import expected_artefacts

#: Permutations of the probe, and the level of its interval: a fold has up to six certificates, and
#: chance should hardly ever raise suspicion of an honest one.
N_PERMUTATIONS = 100
_CONFIDENCE = 0.999


def certify(run: Run, content: dict[str, Any], frames: Frames, tested: np.ndarray) -> None:
    """Write a run's ``leakage.json``: whether what is tested has been seen before.

    Parameters
    ----------
    run : Run
        The run.
    content : dict
        That of its own ``model.pt``.
    frames : Frames
        The real EEG.
    tested : array of int
        The frames that are predicted, or measured.
    """
    chain = {**run.upstream, run.stage: content}
    found = certificate(frames, run.split, run.labels, tested, chain)
    write_json(run.dir / "leakage.json", found)
    run.certificate.update(found)
    for reason in found["reasons"]:
        run.log(f"LEAKY: {reason}")


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
        The content of each checkpoint that the evaluation uses, by stage.

    Returns
    -------
    dict
        ``group``: what a group is. ``test_groups``: the tested trials of each group.
        ``artefacts``: a list with the ``stage``, the ``artefact``, the ``groups`` it saw, their
        ``overlap`` with the test groups, and for scalers whether recomputation gave the same,
        ``recomputed``. ``probe``: what `probe` returns. ``reasons``: a sentence for each leak.
        ``leaky``: whether there is one.
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
            key, recompute = STATISTICS.get(artefact, (None, None))
            if key:
                stored = content.get(key, {})
                entry["recomputed"] = same_statistics(
                    recompute(frames, np.flatnonzero(seen)), stored
                )
                if not entry["recomputed"]:
                    reasons.append(
                        f"The {artefact} of the {stage} stage is not that of the frames that it is "
                        "said to come from."
                    )
            artefacts.append(entry)
        missing = sorted(expected_artefacts(content) - set(content["seen"]))
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


def probe(store: Store, split: Split, labels: np.ndarray) -> dict[str, Any]:
    """Train and test a linear model on a split, with the classes of trials permuted.

    Classes are permuted among the trials tested on, and among the others, so that each part keeps
    its balance of classes, and chance is exactly one in the number of classes. A trial on both
    sides of the split has the same class on both: a model that recognises the trial is found out.

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
    The model is ridge regression onto indicators of the classes, which fits all permutations at
    once. It predicts the class whose indicator is furthest above its mean in training.
    """
    from scipy import stats  # imported here, as they take 1 s and training does without
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


def _listed(names: np.ndarray, groups: set[str]) -> list[str]:
    """Return `groups` in the order of the store's trials."""
    return [name for name in dict.fromkeys(names.tolist()) if name in groups]
