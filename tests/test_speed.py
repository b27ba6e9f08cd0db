"""What `benchmarks/speed.py` compares is comparable, and its page says what was found."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import published_loop, scaling, speed, speed_folds, speed_steps, speed_tables
from benchmarks.published_loop import HostBatches
from de3dgan.data.opening import open_store
from de3dgan.data.store import Store
from de3dgan.models import Discriminator, Generator, SASTNet
from de3dgan.training import loop, losses
from de3dgan.training.device import Compute
from tests.conftest import STAGES, TINY_CONFIG, load_script, run_stage, script_of

CPU = torch.device("cpu")


@pytest.fixture
def store(little_store) -> Store:
    """Return the little store, opened."""
    return open_store(little_store)


@pytest.fixture
def batches(store) -> HostBatches:
    """Return its published-style batches; classes alternate."""
    return HostBatches(store, np.arange(store.n_trials) % 2, CPU)


def contiguous(net: nn.Module) -> nn.Module:
    return net.to(memory_format=torch.contiguous_format)


# --- the published-style loop does the same


def test_its_generator_is_ours():
    torch.manual_seed(0)
    generator = Generator(widths=(4, 8, 8, 8))
    de = torch.randn(2, 4, 24, 32)
    ours = generator(de)
    theirs = published_loop.generate(contiguous(generator), generator.grid.scatter(de))
    torch.testing.assert_close(theirs, ours.flatten(0, 1), atol=1e-5, rtol=0)
    assert theirs.abs().max() > 0.1


def test_its_critic_loss_is_ours_on_the_same_draws():
    torch.manual_seed(0)
    critic = Discriminator(widths=(8, 8, 8, 8, 8), n_hidden=8)
    real, generated = torch.randn(2, 6, 32, 128)
    torch.manual_seed(1)
    ours, _ = losses.critic_loss(critic, real, generated, 2.0)
    pair = (critic.trunk.grid.scatter(x.mT) for x in (real, generated))
    torch.manual_seed(1)
    theirs = published_loop.critic_loss(contiguous(critic), *pair, 2.0)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


def test_its_classifier_is_ours():
    torch.manual_seed(0)
    net = SASTNet(widths=(8, 8, 8, 8, 8), n_features=8, dropout=0)
    x = torch.randn(5, 32, 128)
    ours = net(x)
    theirs = published_loop.classify(contiguous(net), net.trunk.grid.scatter(x.mT))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


def test_its_batches_hold_what_the_store_holds(store, batches):
    """Each normalised by its own statistics, and zero where there is no electrode."""
    trials = np.array([3, 5])
    de, eeg = batches.trials(trials)
    assert de.shape == (2, 4, 24, 8, 9)
    assert eeg.shape == (2 * 12, 128, 8, 9)
    for x in (eeg, de[:, 1]):
        of_electrodes = x.flatten(-2)[..., batches.cells]
        assert abs(float(of_electrodes.mean())) < 1e-5
        assert abs(float(of_electrodes.std(correction=0)) - 1) < 1e-4
        assert float(x.abs().sum()) == pytest.approx(float(of_electrodes.abs().sum()), rel=1e-5)
    first = eeg.flatten(-2)[2, :, batches.cells[4]].numpy()  # of the first trial, third second
    r = np.corrcoef(first, store.eeg[3, 4, 256:384])[0, 1]
    assert r > 0.99


def test_its_frames_are_those_of_the_store(store, batches):
    numbers = np.arange(12 * 3, 12 * 4)  # all of trial 3
    frames, labels = batches.frames(numbers)
    seconds = store.eeg[3].reshape(len(batches.cells), 12, 128).transpose(1, 2, 0)
    np.testing.assert_array_equal(frames.flatten(-2)[..., batches.cells], seconds)
    assert labels.tolist() == [1] * 12


def changed(net: nn.Module, step, *arguments) -> bool:
    before = [p.detach().clone() for p in net.parameters()]
    assert all(np.isfinite(value) for value in step(*arguments).values())
    return any((p != q).any() for p, q in zip(net.parameters(), before, strict=True))


def test_its_critic_steps_on_every_fifth_epoch_and_its_generator_always(batches, store):
    config = load_script("gan").Published()
    generator = Generator(store.ch_names, widths=(4, 4, 4, 4))
    critic = Discriminator(store.ch_names, widths=(4, 4, 4, 4, 4), n_hidden=4)
    step = published_loop.gan_step(batches, generator, critic, config)
    for epoch in range(6):
        assert changed(critic, step, epoch, np.arange(2)) == (epoch in (0, 5))
    assert changed(generator, step, 1, np.arange(2))


def test_it_trains_a_classifier_and_not_the_generator_it_is_fine_tuned_with(batches, store):
    names = store.ch_names
    net = SASTNet(names, widths=(4, 4, 4, 4, 4), n_features=4)
    numbers = np.arange(8)
    step = published_loop.classifier_step(batches, net, load_script("classifier").Published())
    assert changed(net, step, 0, numbers)
    generator = Generator(names, widths=(4, 4, 4, 4))
    config = load_script("finetune").Published()
    step = published_loop.finetune_step(batches, net, generator, config)
    assert changed(net, step, 0, numbers)
    assert not changed(generator, step, 0, numbers)


# --- what is measured


def test_flops_are_those_of_convolutions_and_products_forwards_and_backwards():
    conv, linear = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(5, 7)
    x = torch.randn(2, 3, 8, 9, requires_grad=True)
    of_conv, of_linear = 2 * (2 * 5 * 8 * 9) * (3 * 3 * 3), 2 * (2 * 5 * 7)
    found = speed_steps.counted(lambda: linear(conv(x).mean((2, 3))).sum().backward())
    # Backwards twice: to the weights, and to what they are applied to.
    assert found == {"flops": 3 * (of_conv + of_linear)}


def test_a_share_of_the_time_is_spent_in_products():
    a = torch.randn(300, 300)
    assert speed_steps.profiled(lambda: a @ a, CPU)["share_in_products"] > 0.5
    assert speed_steps.profiled(lambda: a.exp(), CPU)["share_in_products"] == 0


def test_the_peak_is_that_of_the_best_size(monkeypatch):
    monkeypatch.setattr(speed_steps, "_SIZES", {"cpu": (32, 64)})
    monkeypatch.setattr(speed_steps, "_PEAK_SECONDS", 0.01)
    found = speed_steps.peak(CPU, ["bf16", "fp32"])
    assert set(found) == {"bfloat16", "float32"}
    assert all(rate > 1e6 for rate in found.values())


@pytest.mark.slow
@pytest.mark.parametrize(("method", "precision"), [("published", "bf16"), ("spectral", "fp32")])
def test_the_steps_that_are_timed_are_those_of_the_scripts(
    method, precision, little_store, tmp_path, monkeypatch
):
    monkeypatch.setattr(speed_steps, "_BLOCK", 0)
    rows = []
    for stage in STAGES:
        timed = speed_steps.TimedFit(stage, method, repeats=2)
        with monkeypatch.context() as patched, pytest.raises(speed_steps.Measured):
            patched.setattr(loop, "fit", timed)
            # A GAN's batch of 8 trials; 32 frames, as many half-seconds as 64.
            run_stage(stage, little_store, tmp_path, method, precision=precision)
        rows += timed.rows
        if stage != "finetune":  # what the next stages read
            run_stage(
                stage, little_store, tmp_path, method, precision=precision, epochs=1, restart=True
            )
    ours = [row for row in rows if row["loop"] == method]
    theirs = [row for row in rows if row["loop"] == speed_steps.PUBLISHED_STYLE]
    assert [row["stage"] for row in ours if row["kind"] != "critic rests"] == list(STAGES)
    assert len(theirs) == (len(ours) if method == "published" else 0)
    for row in rows:
        assert row["seconds"] > 0
        assert row["flops"] > 0
        assert row["batch"] == TINY_CONFIG[method][row["stage"]].get("batch_size", 8)
        assert row["precision"] == {"bf16": "bfloat16", "fp32": "float32"}[precision]
        assert json.dumps(row)
    kinds = {row["kind"]: row["flops"] for row in ours}
    if method == "published":  # at rest, ours does not compute the critic
        assert kinds["critic steps"] > 2 * kinds["critic rests"]


@pytest.mark.slow
def test_a_run_tells_when_it_began_to_train(little_store, tmp_path):
    flags = ["--data-dir", little_store, "--runs-dir", tmp_path / "runs", "--epochs", 2]
    flags += "--widths 8 8 8 8 8 --n-features 8 --batch-size 256".split()
    found = scaling.script_run(script_of("classifier").name, flags, tmp_path)
    assert 0.1 < found["to_first_step"] < found["seconds"]
    assert len(found["epochs"]) == 2
    assert 0 < sum(found["epochs"]) < found["seconds"] - found["to_first_step"]
    assert found["paired_eeg"] == 0
    assert found["peak_mib"] > 100


def test_time_in_which_a_thread_waits_does_not_count():
    assert speed_steps.block(lambda: time.sleep(0.05), CPU) < 0.02


def test_the_published_loop_computes_in_the_precision_of_the_run(batches, store):
    net = SASTNet(store.ch_names, widths=(4, 4, 4, 4, 4), n_features=4, dropout=0)
    step = published_loop.classifier_step(batches, net, load_script("classifier").Published())
    seen = []
    net.head.register_forward_hook(lambda module, x, y: seen.append(y.dtype))
    for precision in ("fp32", "bf16"):
        with Compute(CPU, precision).autocast():
            assert changed(net, step, 0, np.arange(8))
    assert seen == [torch.float32, torch.bfloat16]


# --- the tables


def step_row(stage: str, loop: str, kind: str = "", **values: object) -> dict:
    return {
        **{"stage": stage, "loop": loop, "kind": kind, "batch": 8, "unit": "trials"},
        **{"precision": "float32", "seconds": 1.0, "spread": [1, 1]},
        **{"flops": 90e9, "share_in_products": 0.9, "gpu_mib": None, **values},
    }


def scaling_row(stage: str, n_subjects: int, **values: object) -> dict:
    return {
        **{"stage": stage, "method": "both" if stage == "preprocess" else "published"},
        **{"n_subjects": n_subjects, "seconds": 30.0},
        **{"peak_mib": 1000.0, "peak_anonymous_mib": 800.0, "gpu_mib": None},
        **{"to_first_step": 4.0, "paired_eeg": 0.0, "epochs": [10.0, 5.0 * n_subjects]},
        **{"n_train_trials": 10 * n_subjects, "disk_mib": 40.0 * n_subjects, **values},
    }


@pytest.fixture
def found() -> dict:
    """Return what a measurement might have found, all targets met."""
    style = speed_steps.PUBLISHED_STYLE
    rows = [
        step_row("gan", style, "critic steps", seconds=10.0),
        step_row("gan", style, "critic rests", seconds=5.0),
        step_row("gan", "published", "critic steps", seconds=2.0, flops=170e9),
        step_row("gan", "published", "critic rests", seconds=0.5, flops=45e9),
        *(step_row(stage, style, seconds=1.2) for stage in ("classifier", "finetune")),
        *(step_row(stage, "published") for stage in ("classifier", "finetune")),
        step_row("gan", "spectral", share_in_products=0.2, flops=1e9),
    ]
    slow = [{**row, "precision": "bfloat16", "flops": 1e9} for row in rows]  # and not in use
    at = {"instructions": "all", "threads": 2}
    of_machine = {
        **{"cores": 2, "architecture": "a processor", "instructions": "AVX2", "memory_gib": 8.0},
        **{"torch": "2", "gpu": None},
    }
    return {
        "machines": {"steps": of_machine},
        "auto": [{**at, "precision": "fp32", "ratio": 1.4, "seconds": 0.1}],
        "steps": [
            {**at, "peak_flops": {"bfloat16": 200e9, "float32": 100e9}, "rows": [*slow, *rows]}
        ],
        "help": {"a script": 0.5, "another": 0.7},
        "de": {
            **{"plain": 6.0, "one_process": 0.3, "all_cores": 0.15, "cores": 2},
            "largest_difference": 1e-10,
        },
        "scaling": {
            **{"torch_mib": 200.0, "n_epochs": 2},
            "rows": [
                scaling_row(stage, n)
                for n in (1, 2, 4)
                for stage in ("preprocess", "gan", "classifier", "finetune")
            ],
        },
    }


def verdicts(found: dict, device: str = "cpu") -> dict[str, str]:
    return {name: verdict for name, *_, verdict in speed_tables.targets(found, device)}


def test_every_target_can_be_met(found):
    assert len(verdicts(found)) == 2 * 3 + 1 + 1 + 4
    assert set(verdicts(found).values()) == {"met"}
    tables = speed_tables.tables({"cpu": found})
    row = ("GAN, mean over 5 epochs", "published", "0.8", "10 trials", "7.50x", "70.0", "88")
    assert ("all", "2", "float32", *row, "0.88", "90%", "") in tables["cpu: steps"][1]
    assert ("all", "2", "1.4", "float32", "0.10") in tables["cpu: auto"][1]
    name = "GAN step, mean over 5 epochs (all instructions, 2 thread(s), float32)"
    target = (f"{name}: against the loop", "at least 2.5x", "7.5x", "met")
    assert target in tables["cpu: targets"][1]


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        (
            lambda f: f["steps"][0]["rows"][12].update(seconds=9, flops=900e9),
            "GAN step, mean over 5",
        ),
        (lambda f: f["steps"][0]["rows"][15].update(seconds=1.3, flops=120e9), "classifier step"),
        (lambda f: f["steps"][0]["rows"][16].update(flops=79e9), "fine-tuning step"),
        (lambda f: f["auto"][0].update(precision="bf16"), "GAN step, mean over 5"),
        (lambda f: f["de"].update(all_cores=0.21), "DE"),
        (lambda f: f["help"].update(another=1.01), "`--help`"),
        (lambda f: f["scaling"]["rows"][-1].update(to_first_step=5.1), "start to first step"),
        (lambda f: f["scaling"]["rows"][0].update(peak_mib=1737.0), "memory above"),
        (lambda f: f["scaling"]["rows"][-1]["epochs"].__setitem__(1, 60.0), "time per epoch"),
        (lambda f: f["scaling"]["rows"][4].update(disk_mib=90.2), "disk"),
    ],
)
def test_each_target_can_be_missed(found, change, missed):
    change(found)
    failed = [name for name, verdict in verdicts(found).items() if verdict == "**missed**"]
    assert failed[0].startswith(missed)
    assert len(failed) == (3 if found["auto"][0]["precision"] == "bf16" else 1)  # all shares


def test_generating_the_eeg_is_no_part_of_the_start(found):
    found["scaling"]["rows"][-1].update(to_first_step=50.0, paired_eeg=46.0)
    assert set(verdicts(found).values()) == {"met"}
    rows = speed_tables.tables({"cpu": found})["cpu: start"][1]
    assert [row[-1] for row in rows] == ["4.0", "4.0", "4.0 (50.0)"]


def test_the_study_is_as_long_as_its_epochs_and_what_surrounds_them(found):
    """At 4 subjects: epochs of 20 s, of the GAN 18, and 30 s of which the epochs are taken away."""
    seconds = 300 * ((10 + 4 * 20) / 5 + 20 + 20) + 3 * (30 - 30)
    assert speed_tables.study_hours(found, "published") == pytest.approx(15 * seconds / 3600)
    assert speed_tables.study_hours(found, "spectral") is None
    assert list(verdicts(found, "cuda").values())[-1] == "**missed**"
    found["scaling"]["rows"] = [
        {**row, "epochs": [0.1, 0.1], "seconds": 2.0} for row in found["scaling"]["rows"]
    ]
    assert list(verdicts(found, "cuda").values())[-1] == "met"
    assert "the paper's study" in speed_tables.tables({"cuda": found})["cuda: targets"][1][-1][0]


def test_targets_of_a_gpu_are_others(found):
    """A share of the limit that a GPU's small steps can reach; and our method's study as well."""
    for row in found["steps"][0]["rows"]:
        row["flops"] *= 0.5
    shares = [name for name in verdicts(found) if name.endswith("share of the limit")]
    assert {verdicts(found)[name] for name in shares} == {"**missed**"}
    assert {verdicts(found, "cuda")[name] for name in shares} == {"met"}
    name = "the paper's study, `--method spectral`"
    assert name not in verdicts(found, "cuda")  # not measured
    for seconds, verdict in ((60.0, "**missed**"), (10.0, "met")):  # of each of 45 runs
        for row in found["scaling"]["rows"]:
            row["method"] = "both" if row["stage"] == "preprocess" else "spectral"
            row |= {"epochs": [0.0, 0.0], "seconds": seconds}
        assert verdicts(found, "cuda")[name] == verdict
        assert name not in verdicts(found)


def test_folds_run_at_once_and_their_stages_one_after_the_other(monkeypatch):
    begun = []
    meet = threading.Barrier(3)

    def run(command, **_):
        meet.wait(timeout=10)  # passed only if all folds are at it
        begun.append((Path(command[1]).name, command[2:]))

    monkeypatch.setattr(subprocess, "run", run)
    assert speed_folds.folds(3, ["--epochs", 2]) > 0
    for place, stage in enumerate(STAGES):
        at_once = sorted(begun[3 * place : 3 * place + 3])
        name = script_of(stage).name
        assert at_once == [(name, ["--fold", str(fold), "--epochs", "2"]) for fold in range(3)]


def test_folds_at_once_are_compared_per_fold(found):
    rows = [
        {"method": "spectral", "at_once": n, "seconds": seconds} for n, seconds in ((1, 9), (3, 12))
    ]
    tables = speed_tables.tables({"cuda": {**found, "folds": {"n_subjects": 8, "rows": rows}}})
    assert tables["cuda: folds"][1] == [
        ("spectral", "1", "9", "9"),
        ("spectral", "3", "12", "4"),
    ]


def test_a_line_is_fitted():
    fit = speed_tables.line([10, 20, 40], [7, 12, 22])
    assert fit["start"] == pytest.approx(2)
    assert fit["slope"] == pytest.approx(0.5)
    assert fit["r2"] == pytest.approx(1)
    assert fit["residual"] == pytest.approx(0, abs=1e-9)
    bent = speed_tables.line([1, 2, 3], [1, 2, 4])
    assert bent["r2"] < 0.99
    assert bent["residual"] > 0.05


# --- the page


def test_the_page_in_the_repository_has_the_figures_beside_it(tmp_path):
    out = speed.Config().out
    for path in (out, speed.figures_beside(out)):
        shutil.copy(path, tmp_path)
    speed.main(speed.Config(parts=(), out=tmp_path / out.name))
    assert (tmp_path / out.name).read_text() == out.read_text()
