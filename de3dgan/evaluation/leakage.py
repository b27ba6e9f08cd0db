"""The leakage certificate: whether anything that a result rests on has seen the test groups.

It consists of three independent checks. None of them relies on the configuration:

- **Overlap.** Every checkpoint records, per artefact, which frames were read while it was trained
  or fitted (`de3dgan.data.ledger`). Their groups are looked up in ``trials.csv`` and compared with
  the groups tested on.
- **Recomputation.** The statistics of scalers are computed anew from the frames that they are
  recorded to come from. (Weights cannot be: for them there is the record alone.)
- **Copies.** The recordings tested on are compared with those that were seen
  (`de3dgan.evaluation.copies`): names do not say that two trials are not the same one. Of thousands
  of recordings not every pair is; the certificate says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from de3dgan.base.files import write_json
from de3dgan.data.frames import Frames
from de3dgan.data.scalers import STATISTICS, same_statistics
from de3dgan.data.splits import Split, group_names
from de3dgan.data.store import Store
from de3dgan.evaluation.copies import all_compared, find_copies
from de3dgan.training.run import Run
from de3dgan.training.upstream import expected_artefacts


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
    found = certificate(frames, run.split, tested, chain)
    write_json(run.dir / "leakage.json", found)
    run.certificate.update(found)
    for reason in found["reasons"]:
        run.log(f"LEAKY: {reason}")


def certificate(
    frames: Frames,
    split: Split,
    tested: np.ndarray,
    chain: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the leakage certificate of one evaluation.

    Parameters
    ----------
    frames : Frames
        The real EEG and its store.
    split : Split
        Its protocol says what a group is.
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
        ``recomputed``. ``copies``, ``notes``: what `copies_seen` returns. ``reasons``: a sentence
        for each leak. ``leaky``: whether there is one.
    """
    group, names = group_names(frames.store, split.protocol)
    test_groups: dict[str, list[int]] = {}
    for trial in np.unique(tested // frames.n_frames).tolist():
        test_groups.setdefault(str(names[trial]), []).append(trial)
    artefacts, reasons, seen_by_any = [], [], set()
    for stage, content in chain.items():
        for artefact, seen in content["seen"].items():
            trials = np.unique(np.flatnonzero(seen) // frames.n_frames)
            groups = set(names[trials])
            seen_by_any.update(trials.tolist())
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
    copies, notes = copies_seen(
        frames.store, split.protocol, tested // frames.n_frames, np.array(sorted(seen_by_any), int)
    )
    reasons += _of_copies(copies)
    return {
        "protocol": split.protocol,
        "group": group,
        "test_groups": test_groups,
        "artefacts": artefacts,
        "copies": copies,
        "notes": notes,
        "reasons": reasons,
        "leaky": bool(reasons),
    }


def copies_seen(
    store: Store, protocol: str, tested: np.ndarray, seen: np.ndarray
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the recordings tested on that are copies of others, which were seen.

    Of new people, baselines must be new as well. In other protocols they may be shared.

    Parameters
    ----------
    store : Store
        The data.
    protocol : str
        That of the split.
    tested, seen : array of int
        Trials. Those of both are left out: they need no comparison.

    Returns
    -------
    copies : list of dict
        For each that is one, the fields of `de3dgan.evaluation.copies.Copy`; ``recording``: whether
        it is a "trial" or a "baseline"; ``tested_subject`` and ``seen_subject``: whose it is.
    notes : list of str
        A sentence where not all pairs were compared.
    """
    tested, seen = np.unique(tested), np.setdiff1d(seen, tested)
    recordings = {"trial": (store.eeg, np.arange(store.n_trials))}
    if protocol == "subject" and store.reference != "none":
        recordings["baseline"] = (store.baseline, store.baseline_index)
    subjects, found, notes = np.array(store.columns["subject"]), [], []
    for recording, (eeg, row_of) in recordings.items():
        ours, theirs = (
            dict(zip(row_of[trials].tolist(), subjects[trials].tolist(), strict=True))
            for trials in (tested, seen)
        )
        if not all_compared(eeg, len(ours), len(theirs)):
            notes.append(
                f"There are too many {recording}s to compare all pairs: they were looked up by "
                "fingerprints, which miss copies with noise that is as loud as the EEG."
            )
        found += [
            {
                "recording": recording,
                **vars(copy),
                "tested_subject": ours[copy.tested],
                "seen_subject": theirs[copy.seen],
            }
            for copy in find_copies(eeg, np.array(list(ours)), np.array(list(theirs)))
        ]
    return found, notes


def _of_copies(copies: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each two people of whom one has copies of the other's recordings."""
    of_people: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for copy in copies:
        key = (copy["recording"], copy["tested_subject"], copy["seen_subject"])
        of_people.setdefault(key, []).append(copy)
    return [
        f"Of {tested} {len(some)} {recording}{'s' * (len(some) > 1)} tested on "
        f"{'are copies' if len(some) > 1 else 'is a copy'} of what was seen of {seen}: "
        f"{recording} {some[0]['tested']} is {recording} {some[0]['seen']} (correlation "
        f"{some[0]['correlation']:.2f} over {some[0]['seconds']:.1f} s)."
        for (recording, tested, seen), some in of_people.items()
    ]


def _listed(names: np.ndarray, groups: set[str]) -> list[str]:
    """Return `groups` in the order of the store's trials."""
    return [name for name in dict.fromkeys(names.tolist()) if name in groups]
