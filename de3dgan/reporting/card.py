"""The data set card as text: what is in a store, and what to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from textwrap import wrap

import numpy as np

from de3dgan.base.files import write_text
from de3dgan.base.paths import display_path
from de3dgan.data.store import CARD, REFERENCES, Store
from de3dgan.eeg.sampling import SFREQ
from de3dgan.evaluation.card import Card, Label, describe, distance_from_others
from de3dgan.evaluation.copies import Copy
from de3dgan.reporting.wording import NOT_DEFINED, count, number, span

_WIDTH = 100
#: People and stimuli that have a line each, at most; of more, the range is shown.
_MOST_PEOPLE, _MOST_STIMULI = 40, 8
#: Signs that the columns of labels may take in these tables, and a list of classes.
_ROOM_OF_LABELS, _ROOM_OF_CLASSES = 48, 36
#: Names that one sentence lists, at most.
_MOST_NAMED = 5
#: µV between which the median amplitude of EEG lies.
_LEAST_UV, _MOST_UV = 0.5, 500.0
#: Distance of a person's log amplitude from others', in their standard deviations, that is told.
_UNLIKE = 5.0
#: Share of a class below which it is rare.
_RARE = 0.2
#: How far from 0.5 an AUC is, and how many standard deviations, if it is told.
_AUC, _Z = 0.15, 3.0


def card_text(card: Card) -> str:
    """Return the whole card: sections of aligned plain text, ending in what to look at."""
    found = findings(card)
    numbered = (
        "\n".join(wrap(f"{n}. {text}", _WIDTH - 2, subsequent_indent="   "))
        for n, text in enumerate(found, 1)
    )
    parts = {
        "Data": _overview(card),
        "Labels": _labels(card),
        "People": _people(card),
        "Stimuli": _stimuli(card),
        "What to look at": "\n".join(numbered) or "Nothing stands out.",
    }
    return "\n\n".join(f"{title}\n{_indented(text)}" for title, text in parts.items()) + "\n"


def write_card(store: Store) -> str:
    """Describe a store, write its card as ``card.png`` and ``card.txt`` into it, return the text.

    Raises
    ------
    UserError
        If EEG is not finite, or the folder cannot be written to.
    """
    from de3dgan.figures.card import data_card
    from de3dgan.figures.style import save

    card = describe(store)
    text = card_text(card)
    where = display_path(store.path)
    save(data_card(card, f"Store {where} ({store.hash[:12]})"), store.path / CARD[0])
    write_text(store.path / CARD[1], text)
    return text


def findings(card: Card) -> list[str]:
    """Return one sentence for all that stands out in a store; none if nothing does."""
    return [
        *_about_amplitude(card),
        *_about_channels(card),
        *_about_directions(card),
        *_about_copies(card),
        *_about_trials(card),
        *(sentence for label in card.labels for sentence in _about_label(card, label)),
    ]


# --- what to look at


def _about_amplitude(card: Card) -> Iterable[str]:
    of_people = np.median(card.amplitudes(), 1)
    typical = float(np.median(of_people))
    if not _LEAST_UV <= typical <= _MOST_UV:
        yield (
            f"The EEG has a standard deviation of {typical:.2g} µV, and scalp EEG has some 5 to 50 "
            "µV: see that the source gives µV, not V or mV."
        )
    distance = distance_from_others(np.log(of_people + 1e-6))
    unlike = [
        f"{card.people[row]} ({of_people[row]:.2g} µV)"
        for row in np.flatnonzero(np.abs(distance) > _UNLIKE)
    ]
    if unlike and len(of_people) > 2:
        yield f"The amplitude of {_listed(unlike)} is far from the others' ({typical:.2g} µV)."


def _about_channels(card: Card) -> Iterable[str]:
    texts = {
        "flat": "Flat channel, without EEG: {}.",
        "loud": "Loud channel, far above the others of that person: {}.",
        "duplicated": "Duplicated channels, which hold the same: {}.",
    }
    totals = {subject: int((card.subjects == subject).sum()) for subject in card.people}
    for kind, text in texts.items():
        found = [channel for channel in card.channels if channel.kind == kind]
        # What is so in everybody is one finding, not as many as there are people.
        named: dict[str, list[str]] = {}
        for channel in found:
            part = (
                ""
                if channel.n_trials == totals[channel.subject]
                else (f" ({channel.n_trials} of {count(totals[channel.subject], 'trial')})")
            )
            named.setdefault(channel.name, []).append(f"{channel.subject}{part}")
        items = [f"{name} of {_listed(whose, card.people)}" for name, whose in named.items()]
        if items:
            yield text.format(_listed(items))


def _about_directions(card: Card) -> Iterable[str]:
    n = int(card.lacks.sum())
    if n:
        people = list(dict.fromkeys(card.subjects[card.lacks].tolist()))
        yield (
            f"{n} of {count(len(card.lacks), 'trial')}, of {_listed(people, card.people)}, "
            f"{'lacks' if n == 1 else 'lack'} directions between electrodes that other trials of "
            "the same person have, as cleaning by independent components leaves them: that tells "
            "recordings apart, and classes if these were recorded apart; --subspace common removes "
            "them where the source sets cleaned_apart."
        )


def _about_copies(card: Card) -> Iterable[str]:
    for same, text in ((True, "Identical EEG"), (False, "Nearly the same EEG")):
        found = [copy for copy in card.copies if (copy.correlation == 1.0) == same]
        if found:
            yield (
                f"{text}: {_listed([_copy(card, copy, same) for copy in found], separator='; ')}: "
                "a split that has them on both sides tests on what it was trained on."
            )


def _copy(card: Card, copy: Copy, same: bool) -> str:
    first, second = sorted((copy.tested, copy.seen))
    names = [
        f"trial {trial} ({card.subjects[trial]}, {card.stimuli[trial]})"
        for trial in (first, second)
    ]
    about = "" if same else f" ({copy.seconds:.0f} s, correlation {number(copy.correlation, 2)})"
    return f"{names[0]} and {names[1]}{about}"


def _about_trials(card: Card) -> Iterable[str]:
    names, numbers = np.unique(card.subjects, return_counts=True)
    few = [
        f"{name} ({n})"
        for name, n in zip(names, numbers, strict=True)
        if n < np.median(numbers) / 2
    ]
    if few:
        yield f"Few trials: {_listed(few)}, where others have {np.median(numbers):g}."


def _about_label(card: Card, label: Label) -> Iterable[str]:
    if not label.classes:
        return
    per_person = _counts(card.subjects, card.people, label)
    shares = per_person.sum(0) / max(1, per_person.sum())
    rare = [
        f"{name} ({100 * share:.0f} %)"
        for name, share in zip(label.classes, shares, strict=True)
        if share < _RARE * 2 / len(label.classes)
    ]
    if rare:
        yield (
            f"Rare in {label.name}: {_listed(rare)}: accuracy is high for whoever never says it; "
            "look at balanced accuracy."
        )
    first = np.unique(card.trials, return_index=True)[1]  # piece of each trial
    one_sided = (per_person > 0).sum(1) == 1
    names = [card.people[row] for row in np.flatnonzero(one_sided)]
    if names:
        yield (
            f"Only one class of {label.name} in all trials of {_listed(names, card.people)}: who "
            "it is tells the class."
        )
    elif _counts(card.subjects[first], card.people, label, first).max() == 1:
        yield (
            f"Nobody has two trials of one class of {label.name}: whatever differs between two "
            "recordings passes for the class."
        )
    if abs(label.told_above - 0.5) >= _AUC and abs(label.z) >= _Z:
        yield (
            f"Power from 46 to 64 Hz tells {label.name} within people (AUC "
            f"{number(label.told_above, 2)}): that is muscles or the amplifier rather than the "
            "brain, and a model may learn it."
        )


# --- the sections


def _overview(card: Card) -> str:
    store = card.store
    n_baselines, _, n_baseline_times = store.baseline.shape
    sessions = _numbers(zip(card.subjects, card.sessions, strict=True), card.people)
    per_person = np.unique(card.subjects, return_counts=True)[1].tolist()
    trials = count(store.n_trials, "trial")
    if card.trials[-1] + 1 < store.n_trials:
        trials = (
            f"{count(store.n_trials, 'piece')} of {count(int(card.trials[-1]) + 1, 'trial')}, each "
            "counted as a trial,"
        )
    relative = f"DE is relative to {REFERENCES[store.reference]}"
    if store.reference != "none":
        relative += f" ({n_baselines:,} of {n_baseline_times / SFREQ:g} s)"
    rows, columns = store.grid.shape
    electrodes = f"{len(store.ch_names)} on a grid of {rows} by {columns}"
    if store.manifest.get("montage"):
        electrodes += f", montage {store.manifest['montage']}"
    table = [
        ["source", f"{store.manifest['source']}, store {store.hash[:12]}"],
        ["people", f"{len(card.people)}, {_count_span(sessions, 'session')} each"],
        ["trials", f"{trials} of {store.n_frames} s, {span(per_person)} per person"],
        ["stimuli", f"{len(set(card.stimuli.tolist()))}"],
        ["reference", relative],
        ["electrodes", f"{electrodes}: {' '.join(store.ch_names)}"],
    ]
    return aligned(table, wrapped=True)


def _labels(card: Card) -> str:
    if not card.labels:
        return "none"
    rows = [["column", "classes by", "trials of each", "per person %", "per stimulus %", "AUC"]]
    stimuli = list(dict.fromkeys(card.stimuli.tolist()))
    for label in card.labels:
        cells = [NOT_DEFINED] * 4
        if label.classes:
            totals = _counts(card.subjects, card.people, label).sum(0)
            each = ", ".join(f"{name} {n}" for name, n in zip(label.classes, totals, strict=True))
            if len(each) > _ROOM_OF_CLASSES:
                each = f"{span(totals.tolist())} of {len(totals)} classes"
            cells = [
                each,
                _share_span(_counts(card.subjects, card.people, label)),
                _share_span(_counts(card.stimuli, stimuli, label)),
                number(label.told_above, 2),
            ]
        rows.append([label.name, label.about, *cells])
    return aligned(rows) + _note(
        "%: trials of the last class. AUC: how well power from 46 to 64 Hz tells the class within "
        "a person; 0.5 is not at all, 0 and 1 are always."
    )


def _people(card: Card) -> str:
    amplitudes = card.amplitudes()
    labels = _shown(card)
    sizes = [int((card.subjects == subject).sum()) for subject in card.people]
    measures: dict[str, tuple[np.ndarray, int]] = {
        "trials": (np.array(sizes), 0),
        **{
            f"{label.name} %": (_shares(_counts(card.subjects, card.people, label)), 0)
            for label in labels
        },
        "µV": (np.median(amplitudes, 1), 1),
        "lowest": (amplitudes.min(1), 1),
        "highest": (amplitudes.max(1), 1),
        "46-64 Hz": (_per(card, card.above, np.median), 2),
        "rank": (_per(card, card.rank, np.min), 0),
    }
    return aligned(_rows("person", card.people, measures, _MOST_PEOPLE)) + _note(
        "µV: standard deviation, of the median, the lowest and the highest channel, and of the "
        "median one from 46 to 64 Hz, where muscles and amplifier are louder than the brain. Rank: "
        "directions between electrodes with power, the fewest in a trial."
    )


def _stimuli(card: Card) -> str:
    names = sorted(set(card.stimuli.tolist()))
    measures: dict[str, tuple[np.ndarray, int]] = {
        "trials": (np.array([(card.stimuli == name).sum() for name in names]), 0),
        **{
            f"{label.name} %": (_shares(_counts(card.stimuli, names, label)), 0)
            for label in _shown(card)
        },
    }
    return aligned(_rows("stimulus", names, measures, _MOST_STIMULI))


def _rows(
    kind: str, names: Sequence[str], measures: dict[str, tuple[np.ndarray, int]], most: int
) -> list[list[str]]:
    """Return a row for each of `names`, or the range of each measure if there are many."""
    rows = [[kind, *measures]]
    if len(names) <= most:
        cells = [[number(float(v), digits) for v in values] for values, digits in measures.values()]
        return rows + [[name, *row] for name, *row in zip(names, *cells, strict=True)]
    parts: dict[str, Callable[[np.ndarray], float]] = {
        f"lowest of {len(names)}": np.min,
        "median": np.median,
        "highest": np.max,
    }
    for name, part in parts.items():
        rows.append(
            [
                name,
                *(
                    number(float(part(v[~np.isnan(v)])) if (~np.isnan(v)).any() else None, digits)
                    for v, digits in ((values.astype(float), d) for values, d in measures.values())
                ),
            ]
        )
    return rows


def _shown(card: Card) -> list[Label]:
    """Return the labels that have a column in the tables of people and stimuli."""
    labels = [label for label in card.labels if label.classes]
    while sum(len(label.name) + 4 for label in labels) > _ROOM_OF_LABELS and len(labels) > 1:
        labels.pop()
    return labels


def _per(card: Card, values: np.ndarray, part: Callable[[np.ndarray], float]) -> np.ndarray:
    """Return a measure of each person's trials."""
    return np.array([part(values[card.subjects == subject]) for subject in card.people])


