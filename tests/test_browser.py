"""A person's way through the quickstart's panels, in JupyterLab and a real browser.

Chromium is Debian's (`apt-get install chromium`), or the program that CHROMIUM names; without it these tests are skipped.
DEFECT_LORA_SCREENSHOTS names a folder that gets pictures of every stage, for looking at.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

import defect_lora

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
QUICKSTART = Path(__file__).parents[1] / "nbs" / "tutorials" / "01_quickstart.ipynb"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 600_000  # milliseconds, on a machine that does other work as well
PAINTING = """import torch
from defect_lora.model.base import load_base
from defect_lora.data.cables import CLASSES, write_cables
from defect_lora.data.dataset import DefectSpectrumDataset
from defect_lora.model.pipeline import DefectPipeline
from defect_lora.model.unet import ClassConditionedUNet
from defect_lora.widgets.paint import PaintWidget
torch.manual_seed(0)
base, real = load_base("tiny"), DefectSpectrumDataset(write_cables("photographs", per_class=2, size=128), size=128)
pipe = DefectPipeline(ClassConditionedUNet(base.unet, len(CLASSES)).eval(), base.vae, base.scheduler, CLASSES, base.name)
panel = PaintWidget(pipe, real, real, num_inference_steps=2, guidance_scale=15)
panel.class_name.value = "missing_cable"
panel"""
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "JupyterLab on a folder with the quickstart, whose small run trains a little longer, so that it can be watched."
    folder = tmp_path_factory.mktemp("lab") / "notebooks"
    folder.mkdir()
    notebook = nbformat.read(QUICKSTART, as_version=4)
    settings = next(cell for cell in notebook.cells if "DEFECT_LORA_SMALL" in cell.source)
    settings.source = settings.source.replace("= 2, 1, 2, 2", "= 2, 8, 2, 2")
    assert "2, 8, 2, 2" in settings.source
    nbformat.write(notebook, folder / "quickstart.ipynb")
    home = folder.parent
    write_settings(home / "settings", "apputils-extension/notification", fetchNews="false")
    write_settings(home / "settings", "notebook-extension/tracker", windowingMode="none")  # every cell is in the page, wherever one looks
    environment = os.environ | dict(
        DEFECT_LORA_SMALL="1",
        HF_HUB_OFFLINE="1",
        JUPYTER_RUNTIME_DIR=str(home / "runtime"),
        JUPYTER_CONFIG_DIR=str(home / "config"),
        JUPYTER_DATA_DIR=str(home / "data"),
        IPYTHONDIR=str(home / "ipython"),
        JUPYTERLAB_SETTINGS_DIR=str(home / "settings"),
        JUPYTERLAB_WORKSPACES_DIR=str(home / "workspaces"),
        PYTHONPATH=os.pathsep.join(filter(None, [str(Path(defect_lora.__file__).parents[1]), os.environ.get("PYTHONPATH")])),
    )
    with open(home / "log", "w") as log:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                "--no-browser",
                "--allow-root",
                "--ServerApp.port=0",
                "--IdentityProvider.token=t",
                f"--ServerApp.root_dir={folder}",
                "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            ],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield address_of(server, home), folder
    finally:
        server.terminate()
        server.wait(30)


def write_settings(folder, name, **settings):
    path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))


def address_of(server, home):
    "Where the server answers, once it does."
    for _ in range(600):
        for path in (home / "runtime").glob("jpserver-*.json"):
            try:
                return json.loads(path.read_text())["url"]
            except ValueError:
                pass
        assert server.poll() is None, (home / "log").read_text()
        time.sleep(0.1)
    raise AssertionError((home / "log").read_text())


@pytest.fixture(scope="module")
def page(lab):
    "The browser's page with the notebook, every cell run, and what went wrong in it so far; without a network the badge cannot be loaded."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport=dict(width=1300, height=1000))
        page.set_default_timeout(PATIENCE)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(f"page: {error}"))
        page.on(
            "console",
            lambda message: (
                message.type == "error"
                and "ERR_NAME_NOT_RESOLVED" not in message.text
                and page.errors.append(f"console: {message.text} {message.location.get('url', '')}")
            ),
        )
        open_notebook(page, lab[0], "quickstart.ipynb")
        run_all(page)
        yield page
        shot(page, "last")
        browser.close()


def open_notebook(page, address, name):
    page.goto(f"{address}lab/tree/{name}?token=t&reset")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    page.get_by_text(re.compile(r"Python 3 \(ipykernel\) \| (Idle|Busy)")).first.wait_for()  # the kernel answers


def run_all(page):
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def shot(page, name):
    "A picture for looking at."
    if folder := os.environ.get("DEFECT_LORA_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")


def saying(page, pattern):
    "The element in which a panel says something."
    return page.get_by_text(re.compile(pattern)).first


def panel_with(page, **of):
    "The output that holds a panel, by something in it."
    return page.locator(".jp-OutputArea-output", has=page.get_by_role(**of) if "role" in of else page.get_by_text(of["text"])).first


def test_a_training_is_watched(page):
    saying(page, r"training\. Epoch \d+ of 8").wait_for()
    shot(page, "watch")
    saying(page, r"Finished\. Epoch 8 of 8, step 16 of 16").wait_for()
    watch = panel_with(page, text=re.compile(r"Finished\. Epoch 8"))
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # every cell has ended: none takes the focus away any more
    watch.get_by_text("epoch 8", exact=True).wait_for()  # the panel says first that the run has finished, and lists the last samples then
    newest = watch.locator("img").last.get_attribute("src")
    watch.locator(".noUi-handle").press("ArrowLeft")
    watch.get_by_text("epoch 6", exact=True).wait_for()
    page.wait_for_function("([picture, before]) => picture.src != before", arg=[watch.locator("img").last.element_handle(), newest])
    watch.scroll_into_view_if_needed()
    shot(page, "watch_finished")


def test_images_are_generated_stopped_opened_and_saved(page, lab):
    panel = panel_with(page, role="button", name="Generate")
    generate = panel.get_by_role("button", name="Generate")
    panel.locator("select").select_option("missing_cable")
    how_many, _, steps = (panel.locator("input[type=number]").nth(i) for i in range(3))
    how_many.fill("2")
    how_many.press("Tab")
    generate.focus()
    page.keyboard.press("Enter")
    saying(panel, "Generated 2 of missing_cable, seeds 0 to 1").wait_for()
    how_many.fill("60")
    steps.fill("40")
    steps.press("Tab")
    generate.click()
    saying(panel, "Generating missing_cable: [1-9]").wait_for()
    panel.get_by_role("button", name="Stop").click()
    saying(panel, r"Stopped: \d+ of 60 generated").wait_for()
    panel.get_by_role("button", name="seed 0").last.click()
    saying(panel, "Nearest of 18 real images").wait_for()
    panel.get_by_role("button", name="Discard").click()
    saying(panel, "Discarded: missing_cable, seed 0").wait_for()
    panel.locator("select").scroll_into_view_if_needed()
    shot(page, "generate")
    panel.get_by_role("button", name="Save kept images").click()
    saying(panel, r"Saved \d+ images in kept").wait_for()
    with page.expect_download() as download:
        panel.get_by_role("button", name="Zip and download").click()
        panel.get_by_role("link", name="kept.zip").click()
    saved = sorted((lab[1] / "kept" / "missing_cable").glob("*.png"))
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None and {Path(name).name for name in archive.namelist()} == {path.name for path in saved} | {
            "manifest.jsonl"
        }
    rows = [json.loads(line) for line in (lab[1] / "kept" / "manifest.jsonl").read_text().splitlines()]
    assert len(rows) == len(saved) >= 2 and [(row["seed"], row["num_inference_steps"]) for row in rows][0] == (
        1,
        2,
    )  # seed 0 of the first press was discarded


def test_the_report_and_the_comparison_are_shown(page):
    page.frame_locator("iframe[title=Report]").get_by_text("Report on").wait_for()
    page.frame_locator("iframe[title=Report]").locator("img").last.evaluate("picture => picture.decode()")
    page.locator("iframe[title=Report]").scroll_into_view_if_needed()
    shot(page, "report")
    compare = panel_with(page, role="button", name="Epochs")
    before = compare.locator("img").get_attribute("src")
    compare.get_by_role("button", name="Epochs").focus()  # a first click into another cell would only make Lab scroll to it
    page.keyboard.press("Enter")
    saying(compare, "1 seed after 4 of 4 epochs").wait_for()
    page.wait_for_function("([picture, before]) => picture.src != before", arg=[compare.locator("img").element_handle(), before])
    compare.scroll_into_view_if_needed()
    shot(page, "compare")


def test_a_training_in_another_process_is_watched_through_a_reload(page, lab):
    address, folder = lab
    cell = nbformat.v4.new_code_cell('from defect_lora import WatchWidget\nWatchWidget("other")')
    nbformat.write(
        nbformat.v4.new_notebook(cells=[cell], metadata=nbformat.read(QUICKSTART, as_version=4).metadata), folder / "watch.ipynb"
    )
    open_notebook(page, address, "watch.ipynb")
    run_all(page)
    saying(page, "other: waiting for a training to begin").wait_for()
    words = "--base tiny --recipe tuned --per-class 2 --epochs 8 --evaluate-every 0 --num-inference-steps 2 --sample-every 4"
    where = ["--data", str(folder / "quickstart" / "data"), "--out", str(folder / "other")]
    training = subprocess.Popen(
        [sys.executable, "-m", "defect_lora.cli", "train", *where, *words.split()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    saying(page, r"training\. Epoch \d+ of 8").wait_for()
    page.keyboard.press("Control+s")
    page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')")
    page.reload()
    saying(page, r"(training|Finished)\. Epoch \d+ of 8").wait_for()
    shot(page, "watch_reloaded")
    saying(page, r"Finished\. Epoch 8 of 8").wait_for()
    assert training.wait(60) == 0


def test_a_defect_is_painted_where_a_person_draws(page, lab):
    address, folder = lab
    cell = nbformat.v4.new_code_cell(PAINTING)
    nbformat.write(
        nbformat.v4.new_notebook(cells=[cell], metadata=nbformat.read(QUICKSTART, as_version=4).metadata), folder / "paint.ipynb"
    )
    open_notebook(page, address, "paint.ipynb")
    run_all(page)
    saying(page, "Choose a class, mark where its defect is to be").wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    panel = panel_with(page, role="button", name="Paint")
    canvas = panel.locator("canvas.defect-lora-canvas")
    canvas.scroll_into_view_if_needed()
    panel.get_by_role("button", name="Paint").press("Enter")
    saying(panel, "nothing is marked").wait_for()
    canvas.hover(position=dict(x=150, y=150))  # waits until nothing moves under it
    page.mouse.down()
    canvas.hover(position=dict(x=230, y=170))
    page.mouse.up()
    paint_and_save(panel, 0)
    mask = np.asarray(Image.open(folder / "painted" / "DS-MVTec" / "cable" / "mask" / "missing_cable" / "000_mask.png")) > 0
    rows, columns = np.nonzero(mask)  # the photograph is 128 pixels wide, the canvas 384
    assert 45 <= columns.min() and columns.max() <= 82 and 45 <= rows.min() and rows.max() <= 62
    panel.get_by_role("button", name="Unmark").press("Enter")
    canvas.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "Space", "ArrowRight", "Space", "ArrowRight", "Space"):
        page.keyboard.press(key)
    paint_and_save(panel, 1)
    panel.get_by_role("button", name="Propose a place").press("Enter")
    saying(panel, "A place for missing_cable").wait_for()
    paint_and_save(panel, 2)
    shot(page, "paint")


def paint_and_save(panel, number):
    panel.get_by_role("button", name="Paint").press("Enter")
    saying(panel, "Painted missing_cable, seed 0").wait_for()
    panel.get_by_role("button", name="Save the pair").press("Enter")
    saying(panel, f"Saved DS-MVTec/cable/image/missing_cable/{number:03d}.png").wait_for()


def test_no_error_in_the_console(page):
    assert not page.errors
