"""Every source, from files in its published layout to a fine-tuned classifier, as a user goes.

Files are tiny and hold noise. What each test trial is labelled is told by whoever wrote the files,
and compared with what the scripts have written at the end of the chain.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from de3dgan.data import bounded, sources
from de3dgan.eeg.sampling import SFREQ
from tests.conftest import ROOT, STAGES, TINY, run_here, script_of
from tests.writers import bids, deap, dreamer, eegmat, faced, seed

#: Class of each trial, by subject, session and stimulus.
Labels = dict[tuple[str, str, str], int]

LOW_HIGH = ("low valence", "high valence")
#: Protocol subject tests on two of seven people, and needs five more.
N_PEOPLE = 7


# --- files, and what their trials are


def write_deap(folder: Path) -> Labels:
    """Seven people, two videos each: rated 8 and 2, or 2 and 8."""
    ratings = np.full((N_PEOPLE, 2, 4), 4.0)
    ratings[:, :, 0] = [(8, 2) if person % 2 else (2, 8) for person in range(N_PEOPLE)]
    deap.write_dats(folder, ratings)
    deap.write_csv(folder / "participant_ratings.csv", deap.rows(ratings))
    return {
        (f"s{person + 1:02d}", "1", f"video{video + 1:02d}"): int(ratings[person, video, 0] > 5)
        for person, video in np.ndindex(N_PEOPLE, 2)
    }


def write_dreamer(folder: Path) -> Labels:
    """Seven people, two films each: 3, the middle of 1 to 5, is low."""
    rng = np.random.default_rng(0)
    scores = [(3, 5), (4, 1), (2, 4), (5, 3), (1, 5), (4, 2), (3, 4)]
    people = [
        dreamer.dreamer_person(rng, [61, 60], ScoreValence=np.array(both, float)[:, None])
        for both in scores
    ]
    folder.mkdir()
    dreamer.write_dreamer(folder, people)
    return {
        (f"s{person:02d}", "1", f"film{film:02d}"): int(score > 3)
        for person, both in enumerate(scores, start=1)
        for film, score in enumerate(both, start=1)
    }


def write_eegmat(folder: Path) -> Labels:
    """Seven people, as PhysioNet has them."""
    folder.mkdir()
    people = [f"Subject{number:02d}" for number in range(N_PEOPLE)]
    for number, person in enumerate(people):
        eegmat.write_pair(folder, 76, subject=person, seed=2 * number)
    stimuli = ("rest", "arithmetic")
    return {
        (person, "1", stimulus): stimuli.index(stimulus)
        for person in people
        for stimulus in stimuli
    }


def write_faced(folder: Path) -> Labels:
    """Two people, who saw 28 films."""
    labels = {}
    for number, person in enumerate(("sub000", "sub101")):
        _, order, scores = faced.write_faced(folder, person, seed=number)
        valence = scores[:, faced.RATINGS.index("valence")]
        labels |= {
            (person, "1", f"film{film:02d}"): int(rating > 3.5)
            for film, rating in zip(order, valence, strict=True)
        }
    return labels


def write_seed(folder: Path) -> Labels:
    """Two people on three days, with a film of each emotion that lasts 12 s."""
    folder.mkdir()
    films, labels = seed.LABELS[:3], {}
    seed.write_labels(folder, films)
    for person in (1, 12):
        for session in (1, 2, 3):
            name = f"{person}_2013100{session}.mat"
            number = 10 * person + session
            seed.write_session(folder, name, len(films), n_times=12 * 200, seed=number)
            labels |= {
                (f"s{person:02d}", str(session), f"film{film:02d}"): label + 1
                for film, label in enumerate(films, start=1)
            }
    return labels


def write_seed_iv(folder: Path) -> Labels:
    """One person on the second day; the labels are those of the ReadMe."""
    seed.write_session(folder / "2", "3_20151018.mat", n_films=24, n_times=12 * 200)
    told = "2,1,3,0,0,2,0,2,3,3,2,3,2,0,1,1,2,1,0,3,0,1,3,1"
    return {
        ("s03", "2", f"film{film:02d}"): int(label)
        for film, label in enumerate(told.split(","), start=25)
    }


def write_faced_bids(folder: Path) -> Labels:
    """Seven people, who felt joy at a clip and little at another."""
    people = [f"{number:03d}" for number in range(N_PEOPLE)]
    for number, person in enumerate(people):
        bids.write_faced(folder, person, 250, "uV", eeg=eegmat.noise(32, 102, 250, seed=number))
    ratings = {"23": np.linspace(0, 7, 12)[9], "15": np.linspace(7, 0, 12)[9]}
    return {
        (f"sub-{person}", "1", stimulus): int(valence > 3.5)
        for person in people
        for stimulus, valence in ratings.items()
    }


def write_planted(folder: Path) -> Labels:
    """Seven people's rest, in which an effect is planted."""
    origin = folder.with_name("eegmat")
    write_eegmat(origin)
    flags = "--strength 0.2 --baseline-seconds 10 --imbalance 0".split()
    script = ROOT / "de3dgan" / "data" / "planted.py"
    run(script, "--source", "eegmat", "--data-dir", origin, "--out-dir", folder, *flags)
    return {
        (row["subject"], "1", row["stimulus"]): int(float(row["valence"]) > 5)
        for row in read_table(folder / "trials.csv")
    }


