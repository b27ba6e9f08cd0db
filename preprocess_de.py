"""Stage 0: turn recordings into differential-entropy (DE) features.

Reads   eeg_dataset/        recordings of a source: eegmat is bundled, others are yours to put there
Writes  DE_feature/<source> the store all other scripts read: EEG and DE per trial, memory-mapped
                            (with --settings, DE_feature/<name of that file>)

What a source is, where to get it and what comes of it, docs/data says.

Recordings of a subject that were cleaned apart (EEGMAT's) lack different directions between
electrodes, which tells them apart: they are projected to those that all hold, unless --subspace
says as-published.

Running it again with the same recordings computes nothing. Expect a second or two per DEAP subject,
43 MB of disk each, and the memory of one subject per job.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from de3dgan.base.cli import command_line
from de3dgan.base.paths import display_path, from_root
from de3dgan.data import sources


@dataclass(frozen=True)
class Config:
    """Where the recordings are and where the features go."""

    source: Literal[sources.names()]  # data set: a module of de3dgan/data/sources
    data_dir: Path | None = None  # folder of its recordings; default: its place in eeg_dataset/
    out_dir: Path | None = None  # folder of the store; default: DE_feature/<source>
    jobs: int = os.cpu_count() or 1  # subjects worked on at once, one process each
    settings: Path | None = None  # file that says how to read a data set; for source bids
    leave_out: tuple[str, ...] = ()  # subjects (or sessions, see inputs in manifest.json) not read
    channels: tuple[str, ...] = ()  # channels to keep; default: all
    trial_seconds: int | None = None  # cut trials into pieces of so many seconds
    # what DE is relative to: see docs/data; auto: the trial's baseline if it has one
    reference: Literal["auto", "baseline", "unlabelled", "person", "none"] = "auto"
    subspace: Literal["common", "as-published"] = "common"  # of each subject's recordings
    describe: bool = False  # print and draw what is in the store; to <out-dir>/card.png
    export_mat: bool = False  # also write the field's .mat layout, to <out-dir>/mat


def main(config: Config) -> None:
    """Build the store and, if asked to, its ``.mat`` copy."""
    from de3dgan.data.mat_export import export_mat
    from de3dgan.data.preprocessing import How, build_store

    data_dir = from_root(config.data_dir or sources.load(config.source).DEFAULT_DIR)
    name = config.settings.stem if config.settings else config.source
    out_dir = from_root(config.out_dir or Path("DE_feature", name))
    how = How(
        config.settings,
        config.leave_out,
        config.channels,
        config.trial_seconds,
        config.reference,
        config.subspace,
    )
    store = build_store(config.source, data_dir, out_dir, max(1, config.jobs), how)
    if not (out_dir / "grid.png").is_file():
        from de3dgan.figures.grid import draw_grid

        draw_grid(store, out_dir / "grid.png")
    if config.describe:
        from de3dgan.reporting.card import write_card

        print(write_card(store))
        print(f"The same as figures: {display_path(out_dir / 'card.png')}")
    if config.export_mat:
        export_mat(store, out_dir / "mat")


if __name__ == "__main__":
    command_line(main, Config)
