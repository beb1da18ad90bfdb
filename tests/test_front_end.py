"""The panels in a front end that loses what a widget is told outside of a running cell or callback, as Colab's does.

https://github.com/googlecolab/colabtools/issues/3373
"""

import sys
from contextlib import contextmanager
from types import ModuleType

import comm
import numpy as np
import pytest
from comm.base_comm import BaseComm

from defect_lora.data.cables import CLASSES, render_pair, write_cables
from defect_lora.data.files import json_lines
from defect_lora.data.images import save_image
from defect_lora.model.base import load_base
from defect_lora.model.pipeline import DefectPipeline
from defect_lora.model.unet import ClassConditionedUNet
from defect_lora.training.config import TrainConfig
from defect_lora.widgets.generate import GenerateWidget
from defect_lora.widgets.paint import PaintWidget
from defect_lora.widgets.watch import WatchWidget


class Front:
    "What a person sees: the state of each widget, by its model's id."

    def __init__(self):
        self.shown, self.running, self.lost = {}, False, 0

    def comm(self, **args):
        front = self

        class Comm(BaseComm):
            def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
                front.lost += not front.running
                if front.running:
                    pictures = {path[0]: data for path, data in zip((data or {}).get("buffer_paths", []), buffers or [])}
                    front.shown.setdefault(self.comm_id, {}).update((data or {}).get("state", {}) | pictures)

        return Comm(**args)

    @contextmanager
    def cell(self):
        "While a cell or a button's function runs."
        self.running = True
        yield
        self.running = False

    def of(self, widget):
        return self.shown[widget.model_id]


@pytest.fixture
def front(monkeypatch):
    front = Front()
    monkeypatch.setattr(comm, "create_comm", front.comm)
    return front


@pytest.fixture
def colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))


@pytest.fixture(scope="module")
def pipe():
    base = load_base("tiny")
    return DefectPipeline(ClassConditionedUNet(base.unet, len(CLASSES)).eval(), base.vae, base.scheduler, CLASSES, base.name)


def press(front, panel, button):
    with front.cell():
        button.click()
    panel.wait()


def generate(front, pipe):
    with front.cell():
        panel = GenerateWidget(pipe, num_inference_steps=2)
        panel.how_many.value = 2
    press(front, panel, panel.generate_button)
    return panel


def test_what_a_thread_says_is_lost_here(front, pipe):
    "So the stand-in does what it is for."
    panel = generate(front, pipe)
    assert len(panel.images) == 2 and front.lost
    assert "Generated" not in front.of(panel.status)["value"]


def test_generating_is_seen(front, pipe, colab):
    panel = generate(front, pipe)
    assert front.of(panel.status)["value"].startswith("Generated 2") and not front.lost
    row = panel.grid.children[1]
    assert len(front.of(row)["children"]) == 2 and front.of(panel.bar)["value"] == 4
    assert not front.of(panel.generate_button)["disabled"]
    with front.cell():
        panel.samples[0].tile.button.click()
    assert front.of(panel.facts)["value"]


def test_painting_is_seen(front, pipe, colab, tmp_path):
    good, _, mask = render_pair("missing_cable", 0, 128)
    save_image(good, tmp_path / "0.png")
    with front.cell():
        panel = PaintWidget(pipe, [tmp_path / "0.png"], num_inference_steps=2)
        panel.canvas.mark(np.asarray(mask) > 0, good.size)
    press(front, panel, panel.paint_button)
    assert len(front.of(panel.result)["value"]) > 1000
    assert not front.lost and not front.of(panel.paint_button)["disabled"]


def test_an_interrupt_stops_and_keeps_what_there_is(front, pipe, colab):
    with front.cell():
        panel = GenerateWidget(pipe, num_inference_steps=2, batch_size=1)
    panel.bar.observe(lambda change: interrupt() if change["new"] == 3 else None, "value")
    press(front, panel, panel.generate_button)
    assert front.of(panel.status)["value"].startswith("Stopped: 1 of 4 generated.") and len(panel.images) == 1
    assert not front.of(panel.generate_button)["disabled"]


def interrupt():
    raise KeyboardInterrupt


def test_watching_is_seen_until_the_end_of_the_cell_that_trains(front, colab, tmp_path, monkeypatch):
    "What a thread reads while the cell runs, and once more as it ends."
    hooks = []
    shell = ModuleType("shell")
    shell.events = ModuleType("events")
    shell.events.register, shell.events.unregister = lambda name, hook: hooks.append(hook), lambda name, hook: hooks.remove(hook)
    monkeypatch.setattr("defect_lora.widgets.watch.get_ipython", lambda: shell)
    TrainConfig.from_recipe("tuned", base="tiny", data=str(write_cables(tmp_path / "data", 1, size=64))).save(tmp_path / "config.json")
    with front.cell():
        panel = WatchWidget(tmp_path, every=3600)
    rows = [dict(step=1, epoch=1, phase="all", loss=0.5, seconds=1.0)]
    with front.cell():
        (tmp_path / "metrics.jsonl").write_text(json_lines(rows))
        for hook in hooks:
            hook(None)
    assert "loss 0.500" in front.of(panel.status)["value"]
    panel.close()
    assert not hooks
