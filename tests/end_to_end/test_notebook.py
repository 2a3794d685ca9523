"""The notebook runs from an empty folder, and its last lines say what they claim."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from extras import ROOT
from nbclient import NotebookClient

NOTEBOOK = ROOT / "configs" / "quickstart.ipynb"


def result(cell: Any) -> str:
    """What a cell's last line gave."""
    (value,) = (output["data"]["text/plain"] for output in cell["outputs"] if output["output_type"] == "execute_result")
    return str(value)


@pytest.mark.slow
def test_notebook__runs_from_an_empty_folder(here: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # A failing cell raises, with its traceback.
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(here)}}).execute()
    cells = [cell for cell in notebook.cells if cell["cell_type"] == "code"]
    found, right = result(cells[-3]).strip("()").rsplit(", ", 1)
    assert found.startswith("Prediction(")
    assert float(right) > 0.5
    assert float(result(cells[-1])) < 1e-3
    assert {path.name for path in (here / "run").iterdir()} >= {"pareto.png", "pareto.csv", "pick.onnx", "checkpoints"}


def test_notebook__is_stored_without_outputs() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell["cell_type"] == "code"]
    assert cells
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"]]
    assert NOTEBOOK.stat().st_size < 20_000