# --- the chains


@dataclass(frozen=True)
class Chain:
    """What a user of a source does.

    Attributes
    ----------
    write : callable
        Writes the files into a folder, and returns what their trials are.
    task : str
        Whose scripts are run.
    protocol : str
    class_names : tuple of str
    reference : str
        What DE is relative to in the end.
    preprocess, stages : str
        More flags of preprocess_de.py, and of the stages.
    people : tuple of str
        Of protocol within, who is trained and tested on, each alone.
    """

    write: Callable[[Path], Labels]
    task: str = "Valence"
    protocol: str = "subject"
    class_names: tuple[str, ...] = LOW_HIGH
    reference: str = "baseline"
    preprocess: str = ""
    stages: str = ""
    people: tuple[str | None, ...] = (None,)


CHAINS = {
    "deap": Chain(write_deap, preprocess="--trial-seconds 12 --channels Fp1 Fp2 Cz T7 T8 Oz"),
    "dreamer": Chain(write_dreamer, preprocess="--channels AF3 AF4 T7 T8 O1 O2"),
    "eegmat": Chain(
        write_eegmat,
        "Workload",
        class_names=("rest", "arithmetic"),
        preprocess="--trial-seconds 20 --channels Fp1 Fp2 T3 T4 O1 O2 Fz Cz",
    ),
    "faced": Chain(
        write_faced,
        protocol="within",
        reference="none",
        preprocess="--channels Fp1 Fp2 Cz T7 T8 Oz",
        people=("sub000", "sub101"),
    ),
    "seed": Chain(
        write_seed,
        "SEED",
        "session",
        class_names=("negative", "neutral", "positive"),
        reference="none",
        preprocess="--trial-seconds 12 --channels Fp1 Fp2 F7 F8 T7 C3 Cz C4 T8 O1 Oz O2 CB1 CB2",
    ),
    "seed_iv": Chain(
        write_seed_iv,
        "SEED",
        "trial",
        class_names=("neutral", "sad", "fear", "happy"),
        reference="none",
        preprocess="--trial-seconds 12 --channels Fz C3 C4 Pz CB1 Cb2",
        stages="--class-names neutral sad fear happy",
    ),
    "bids": Chain(
        write_faced_bids,
        preprocess="--settings faced_bids --trial-seconds 12 --channels Fz Cz Pz O1 O2",
    ),
    "planted": Chain(write_planted, protocol="trial", preprocess="--channels Fz Cz Pz O1 O2"),
}