def _counts(
    names: np.ndarray, of: Sequence[str], label: Label, trials: np.ndarray | None = None
) -> np.ndarray:
    """Return how many of each class are of each name, (len(of), n_classes).

    Parameters
    ----------
    names : array of str, (n,)
        A name of each trial, or of each of `trials`.
    of : sequence of str
        Names.
    label : Label
        The classes.
    trials : array of int, optional
        Rows that are counted; by default all.
    """
    values = label.values if trials is None else label.values[trials]
    classes = np.arange(len(label.classes))
    return np.stack([(values[names == name, None] == classes).sum(0) for name in of])


def _shares(counts: np.ndarray) -> np.ndarray:
    """Return the share of the last class in per cent; NaN where there is none."""
    totals = counts.sum(1)
    return np.where(totals > 0, 100 * counts[:, -1] / np.maximum(totals, 1), np.nan)


def _share_span(counts: np.ndarray) -> str:
    shares = _shares(counts)
    return span([round(share) for share in shares[~np.isnan(shares)]] or [0])


def _numbers(pairs: Iterable[tuple[str, str]], people: Sequence[str]) -> list[int]:
    """Return how many different second items each person has."""
    different = set(pairs)
    return [sum(subject == person for subject, _ in different) for person in people]


def _count_span(values: Sequence[int], thing: str) -> str:
    """Return "1 session", "2 to 3 sessions"."""
    return f"{span(values)} {thing}{'' if max(values) == 1 else 's'}"


