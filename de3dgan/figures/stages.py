"""The figures that lie beside a stage's results."""

from __future__ import annotations

from typing import Any

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
    """Draw real against generated EEG of test trials, and the learning curves; see `plotting`."""
    if not plotting(run):
        return
    from de3dgan.figures import curves, eeg

    store = run.store
    trials = spread(run.split.trials("test"), _N_TRIALS)
    real, generated = frames.continuous(trials), trained(store.absolute_de(trials), trials)
    names, first = store.ch_names, trials[0]
    trial = f"subject {store.columns['subject'][first]}, {store.columns['stimulus'][first]}"
    one = (real[0], generated[0], names, f"{run.title}: test trial {first} ({trial})")
    several = f"{run.title}: {len(real)} test trials"
    de = (trial_de(real).mean((0, 2)), trial_de(generated).mean((0, 2)))
    panels = curves.GENERATOR_PANELS[run.config.method]
    title = f"generator: {run.title}"
    _save(
        run,
        traces=eeg.traces(*one),
        spectrogram=eeg.spectrogram(*one),
        spectra=eeg.spectra(real, generated, names, several),
        de_maps=eeg.de_maps(*de, names, several, store.manifest["montage"]),
        learning_curves=curves.learning_curves(history, panels, best_epoch, title),
    )


def draw_classifier(
    run: Run,
    probabilities: np.ndarray,
    history: list[dict[str, float]],
    best_epoch: int,
    sharpness: float,
) -> None:
    """Draw confusion matrices and reliability of the test split, and the learning curves.

    See `plotting`.
    """
    if not plotting(run):
        return
    from de3dgan.figures import curves, scores

    title = f"{run.dir.name} stage: {run.title}"
    trials = run.split.test // run.split.n_frames
    labels = run.labels[trials]
    predictions = {
        "per one-second frame": (labels, probabilities),
        "per trial": metrics.by_trial(trials, labels, probabilities, sharpness),
    }
    confusions = {unit: metrics.confusion(*pair) for unit, pair in predictions.items()}
    reliabilities = {unit: metrics.reliability(*pair) for unit, pair in predictions.items()}
    panels = curves.CLASSIFIER_PANELS
    _save(
        run,
        confusion_matrix=scores.confusion_matrices(confusions, run.config.class_names, title),
        reliability=scores.reliability(reliabilities, title),
        learning_curves=curves.learning_curves(history, panels, best_epoch, title),
    )


def plotting(run: Run) -> bool:
    """Return whether this process draws: the main one does, where Matplotlib and MNE are there."""
    if not is_main_process():
        return False
    try:
        from de3dgan.figures import curves, eeg, scores  # noqa: F401
    except ImportError as error:
        run.log(f"{error.name} is not installed: there will be no figures.")
        return False
    return True


def _save(run: Run, **figures: Any) -> None:
    """Write Matplotlib figures into the run's folder, each by its name."""
    from de3dgan.figures.style import save

    for name, figure in figures.items():
        save(figure, run.figure(name))
