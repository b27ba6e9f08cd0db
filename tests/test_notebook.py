"""The notebook of docs/: it runs, and gives about what is shown in it."""

from __future__ import annotations

import ast
import copy
import os
import re
from collections.abc import Iterator

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.conftest import ROOT

PATH = ROOT / "docs" / "epochs_to_eeg.ipynb"


@pytest.fixture(scope="module")
def shown() -> NotebookNode:
    return nbformat.read(PATH, as_version=4)


@pytest.fixture(scope="module")
def run(shown) -> NotebookNode:
    """Return the notebook with what its cells give here."""
    notebook = copy.deepcopy(shown)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]]))
        where = {"metadata": {"path": PATH.parent}}
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    return notebook


def outputs(notebook: NotebookNode) -> Iterator[NotebookNode]:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield from cell.outputs


def printed(notebook: NotebookNode) -> str:
    return "".join(output.get("text", "") for output in outputs(notebook))


def judged(notebook: NotebookNode) -> dict[str, float]:
    found = re.findall(r"^(\w+) EEG.*: AUC (\d\.\d\d) ", printed(notebook), re.M)
    return {name: float(auc) for name, auc in found}


def test_it_ends_in_a_judged_figure_about_as_shown(run, shown):
    told = judged(run)
    assert set(told) == {"generated", "real"}
    assert 0.3 < told["real"] < 0.7
    assert told == pytest.approx(judged(shown), abs=0.1)  # rounding differs between machines
    for notebook in (run, shown):
        assert any("image/png" in output.get("data", {}) for output in outputs(notebook))


def test_its_eeg_is_mnes(run):
    assert "<EpochsArray | 36 events" in printed(run) and "rest/person 1" in printed(run)


def test_it_takes_20_statements(shown):
    source = "\n".join(cell.source for cell in shown.cells if cell.cell_type == "code")
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    assert len([n for n in nodes if not isinstance(n, ast.Import | ast.ImportFrom)]) <= 20