def _listed(
    names: Sequence[str], everybody: Sequence[str] | None = None, separator: str = ", "
) -> str:
    """Return names with commas, of many the first ones; or that it is everybody."""
    if everybody is not None and len(names) > 1 and list(names) == list(everybody):
        return f"all {len(names)} people"
    shown = separator.join(names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def aligned(rows: Sequence[Sequence[str]], wrapped: bool = False) -> str:
    """Return rows of text in columns: the first to the left, numbers to the right.

    Parameters
    ----------
    rows : sequence of sequence of str
        The first is the heading.
    wrapped : bool
        There is no heading, and the last column runs on over several lines.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if wrapped:
        indent = " " * (widths[0] + 2)
        return "\n".join(
            line
            for name, text in rows
            for line in wrap(
                text,
                _WIDTH - 2,
                initial_indent=f"{name:<{widths[0]}}  ",
                subsequent_indent=indent,
            )
        )
    to_left = [
        not any(cell[:1].isdigit() or cell[:1] in "\N{MINUS SIGN}–" for cell in column[1:])
        for column in zip(*rows, strict=True)
    ]
    to_left[0] = True
    return "\n".join(
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(row, widths, to_left, strict=True)
        ).rstrip()
        for row in rows
    )


def _note(text: str) -> str:
    return "\n" + "\n".join(wrap(text, _WIDTH - 2))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
