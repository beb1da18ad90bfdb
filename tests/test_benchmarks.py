"The benchmark does the same work on both sides, refuses where it does not, and its last line is what it promises. No speed is asserted."

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import seconds
import speed
import steps
from command import run_program

from defect_lora.model.pipeline import _guides

SCRIPT = """
import argparse
from pathlib import Path
parser = argparse.ArgumentParser()
for name in ("pretrained_model_name_or_path", "train_data_dir", "output_dir"): parser.add_argument("--" + name, type=Path)
for name in ("resolution", "train_batch_size", "max_train_steps", "rank", "checkpointing_steps"): parser.add_argument("--" + name, type=int)
parser.add_argument("--gradient_checkpointing", action="store_true")
args = parser.parse_args()
from transformers import CLIPTokenizer
tokenizer = CLIPTokenizer.from_pretrained(args.pretrained_model_name_or_path, subfolder="tokenizer")
ids = tokenizer("a cable with missing_wire", max_length=tokenizer.model_max_length, padding="max_length", truncation=True).input_ids
assert len(ids) == 77 and len(set(ids)) > 5, ids
assert len((args.train_data_dir / "metadata.jsonl").read_text().splitlines()) == 36
assert (args.pretrained_model_name_or_path / "text_encoder" / "config.json").exists()
"""


def test_last_line_and_a_script(tmp_path, monkeypatch, capsys):
    (tmp_path / "script.py").write_text(SCRIPT)
    flags = "--geometry tiny --size 64 --batch 2 --repeat 1 --steps 3 --rounds 0".split()
    files = ["--script", str(tmp_path / "script.py"), "--out", str(tmp_path / "out.json")]
    monkeypatch.setattr(speed.subprocess, "run", run_program)  # ten processes, without their imports
    monkeypatch.setattr(sys, "argv", [speed.__file__, *flags, *files])
    speed.main()
    last = json.loads(capsys.readouterr().out.strip().split("\n")[-1])
    wanted = set("train_vs_stock train_vs_stock_checkpointed memory_vs_stock sample_vs_merged sample_vs_unmerged".split())
    wanted |= {"train_vs_script", "train_vs_script_checkpointed"}
    assert set(last) == wanted
    written = json.loads((tmp_path / "out.json").read_text(), parse_constant=pytest.fail)  # no NaN
    assert written["gate"]["gradients"] < 1e-4 and written["gate"]["generated"] < 1e-3
    assert all(last[name] == written[name] for name in wanted)


def test_gate_stops_what_is_not_the_same_work(capsys):
    speed.check_gate(dict(loss=1e-7), 1e-4)
    with pytest.raises(SystemExit, match="gradients differs"):
        speed.check_gate(dict(loss=1e-7, gradients=2e-4), 1e-4)


def test_ratios_are_ours_over_theirs():
    rows = lambda **seconds: {name.replace("_", ", "): dict(seconds=s, memory=s) for name, s in seconds.items()}
    found = dict(
        training=rows(stock=3.0, stock_checkpointing=4.0, ours=2.0), generating=rows(stock_unmerged=6.0, stock_merged=5.0, ours=4.0)
    )
    assert speed.ratios(found) == dict(
        train_vs_stock=1.5, train_vs_stock_checkpointed=2.0, memory_vs_stock=0.667, sample_vs_merged=1.25, sample_vs_unmerged=1.5
    )


def test_painting_prints_a_ratio():
    command = [sys.executable, str(Path(speed.__file__).with_name("painting.py")), "--steps", "2", "--images", "1", "--rounds", "1"]
    done = run_program(command)
    assert done.returncode == 0, done.stderr[-2000:]
    assert set(json.loads(done.stdout.strip().split("\n")[-1])) == {"painting_vs_generating", "again_vs_generating"}


def test_what_is_ready_for_a_gpu_is_rehearsed(tmp_path):
    parts = ["--parts", "cases", "run", "latents", "--only", "resume", "generate 8"]  # the speed's own test is above
    command = [sys.executable, str(Path(speed.__file__).with_name("gpu.py")), "--rehearse", *parts, "--out", str(tmp_path / "gpu.json")]
    done = run_program(command, env={"DEFECT_LORA_CACHE": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "gpu.json").read_text())
    rows = [row for case in found["cases"].values() for row in case.values()]
    assert len(rows) == 4 and all(row["seconds"] > 0 and row["peak_gib"] > 0 for row in rows), rows
    assert found["device"] == "CPU" and found["rehearsal"] and found["run"]["steps"] == 3
    assert 0 < found["latents"]["mean"] < found["latents"]["largest"] < 0.5


@pytest.mark.parametrize("count", [10, 20, 25, 50])
def test_passes_are_those_of_the_pipeline(count):
    for interval in (steps.WHOLE, steps.NONE, (0.0, 0.5), (0.2, 0.8)):
        pipe = SimpleNamespace(_intervals=(interval, 1), _guidance_scale=2.0)
        assert steps.passes(count, interval) == count + sum(_guides(pipe, count, (step, None)) for step in range(count))


def test_a_section_counts_what_no_section_inside_does(monkeypatch):
    times = iter([0, 1, 3, 7, 12])  # made, outer begins, inner begins, inner ends, outer ends
    monkeypatch.setattr(seconds.time, "process_time", lambda: next(times))
    sections = seconds.Sections()
    with sections.section("outer"), sections.section("inner"):
        pass
    assert sections.seconds == {"start": 1, "outer": 2 + 5, "inner": 4} and sections.calls == {"outer": 1, "inner": 1}


def test_a_whole_demo_has_so_many_more_steps_and_images():
    assert seconds.whole("train: forward", 3.0) == 3.0 * 40 and seconds.whole("generate: UNet", 3.0) == 3.0 * 7
    assert seconds.whole("evaluate: distances", 3.0) == 3.0
