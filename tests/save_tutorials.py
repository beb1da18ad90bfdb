"""Run tutorials with their real settings and keep what they show: `python tests/save_tutorials.py [NAME ...]`.

Text and pictures are kept, pictures as small JPEGs; panels and progress bars are not, as they are nothing without a running kernel.
Each runs in an empty folder; all five take about forty minutes on two CPU cores.
"""
import base64
import io
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parents[1] / "nbs" / "tutorials"
MOST = 900  # pixels of a picture's longer side


def kept(output):
    "An output as it is committed; None for what is dropped."
    data = output.get("data", {})
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    if output.output_type == "error" or "application/vnd.jupyter.widget-view+json" in data:
        return None
    if "image/png" in data:
        data["image/jpeg"] = smaller(base64.b64decode(data.pop("image/png")))
    return output


def smaller(picture):
    "The bytes of a PNG as a JPEG in base64."
    image, buffer = Image.open(io.BytesIO(picture)).convert("RGB"), io.BytesIO()
    image.thumbnail((MOST, MOST))
    image.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()


def keep_outputs(notebook, executed):
    "Give a notebook the outputs of its executed copy."
    for cell, other in zip(notebook.cells, executed.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(kept, other.outputs) if output is not None]
            cell.execution_count = None


def main(names):
    for path in [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        notebook, executed = (nbformat.read(path, as_version=4) for _ in range(2))
        with tempfile.TemporaryDirectory() as folder:
            NotebookClient(executed, timeout=None, resources={"metadata": {"path": folder}}).execute()
        keep_outputs(notebook, executed)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main(sys.argv[1:])