@dataclass(frozen=True)
class Done:
    """What a chain has left.

    Attributes
    ----------
    store, runs : Path
    labels : dict
        What the trials of the files are.
    """

    store: Path
    runs: Path
    labels: Labels

    def folds(self) -> list[Path]:
        """Return the folders of folds, in order."""
        return sorted(self.runs.glob("**/fold0"))


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Callable[[str], Done]:
    """Return what goes a source's chain once; what it returns is not to be changed."""
    from de3dgan.figures import grid
    from de3dgan.figures import stages as figures_of_stages

    @cache
    def go(source: str) -> Done:
        chain, folder = CHAINS[source], tmp_path_factory.mktemp(source)
        labels = chain.write(folder / "files")
        store, runs = folder / "store", folder / "runs"
        read = "--source", source, "--data-dir", folder / "files", "--out-dir", store, "--jobs", 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(figures_of_stages, "plotting", lambda run: None)
            patch.setattr(grid, "draw_grid", lambda store, path: None)
            run(ROOT / "preprocess_de.py", *read, *chain.preprocess.split())
            for stage in STAGES:
                told = "--data-dir", store, "--runs-dir", runs, "--protocol", chain.protocol
                flags = [*chain.stages.split(), *TINY[stage], "--epochs", 1]
                run(script_of(stage, chain.task), *told, *flags)
        return Done(store, runs, labels)

    return go


def run(script: Path, *args: object) -> str:
    """Run a script, which must succeed, and return what it prints."""
    ended = run_here(script, *args)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_source_has_a_chain():
    assert set(CHAINS) == set(sources.names())


@pytest.mark.parametrize("source", CHAINS)
def test_from_files_to_a_fine_tuned_classifier(source, done):
    """Labels at the end of the chain are those that the files were written with."""
    chain, found = CHAINS[source], done(source)
    manifest = json.loads((found.store / "manifest.json").read_text())
    assert (manifest["source"], manifest["reference"]) == (source, chain.reference)
    trials = read_table(found.store / "trials.csv")
    keys = [(row["subject"], row["session"], row["stimulus"]) for row in trials]
    assert set(keys) == set(found.labels)

    task = chain.task.lower()
    place = found.runs / task / chain.protocol
    assert found.folds() == [place / (person or "") / "fold0" for person in chain.people]
    for person, fold in zip(chain.people, found.folds(), strict=True):
        for stage in STAGES:
            result = json.loads((fold / stage / "result.json").read_text())
            about = {name: result[name] for name in ("task", "stage", "protocol", "person")}
            assert about == {
                "task": task,
                "stage": stage,
                "protocol": chain.protocol,
                "person": person,
            }
            assert not result["leaky"]
            settings = json.loads((fold / stage / "config.json").read_text())["settings"]
            assert settings["class_names"] == list(chain.class_names)
        for stage in ("classifier", "finetune"):
            rows = read_table(fold / stage / "predictions.csv")
            p = [f"p_{number}" for number in range(len(chain.class_names))]
            assert list(rows[0]) == ["trial", "frame", "label", *p, "subject"]
            for row in rows:
                key = keys[int(row["trial"])]
                assert (row["subject"], int(row["label"])) == (key[0], found.labels[key])
                assert sum(float(row[name]) for name in p) == pytest.approx(1, abs=1e-6)
            tested = {keys[int(row["trial"])] for row in rows}
            assert {found.labels[key] for key in tested} == set(range(len(chain.class_names)))
            # Each second of whatever is tested on, once.
            n_seconds = manifest["shapes"]["eeg"][2] // SFREQ
            assert len(rows) == n_seconds * sum(key in tested for key in keys)


