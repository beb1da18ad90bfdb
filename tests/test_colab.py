"""The tutorials on Colab: nothing that it preloads is changed, and they run to the end under its front half.

Colab's kernel and widgets are older than what pip installs today. They are put into a virtual environment of their own, which takes
everything else from the one that runs the tests; a stand-in for `google.colab` is on its path.
"""

import configparser
import json
import os
import re
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from jupyter_client.manager import start_new_kernel
from hub import NOWHERE, Hub, run_with_hub, serving
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from speed import SMALL_UNET, SMALL_VAE

import defect_lora
from defect_lora.model.base import SD15
from defect_lora.data.cables import write_cables

ROOT = Path(__file__).parents[1]
COLAB = Path(__file__).parent / "colab"
TUTORIALS = sorted((ROOT / "nbs" / "tutorials").glob("*.ipynb"))
NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))
FRONT = {"ipython": "7.34.0", "ipykernel": "6.17.1", "ipywidgets": "7.7.1"}
VERSIONS = "import IPython, ipykernel, ipywidgets\nprint(IPython.__version__, ipykernel.__version__, ipywidgets.__version__)"
PRESS = """
import numpy as np
panel.class_name.value, panel.how_many.value, panel.seed.value = "missing_cable", 2, 5
panel.generate_button.click()
panel.wait()
assert len(panel.images) == len(panel.grid.children[1].children) == 2, panel.status.value
assert panel.status.value.startswith("Generated 2 of missing_cable"), panel.status.value
first = np.asarray(panel.images[0], dtype=int)
panel.how_many.value, panel.batch_size = 1, 4
panel.generate_button.click()
panel.wait()
furthest = abs(np.asarray(panel.images[2], dtype=int) - first).max()
assert furthest <= 2, f"the same seed generated another image in another batch, {furthest} levels away"
panel.samples[1].tile.button.click()
panel.wait()
assert "Nearest of 18 real images" in panel.nearest_words.value, panel.nearest_words.value
panel.discard_button.click()
panel.zip_button.click()
print("pressed", panel.status.value)
"""


def resolve(*more):
    "The versions that the requirements get beside what Colab preloads, or the reason why there are none."
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini")
    wanted = [*settings["DEFAULT"]["requirements"].split(), (COLAB / "requirements.txt").read_text(), *more]
    done = subprocess.run(
        ["uv", "pip", "compile", "--quiet", "--python-version", "3.13", "--python-platform", "x86_64-manylinux_2_28", "-"],
        input="\n".join(wanted),
        capture_output=True,
        text=True,
        cwd=COLAB,
    )
    return dict(re.findall(r"^([\w.-]+)==(\S+)", done.stdout, re.M)), done.stderr


def test_no_preloaded_package_is_changed():
    found, why = resolve()
    assert found, why
    for line in (COLAB / "requirements.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, version = line.replace("_", "-").split("==")
            assert found[name].startswith(version.rstrip("*")), line


@pytest.mark.parametrize("demand", ["torch>=2.12", "pillow<11", "transformers>=5.16"])
def test_a_demand_beyond_them_is_noticed(demand):
    found, why = resolve(demand)
    assert not found and demand.partition(">")[0].partition("<")[0] in why


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    "The environment of a kernel with Colab's front half."
    folder = tmp_path_factory.mktemp("front")
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run(
        ["uv", "pip", "install", "--quiet", "--python", str(python), *(f"{name}=={version}" for name, version in FRONT.items())], check=True
    )
    own = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (Path(own) / "rest.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    spec = folder / "share" / "kernels" / "colab"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps(dict(argv=[str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], display_name="colab", language="python"))
    )
    return dict(
        JUPYTER_PATH=str(folder / "share"),
        IPYTHONDIR=str(folder / "ipython"),
        DEFECT_LORA_SMALL="1",
        HF_HUB_OFFLINE="1",
        PYTHONPATH=os.pathsep.join([str(Path(defect_lora.__file__).parents[1]), str(COLAB)]),
    )


@pytest.fixture(scope="module")
def kernel(front, tmp_path_factory):
    "One that runs several tutorials, so that the libraries are imported once; each begins with an empty namespace."
    with environment(front):
        manager, client = start_new_kernel(kernel_name="colab", cwd=str(tmp_path_factory.mktemp("kernel")))
    client.stop_channels()
    yield manager
    manager.shutdown_kernel(now=True)


@contextmanager
def environment(variables):
    "For the length of a with block these are set."
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def run(path, front, folder, more=(), settings=(), until=None, kernel=None, **variables):
    """A tutorial's outputs as text, run in an empty folder; settings are changed as Colab's form changes them.

    With `until` it ends after the cell that holds this text; in a kernel that is there, or in one of its own.
    """
    notebook = nbformat.read(path, as_version=4)
    if until:
        notebook.cells = notebook.cells[: 1 + next(i for i, cell in enumerate(notebook.cells) if until in cell.source)]
    for old, new in settings:
        cell = next(cell for cell in notebook.cells if cell.source.startswith("# @title Settings"))
        assert old in cell.source
        cell.source = cell.source.replace(old, new)
    if kernel:
        begin = f"%reset -f\nimport os\nos.chdir({str(folder)!r})\nos.environ.update({variables})"
        notebook.cells.insert(0, nbformat.v4.new_code_cell(begin))
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in (VERSIONS, *more)]
    how = dict(km=kernel) if kernel else dict(kernel_name="colab", resources={"metadata": {"path": str(folder)}})
    with environment(front | variables):
        NotebookClient(notebook, timeout=900, **how).execute()
    said = "\n".join(text_of(cell) for cell in notebook.cells if cell.cell_type == "code")
    assert " ".join(FRONT.values()) in said
    return said


