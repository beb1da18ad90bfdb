"The quickstart runs top to bottom, asks nothing, and its button draws images."
import os
from pathlib import Path

import defect_lora
import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "nbs" / "tutorials" / "01_quickstart.ipynb"

PRESS = """
import numpy as np
panel.class_name.value, panel.how_many.value, panel.seed.value = "missing_cable", 2, 5
panel.generate_button.click()
panel.wait()
assert len(panel.images) == len(panel.grid.children[1].children) == 2, panel.status.value
assert panel.status.value.startswith("Drew 2 of missing_cable"), panel.status.value
first = np.asarray(panel.images[0], dtype=int)
panel.how_many.value, panel.batch_size = 1, 4
panel.generate_button.click()
panel.wait()
furthest = abs(np.asarray(panel.images[2], dtype=int) - first).max()
assert furthest <= 2, f"the same seed drew another image in another batch, {furthest} levels away"
print("pressed", furthest)
"""


def text_of(cell):
    "Everything that a cell printed or showed as text."
    shown = [out.get("text", "") or out.get("data", {}).get("text/plain", "") for out in cell.get("outputs", [])]
    return "".join(shown)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    "The notebook, run in an empty folder with small settings, and then a cell that presses the button."
    folder = tmp_path_factory.mktemp("quickstart")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PRESS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFECT_LORA_SMALL", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("PYTHONPATH", str(Path(defect_lora.__file__).parents[1]), prepend=os.pathsep)
        where = {"metadata": {"path": str(folder)}}
        client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where)
        return client.execute(), folder


def test_it_runs_and_the_button_draws(executed):
    notebook, _ = executed
    assert "pressed" in text_of(notebook.cells[-1])


def test_it_says_what_it_took(executed):
    notebook, _ = executed
    assert any("Base model tiny" in text_of(cell) for cell in notebook.cells if cell.cell_type == "code")


def test_it_leaves_a_report(executed):
    _, folder = executed
    for name in ("report.json", "report.md", "report.html", "contact_sheet.png"):
        assert list(folder.glob(f"quickstart/*/report/{name}")), name


def test_it_is_committed_clean_and_small():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert NOTEBOOK.stat().st_size < 500_000
    assert "widgets" not in notebook.metadata
    assert "colab-badge" in notebook.cells[0].source