@pytest.mark.parametrize("source", CHAINS)
def test_the_process_that_reads_gives_what_the_reader_returns(source, done, monkeypatch):
    """Files are read in a process of their own; here they are read in this one as well."""
    settings = Path("faced_bids") if source == "bids" else None
    module = sources.load(source)

    def recordings() -> list[np.ndarray]:
        units = sources.find(module, done(source).store.with_name("files"), settings)
        data = sources.read_checked(module, *next(iter(units.items())))
        return [data.recordings[i] for i in range(len(data.recordings))]

    elsewhere = recordings()
    monkeypatch.setattr(bounded, "_ask", lambda read, path, *_: list(read(path)))
    for one, other in zip(elsewhere, recordings(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("task", ["Arousal", "Four_Class"])
def test_the_papers_other_tasks_take_another_scale(task, done, tmp_path, no_figures, no_baselines):
    """FACED's, from 0 to 7: above 3.5 is high."""
    store = done("faced").store
    where = "--data-dir", store, "--runs-dir", tmp_path
    run(script_of("classifier", task), *where, *TINY["classifier"], "--epochs", 1)
    trials = read_table(store / "trials.csv")
    (table,) = tmp_path.glob("**/predictions.csv")
    names = ["arousal"] if task == "Arousal" else ["valence", "arousal"]
    for row in read_table(table):
        ratings = [float(trials[int(row["trial"])][name]) for name in names]
        assert int(row["label"]) == sum((r > 3.5) << bit for bit, r in enumerate(ratings))


@pytest.mark.parametrize("source", ["seed", "faced"])
def test_summary_and_report_take_them(source, done, tmp_path):
    """Of three classes, and of people who were trained on one at a time."""
    chain, found = CHAINS[source], done(source)
    for person, fold in zip(chain.people, found.folds(), strict=True):
        run(ROOT / "de3dgan" / "reporting" / "summary.py", "--fold-dir", fold)
        (said,) = re.findall("^Task .*", (fold / "summary.md").read_text(), re.MULTILINE)
        for word in (chain.task.lower(), f"protocol {chain.protocol}", "fold 0", person or ""):
            assert word in said
    run(ROOT / "report.py", "--runs-dir", found.runs, "--out", tmp_path)
    page = (tmp_path / "report.html").read_text()
    for word in (f"protocol {chain.protocol}", *filter(None, chain.people)):
        assert word in page


def test_eeg_of_62_electrodes_is_generated(tmp_path):
    """A file for MNE, of a montage beyond the paper's grid."""
    import mne

    store, files, path = (tmp_path / name for name in ("store", "files", "made.fif"))
    write_seed(files)
    read = "--source seed --trial-seconds 12 --jobs 1".split()
    run(ROOT / "preprocess_de.py", *read, "--data-dir", files, "--out-dir", store)
    manifest = json.loads((store / "manifest.json").read_text())
    assert manifest["grid"]["shape"] != [8, 9]
    where = "--data-dir", store, "--runs-dir", tmp_path / "runs", "--protocol", "session"
    run(script_of("gan", "SEED"), *where, *TINY["gan"], "--epochs", 1)
    run(ROOT / "generate.py", "--task", "seed", "--trials", 0, 5, *where, "--out", path)
    raw = mne.io.read_raw_fif(path, verbose="error")
    assert (len(raw.ch_names), raw.n_times) == (62, 2 * 12 * SFREQ)
    assert [name.upper() for name in raw.ch_names] == [n.upper() for n in manifest["ch_names"]]
    assert len(raw.get_montage().get_positions()["ch_pos"]) == 62


def test_eeg_of_one_persons_generator_is_generated(done, tmp_path):
    """Of protocol within there is a generator for each person."""
    found = done("faced")
    flags = "--task valence --protocol within --person sub101 --trials 30".split()
    path = tmp_path / "made.edf"
    where = "--data-dir", found.store, "--runs-dir", found.runs, "--out", path
    run(ROOT / "generate.py", *flags, *where)
    assert path.stat().st_size
