"""What grows faster than the number of people, and what takes memory for each of them.

    .venv/bin/python benchmarks/growth.py --out growth.json

Sets of 100 and 1,000 simulated people, each another noise, go through preprocessing, one epoch
of each stage and the report, as users run them. Each runs in a process of its own, whose memory is
looked at from outside; certificate, head and baselines are looked at from inside. What is measured
is written to a JSON file, which fills GROWTH.md. Allow an hour of two cores for 1,000 people.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.documents import fill_table
from benchmarks.scaling import script_run
from de3dgan.base.cli import command_line
from de3dgan.base.files import read_json, write_json
from de3dgan.base.recipe import SCRIPTS
from de3dgan.data.synthetic import write_store

DOCUMENT = ROOT / "benchmarks" / "GROWTH.md"
SFREQ = 128
CH_NAMES = ("F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2")
#: Seconds of a trial, and of the rest before it.
TRIAL, REST = 12, 4
N_TRIALS = 2
SETTINGS = f"""
task = "films"
baseline = [-{REST - 1}, 0]

[trials]
column = "trial_type"
pattern = "film.*"
stimulus = "trial_type"

[ratings]
valence = {{ column = "valence", scale = [1, 9] }}
"""
#: Steps that are parts of stages.
PARTS = {"gan": ["certificate"], "classifier": ["head", "certificate", "baselines"]}


@dataclass(frozen=True)
class Config:
    """What to measure, and where to write it."""

    out: Path = Path("growth.json")  # a JSON file
    sizes: tuple[int, ...] = (100, 1000)  # numbers of people, ascending
    protocol: Literal["subject", "trial"] = "subject"
    steps: tuple[Literal["preprocessing", "stages"], ...] = ("preprocessing", "stages")
    measure: bool = True  # --no-measure: fill GROWTH.md from the file


def main(config: Config) -> None:
    """Measure, and write what was found."""
    if config.measure:
        rows: list[dict[str, Any]] = []
        for n_people in config.sizes:
            with tempfile.TemporaryDirectory() as folder:
                for row in of_people(Path(folder), n_people, config):
                    print(f"{n_people} people: {row}", file=sys.stderr, flush=True)
                    rows.append({"n_people": n_people, "protocol": config.protocol, **row})
                    write_json(config.out, rows)
    fill(read_json(config.out))


def of_people(at: Path, n_people: int, config: Config) -> Iterator[dict[str, Any]]:
    """Yield a row for each step."""
    store, runs = at / "store", at / "runs"
    if "preprocessing" in config.steps:
        recordings, settings = at / "recordings", at / "films.toml"
        write_people(recordings, n_people)
        settings.write_text(SETTINGS)
        flags = ["--source", "bids", "--settings", settings, "--data-dir", recordings]
        made = script_run("preprocess_de.py", [*flags, "--out-dir", at / "made", "--jobs", 1], at)
        yield _row("preprocessing", made)
    if "stages" not in config.steps:
        return
    stimuli = [f"film {number}" for number in range(N_TRIALS)]
    write_store(store, n_people, stimuli, ["valence"], CH_NAMES, TRIAL)
    for stage, name in SCRIPTS.items():
        flags = ["--data-dir", store, "--runs-dir", runs, "--protocol", config.protocol]
        found = script_run(f"{name}_Valence.py", [*flags, "--epochs", 1, "--device", "cpu"], at)
        yield _row(stage, found)
        for part in PARTS.get(stage, []):
            yield _row(f"{stage}: {part}", found["parts"][part])
    yield _row("report", script_run("report.py", ["--runs-dir", runs], at))


def write_people(root: Path, n_people: int) -> None:
    """Write recordings in BIDS, as BrainVision does: of each person another noise."""
    root.mkdir()
    about = {"Name": "simulated", "BIDSVersion": "1.7.0", "DatasetType": "raw"}
    write_json(root / "dataset_description.json", about)
    n_times = N_TRIALS * (TRIAL + REST) * SFREQ
    hz = np.fft.rfftfreq(n_times, 1 / SFREQ)
    for person in range(n_people):
        rng = np.random.default_rng(person)
        mixing = rng.normal(size=(len(CH_NAMES),) * 2) + 1  # neighbours are alike
        noise = np.fft.rfft(rng.normal(size=(len(CH_NAMES), n_times))) / np.sqrt(hz.clip(1))
        eeg = 10 * mixing @ np.fft.irfft(noise, n_times)
        folder = root / f"sub-{person:04d}" / "eeg"
        folder.mkdir(parents=True)
        stem = folder / f"sub-{person:04d}_task-films"
        eeg.T.astype("<f4").tofile(f"{stem}_eeg.eeg")
        channels = "".join(f"Ch{i}={name},,1,µV\n" for i, name in enumerate(CH_NAMES, 1))
        common = f"[Common Infos]\nCodepage=UTF-8\nDataFile={stem.name}_eeg.eeg\n"
        Path(f"{stem}_eeg.vhdr").write_text(
            f"Brain Vision Data Exchange Header File Version 1.0\n{common}"
            f"MarkerFile={stem.name}_eeg.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
            f"NumberOfChannels={len(CH_NAMES)}\nSamplingInterval={1e6 / SFREQ:g}\n"
            f"[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n{channels}",
            encoding="utf-8",
        )
        Path(f"{stem}_eeg.vmrk").write_text(
            f"Brain Vision Data Exchange Marker File Version 1.0\n{common}[Marker Infos]\n",
            encoding="utf-8",
        )
        rows = ["onset\tduration\ttrial_type\tvalence"]
        for trial in range(N_TRIALS):
            onset, high = trial * (TRIAL + REST) + REST, (trial + person) % 2
            rows.append(f"{onset}\t{TRIAL}\tfilm {trial}\t{7 if high else 3}")
        Path(f"{stem}_events.tsv").write_text("\n".join(rows) + "\n")


def _row(step: str, found: dict[str, Any]) -> dict[str, Any]:
    return {"step": step, **{key: found[key] for key in ("seconds", "peak_anonymous_mib")}}


def fill(rows: list[dict[str, Any]]) -> None:
    """Fill the table of GROWTH.md; growth is that from the last but one size to the last."""
    sizes = sorted({row["n_people"] for row in rows})
    if len(sizes) < 2:
        return  # nothing has grown; what was measured is in the file
    at = {(row["step"], row["n_people"]): row for row in rows}
    columns = ["step", *(f"{size:,} people" for size in sizes), "exponent", "KiB per person"]
    lines = []
    for step in dict.fromkeys(row["step"] for row in rows):
        there = [at[step, size] for size in sizes]
        cells = [f"{row['seconds']:.3g} s, {row['peak_anonymous_mib']:,.0f} MiB" for row in there]
        few, many = there[-2:]
        ratio = many["n_people"] / few["n_people"]
        exponent = math.log(many["seconds"] / few["seconds"]) / math.log(ratio)
        grown = many["peak_anonymous_mib"] - few["peak_anonymous_mib"]
        per_person = 1024 * grown / (many["n_people"] - few["n_people"])
        lines.append([step, *cells, f"{exponent:.2f}", f"{per_person:.0f}"])
    fill_table(DOCUMENT, "growth.py", columns, lines)


if __name__ == "__main__":
    command_line(main, Config)
