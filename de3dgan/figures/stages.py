"""The figures that lie beside a stage's results."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from de3dgan.data.frames import Frames
from de3dgan.eeg.de import trial_de
from de3dgan.evaluation import metrics
from de3dgan.stages.generation import TrainedGenerator
from de3dgan.stages.trials import spread
from de3dgan.training.distributed import is_main_process
from de3dgan.training.run import Run

#: Test trials drawn in the figures of spectra and scalp maps, at most.
_N_TRIALS = 16


def draw_generator(
    run: Run,
    trained: TrainedGenerator,
    frames: Frames,
    history: list[dict[str, float]],
    best_epoch: int,
) -> None:
    """Draw real against generated EEG of test trials, and the learning curves.

    Of several processes, the main one does; where Matplotlib is missing, nothing is drawn.
    """
    plots = plotting(run)
    if plots is None:
        return
    store = run.store
    trials = spread(run.split.trials("test"), _N_TRIALS)
    real, generated = frames.continuous(trials), trained(store.absolute_de(trials), trials)
    names, first = store.ch_names, trials[0]
    trial = f"subject {store.columns['subject'][first]}, {store.columns['stimulus'][first]}"
    one = (real[0], generated[0], names, f"{run.title}: test trial {first} ({trial})")
    many = f"{run.title}: {len(real)} test trials"
    plots.traces(run.figure("traces"), *one)
    plots.spectrogram(run.figure("spectrogram"), *one)
    plots.spectra(run.figure("spectra"), real, generated, names, many)
    de = (trial_de(real).mean((0, 2)), trial_de(generated).mean((0, 2)))
    plots.de_maps(run.figure("de_maps"), *de, names, many)
    plots.learning_curves(
        run.figure("learning_curves"),
        history,
        plots.GENERATOR_PANELS[run.config.method],
        best_epoch,
        f"generator: {run.title}",
    )


def draw_classifier(
    run: Run, probabilities: np.ndarray, history: list[dict[str, float]], best_epoch: int
) -> None:
    """Draw confusion matrices and reliability of the test split, and the learning curves.

    Of several processes, the main one does; where Matplotlib is missing, nothing is drawn.
    """
    plots = plotting(run)
    if plots is None:
        return
    title = f"{run.dir.name} stage: {run.title}"
    trials = run.split.test // run.split.n_frames
    labels = run.labels[trials]
    units = {
        "per one-second frame": (labels, probabilities),
        "per trial": metrics.by_trial(trials, labels, probabilities),
    }
    confusions = {unit: metrics.confusion(*predictions) for unit, predictions in units.items()}
    plots.confusion_matrices(
        run.figure("confusion_matrix"), confusions, run.config.class_names, title
    )
    curves = {unit: metrics.reliability(*predictions) for unit, predictions in units.items()}
    plots.reliability(run.figure("reliability"), curves, title)
    plots.learning_curves(
        run.figure("learning_curves"), history, plots.CLASSIFIER_PANELS, best_epoch, title
    )


def plotting(run: Run) -> ModuleType | None:
    """Return the module that draws; None where that is not for this process, or not installed."""
    if not is_main_process():
        return None
    try:
        from de3dgan.figures import plots
    except ImportError as error:
        run.log(f"{error.name} is not installed: there will be no figures.")
        return None
    return plots
