"""Run notebooks and keep what they show: `python tests/save_outputs.py [NOTEBOOK or FOLDER ...]`; without any, those of the library.

Text and pictures are kept, pictures as small JPEGs; panels and progress bars are not, as they are nothing without a running kernel.
The library's notebooks run in a minute each. A tutorial runs with its real settings in an empty folder; all five take about forty
minutes on
two CPU cores. A study shows its committed results, and measures them again only by the command that it names.
"""

import base64
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

import defect_lora

NBS = Path(__file__).parents[1] / "nbs"
MOST = 900  # pixels of a picture's longer side
LONG = 4000  # characters of an output's text
HERE = re.compile(r"(?:/tmp|/var/folders|/root|/home|/Users|/work)(?:/[\w.+-]+)*/(?=[\w.+-])")  # folders of the machine that it ran on


def kept(output):
    "An output as it is committed; None for what is dropped."
    data = output.get("data", {})
    if output.output_type == "stream":
        return plain(output) if output.name == "stdout" else None
    if output.output_type == "error" or "application/vnd.jupyter.widget-view+json" in data:
        return None
    if "image/png" in data:
        data["image/jpeg"] = smaller(base64.b64decode(data.pop("image/png")))
    return plain(output)


def plain(output):
    "An output without the places of the machine that it ran on."

    def mend(text):
        text = HERE.sub(".../", text)
        return text if len(text) < LONG else text[:LONG] + " ..."

    if output.output_type == "stream":
        output.text = mend(output.text)
    for kind in ("text/plain", "text/markdown"):
        if kind in output.get("data", {}):
            output.data[kind] = mend(output.data[kind])
    return output


def smaller(picture):
    "The bytes of a PNG as a JPEG in base64."
    image, buffer = Image.open(io.BytesIO(picture)).convert("RGB"), io.BytesIO()
    image.thumbnail((MOST, MOST))
    image.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()


def joined(outputs):
    "Prints that follow each other as one: how they are cut is chance."
    rows = []
    for output in outputs:
        if rows and output.output_type == rows[-1].output_type == "stream":
            rows[-1].text += output.text
        else:
            rows.append(output)
    return rows


def keep_outputs(notebook, executed):
    "Give a notebook the outputs of its executed copy."
    for cell, other in zip(notebook.cells, executed.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs = joined([output for output in map(kept, other.outputs) if output is not None])
            cell.execution_count = None


RUN_ON = re.compile(r"\*Last run from top to bottom .*?\*")


def stamp(notebook):
    "A tutorial says when it last ran and with which versions."
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = RUN_ON.sub(f"*Last run from top to bottom on {date.today()}, with {defect_lora.versions()}.*", cell.source)


@contextmanager
def workplace(path):
    "Where a notebook runs: a tutorial in an empty folder and at full length, any other beside its file and small."
    os.environ.pop("DEFECT_LORA_SMALL", None)
    if path.parent.name == "tutorials":
        with tempfile.TemporaryDirectory() as folder:
            yield folder
    else:
        os.environ["DEFECT_LORA_SMALL"] = "1"
        yield str(path.parent)


def wanted(names):
    "The notebooks that names, folders and files stand for."
    names = names or [str(path) for path in sorted(NBS.iterdir()) if path.name != "tutorials"]
    paths = [path for name in names for path in ([Path(name)] if name.endswith(".ipynb") else sorted(Path(name).rglob("*.ipynb")))]
    return [path for path in paths if ".ipynb_checkpoints" not in path.parts]


def main(names):
    for path in wanted(names):
        notebook, executed = (nbformat.read(path, as_version=4) for _ in range(2))
        with workplace(path) as folder:
            NotebookClient(executed, timeout=None, resources={"metadata": {"path": folder}}).execute()
        keep_outputs(notebook, executed)
        stamp(notebook)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
        subprocess.run(["nbdev-clean", "--fname", str(path)], check=True)  # as it is committed
        print(path.relative_to(NBS.parent) if path.is_absolute() else path, f"{path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main(sys.argv[1:])
