"""What baselines and judges are called, for whoever reads what they say and trains none."""

from __future__ import annotations

#: What each baseline is called in tables.
NAMES = {
    "majority": "majority class",
    "random": "random, classes as in training",
    "linear": "logistic regression on DE",
    "linear_absolute": "logistic regression on DE, no baseline removal",
    "svm": "support vector machine on DE",
    "linear_maps": "logistic regression on the network's maps",
    "svm_maps": "support vector machine on the network's maps",
    "tangent": "covariances of bands in tangent space",
    "null_space": "power in the baseline's weakest direction (artefact)",
    "above_46_hz": "power above 46 Hz (artefact)",
    "person": "classes of the same person (artefact)",
    "stimulus": "classes of the same stimulus (artefact)",
    "best": "best baseline, as chosen on validation",
    "artefact": "strongest artefact, as chosen on validation",
}
#: What is chosen on validation, and from which.
CHOSEN = {
    "best": ("linear", "linear_absolute", "svm", "linear_maps", "svm_maps", "tangent"),
    "artefact": ("null_space", "above_46_hz", "person", "stimulus"),
}
#: The judges of generated EEG, and which of `segments.FEATURES` each is given.
JUDGES = {
    "network": "samples",
    "eigenvalues": "eigenvalues",
    "tangent space": "correlations",
    "marginals": "marginals",
    "phase memory": "memory",
    "coupling": "coupling",
    "steps": "steps",
    "spectra": "spectra",
}