def text_of(cell):
    "Everything that a cell printed or showed as text."
    return "".join(out.get("text", "") or out.get("data", {}).get("text/plain", "") for out in cell.outputs)


def test_the_quickstart_runs_and_its_panel_answers(front, kernel, tmp_path):
    said = run(TUTORIALS[0], front, tmp_path, more=[PRESS], kernel=kernel)
    assert "Base model tiny" in said and "pressed Downloading kept.zip." in said and f"ipywidgets {FRONT['ipywidgets']}" in said
    for name in ("report.json", "report.md", "report.html", "contact_sheet.png"):
        assert list(tmp_path.glob(f"quickstart/*/report/{name}")), name


@pytest.mark.parametrize("path", TUTORIALS[1:], ids=lambda path: path.stem)
def test_a_tutorial_runs(path, front, kernel, tmp_path):
    assert "tiny" in run(path, front, tmp_path, kernel=kernel)


def test_a_drive_that_cannot_be_mounted_stops_nothing(front, kernel, tmp_path):
    path = next(path for path in TUTORIALS if "photographs" in path.name)
    drive = [("use_drive = False", "use_drive = True")]
    said = run(path, front, tmp_path, settings=drive, until="trainer.preflight()", kernel=kernel, DRIVE_FAILS="1")
    assert "Google Drive was not mounted (mount failed)." in said


@pytest.fixture
def cache(tmp_path):
    "A Hub cache with Stable Diffusion 1.5's repository, small and of random weights, and a part of DS-MVTec, as the Hub's client fills it."
    model = tmp_path / "model"
    UNet2DConditionModel(**SMALL_UNET).save_pretrained(model / "unet")
    AutoencoderKL(**SMALL_VAE).save_pretrained(model / "vae")
    DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1).save_pretrained(
        model / "scheduler"
    )
    (model / "model_index.json").write_text(json.dumps(dict(_class_name="StableDiffusionPipeline")))
    hub = Hub()
    hub.add_folder(f"models/{SD15}", model)
    hub.add_folder("datasets/DefectSpectrum/Defect_Spectrum", write_cables(tmp_path / "photographs", per_class=4, size=64))
    fill = "from defect_lora import download_category, load_base; print(load_base('sd15').size, download_category('cable'))"
    with serving(hub) as address:
        done = run_with_hub(fill, address, HF_HOME=str(tmp_path / "home"))
    assert done.stdout.startswith("64 "), done.stderr
    return tmp_path / "home"


def test_the_quickstart_s_branch_for_a_gpu_runs_unchanged(front, cache, tmp_path):
    (tmp_path / "empty").mkdir()
    said = run(
        TUTORIALS[0], front, tmp_path / "empty", settings=[('world = "auto"', 'world = "sd15"')], HF_HOME=str(cache), HF_ENDPOINT=NOWHERE
    )
    assert "Base model sd15" in said and "Judged against held-out photographs." in said
    assert list(tmp_path.glob("empty/quickstart/sd15-*/report/report.json"))


def test_without_the_hub_nothing_else_is_trained_in_its_place(front, tmp_path):
    with pytest.raises(CellExecutionError, match='cannot be had .* Run this cell again later, or set world = "tiny" above'):
        run(TUTORIALS[0], front, tmp_path, settings=[('world = "auto"', 'world = "sd15"')], HF_HOME=str(tmp_path), HF_ENDPOINT=NOWHERE)
    assert not list(tmp_path.glob("quickstart/*/run"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_notebook_is_committed_clean_and_small(path):
    text, notebook = path.read_text(encoding="utf-8"), nbformat.read(path, as_version=4)
    assert path.stat().st_size < 500_000
    assert "widgets" not in notebook.metadata and "widget-view" not in text and "widget-state" not in text
    outputs = json.dumps([cell.get("outputs", []) for cell in notebook.cells])
    assert not re.search(r"[\"' (](/(work|root|home|tmp|Users|mnt|opt)/|[A-Z]:\\\\)", re.sub(r'"image/\w+": "[^"]*"', "", outputs)), (
        "a machine's path is in an output"
    )


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_opens_in_colab_and_asks_nothing(path):
    notebook = nbformat.read(path, as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert (
        f"colab-badge.svg)](https://colab.research.google.com/github/defect-lora/defect-lora/blob/main/nbs/tutorials/{path.name})"
        in notebook.cells[0].source
    )
    assert f"(https://kaggle.com/kernels/welcome?src=https://github.com/defect-lora/defect-lora/blob/main/nbs/tutorials/{path.name})" in (
        notebook.cells[0].source
    )
    assert "Last run from top to bottom" in "".join(cell.source for cell in notebook.cells) and "print(versions())" in code
    assert "%pip install" in code and not re.search(r"\binput\(|files\.upload\(|FileUpload|getpass|notebook_login|\blogin\(", code)
