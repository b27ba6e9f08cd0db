"""Run a script as a user does, and note when its training starts and what its parts take.

    python benchmarks/instrumented.py notes.json 3D-UNet_GAN_Valence.py --epochs 2 ...

The environment variable ``STARTED`` holds when the process was started (`time.time`), since Python
itself takes some time to begin. Nothing is imported here that the script would not import.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def main(notes: Path, script: str, arguments: list[str]) -> None:
    """Run `script`, and write what was noted to the file `notes`."""
    found: dict[str, Any] = {"to_first_step": None, "paired_eeg": 0.0, "epochs": [], "parts": {}}
    sys.path.insert(0, str(ROOT))
    sys.argv = [script, *arguments]
    if Path(script).name not in ("preprocess_de.py", "report.py"):
        watch(found)
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        torch = sys.modules.get("torch")
        gpu = torch is not None and torch.cuda.is_available()
        found["gpu_mib"] = torch.cuda.max_memory_allocated() / 2**20 if gpu else None
        notes.write_text(json.dumps(found))


def watch(found: dict[str, Any]) -> None:
    """Have training tell what `found` is to hold."""
    from de3dgan.evaluation import baselines
    from de3dgan.stages import augmentation, classifier, generators
    from de3dgan.training import loop

    fit, paired_eeg = loop.fit, augmentation.paired_eeg

    def watched_fit(
        run: Any,
        nets: Any,
        optimisers: Any,
        items: Any,
        purpose: str,
        train_step: Callable[..., Any],
        validate: Callable[[], Any],
        **settings: Any,
    ) -> Any:
        begun: dict[int, float] = {}

        def watched_step(epoch: int, batch: Any) -> Any:
            if found["to_first_step"] is None:
                found["to_first_step"] = time.time() - float(os.environ["STARTED"])
            begun.setdefault(epoch, time.perf_counter())
            return train_step(epoch, batch)

        def watched_validate() -> Any:
            figures = validate()
            found["epochs"].append(time.perf_counter() - begun[max(begun)])
            return figures

        return fit(
            run, nets, optimisers, items, purpose, watched_step, watched_validate, **settings
        )

    @contextmanager
    def watched_eeg(*arguments: Any) -> Iterator[Any]:
        start = time.perf_counter()
        with paired_eeg(*arguments) as paired:
            found["paired_eeg"] = time.perf_counter() - start
            yield paired

    loop.fit, augmentation.paired_eeg = watched_fit, watched_eeg
    for module in (classifier, generators):
        module.certify = part(found, "certificate", module.certify)
    classifier.start = part(found, "head", classifier.start)
    baselines.predictions = part(found, "baselines", baselines.predictions)


def part(found: dict[str, Any], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that notes its seconds and the most memory that the process had in it."""
    from benchmarks.scaling import anonymous_mib

    def call(*arguments: Any, **settings: Any) -> Any:
        start, peaks, over = time.perf_counter(), [], threading.Event()

        def look() -> None:
            while not over.wait(0.02):
                peaks.append(anonymous_mib(os.getpid()) or 0.0)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            return function(*arguments, **settings)
        finally:
            seconds = time.perf_counter() - start
            over.set()
            thread.join()
            found["parts"][name] = {
                "seconds": seconds,
                "peak_anonymous_mib": max(peaks, default=None),
            }

    return call


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
