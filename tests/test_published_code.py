"""What `benchmarks/published_code.py` gives scripts that lack a package, folders and a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import published_code
from benchmarks.published_code import PUBLISHED_CODE, PublishedCode
from benchmarks.speed_steps import PUBLISHED_STYLE
from benchmarks.speed_tables import MEAN
from de3dgan.base.errors import UserError
from de3dgan.data.frames import Frames
from de3dgan.eeg.montage import DEAP_CHANNELS
from tests.helpers import fake_store

CPU = torch.device("cpu")
#: A script of ours that lacks what the published ones lack, by the names that they have for it.
SCRIPT = """
import argparse, logging, torch
from scipy.io import loadmat
from torch.utils.data import DataLoader, Subset, TensorDataset
from preprocessors import DEAPDataset, Sequence, BinaryLabel
from preprocessors import Raw2TNCF, RemoveBaseline, TNCF2NCF, ChannelToLocation

argparse.ArgumentParser().parse_args()
logging.FileHandler("logs/a.log").close()
TRAIL_ID = "a name"

class CFG:
    NUM_EPOCHS = 7

class Classifier(torch.nn.Linear):
    def __init__(self, num_classes, in_channels):
        super().__init__(in_channels, num_classes)

class Trainer:
    def __init__(self, net):
        self.net = net.cuda()
        (person,) = DEAPDataset("nowhere", Sequence([BinaryLabel()]))("nothing.pkl").values()
        x, y = torch.from_numpy(person["feature"]), torch.from_numpy(person["label"])
        self._train_dataloader = DataLoader(Subset(TensorDataset(x, y), range(5)))
    def _train(self, epoch):
        print("a line that nobody is to see")
        de = torch.from_numpy(loadmat("DE_feature/s01.mat")["data"])
        ((x, y),) = self._train_dataloader
        torch.save([epoch, x.cuda(), y, de], "dataset/seen.pt")
    def save(self, path):
        open(path, "w").close()
"""


def test_a_script_is_given_what_it_lacks(tmp_path, capsys):
    store = fake_store(40, 60, DEAP_CHANNELS, valence=[3 + 4 * (trial % 2) for trial in range(40)])
    (tmp_path / published_code.SCRIPTS["classifier"]).write_text(SCRIPT)
    there = tmp_path / "there"
    before = Path.cwd(), sys.argv, torch.Tensor.cuda, torch.nn.Module.cuda
    theirs = PublishedCode(tmp_path, there, store, CPU)
    step = theirs.classifier()
    step(3, np.array([60 * 7 + 2]))  # the third second of trial 7
    epoch, x, y, de = torch.load(there / "dataset" / "seen.pt")
    assert theirs.n_epochs == {"classifier": 7}
    assert (there / "parameters" / "a name.pth").is_file()
    assert epoch == 3
    assert y.tolist() == [1]  # high
    # On the grid: FP1 and FP2 are in the first row, CZ in its middle column.
    frame = Frames(store, CPU, waveform_baseline=True)[np.array([60 * 7 + 2])][0]
    for name, cell in {"FP1": (0, 3), "FP2": (0, 5), "CZ": (3, 4)}.items():
        row = DEAP_CHANNELS.index(name)
        torch.testing.assert_close(x[0][:, *cell], frame[row])
        wanted = torch.from_numpy(store.absolute_de(np.array([7]))[0, ..., row].T)
        torch.testing.assert_close(de.view(40, 120, 4, 9, 9)[7, :, :, *cell], wanted)
    assert (x[0].abs().sum(0) > 0).sum() == 32
    assert (Path.cwd(), sys.argv, torch.Tensor.cuda, torch.nn.Module.cuda) == before
    assert "preprocessors" not in sys.modules
    assert capsys.readouterr().out == ""


def test_steps_take_turns_on_the_same_items():
    taken = []
    steps = {
        (loop, kind): lambda epoch, batch, loop=loop: taken.append((loop, epoch, batch.tolist()))
        for loop in ("theirs", "ours")
        for kind in ("critic steps", "critic rests")
    }
    batches = iter([np.array([1, 2]), np.array([3, 4])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.speed_steps._BLOCK", 0)
        rows = published_code.timed("gan", steps, batches, CPU, repeats=1)
    of_batch = [("theirs", 0), ("theirs", 1), ("ours", 0), ("ours", 1)]
    assert taken == [(*who, items) for items in ([1, 2], [3, 4]) for who in of_batch]
    assert [(row["loop"], row["kind"]) for row in rows] == list(steps)


def test_a_table_compares_epochs_and_whole_trainings():
    seconds = {
        (PUBLISHED_CODE, "critic steps"): 10.0,
        (PUBLISHED_CODE, "critic rests"): 5.0,
        (PUBLISHED_STYLE, "critic steps"): 5.0,
        (PUBLISHED_STYLE, "critic rests"): 2.5,
        ("spectral", ""): 0.6,
    }
    rows = [
        {"stage": "gan", "loop": loop, "kind": kind, "seconds": value}
        for (loop, kind), value in seconds.items()
    ]
    rows += [
        {"stage": "classifier", "loop": PUBLISHED_CODE, "kind": "", "seconds": 0.5},
        {"stage": "classifier", "loop": "spectral", "kind": "", "seconds": 0.05},
    ]
    _, found = published_code.summary(rows, {"gan": 200, "classifier": 100})
    by_loop = {tuple(row[:2]): tuple(row[2:]) for row in found}
    assert by_loop["GAN, critic rests", PUBLISHED_STYLE] == ("2.5", "2x", "", "", "")
    # 128 steps of 8 trials, four fifths of 32 people's 40.
    whole = by_loop[f"GAN, {MEAN}", PUBLISHED_CODE]
    assert whole == ("6", "1x", "768", "200", "42.7")
    assert by_loop["GAN", "spectral"][:3] == ("0.6", "10x", "76.8")
    # 960 steps of 64 frames; ours takes 64 steps whatever there is.
    assert by_loop["classifier", PUBLISHED_CODE][:3] == ("0.5", "1x", "480")
    assert by_loop["classifier", "spectral"][:4] == ("0.05", "10x", "3.2", "8")


def test_a_folder_without_their_scripts_is_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"has no 3D-UNet_GAN_Valence\.py: clone https://.*DE-3DGAN"
    ):
        published_code.main(published_code.Config(tmp_path))
