"Figures in README, benchmarks and studies are those of the committed results files."

import json
import re
from functools import partial
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import pytest

import defect_lora
from defect_lora.data.cables import render_cable
from defect_lora.training.config import TrainConfig

ROOT = Path(__file__).parents[1]
SPEED = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
RATIOS = ("train_vs_stock", "train_vs_stock_checkpointed", "memory_vs_stock", "sample_vs_merged", "sample_vs_unmerged")


def short(study):
    "What a study says first."
    cells = json.loads((ROOT / "nbs" / "studies" / f"{study}.ipynb").read_text(encoding="utf-8"))["cells"]
    return next("".join(cell["source"]) for cell in cells if "".join(cell["source"]).startswith("## In short"))


RUNS = {"Stable Diffusion 1.5, random weights": ("sd15_earlier", "sd15_second", "sd15"), "the tiny base": ("tiny",)}


@pytest.mark.parametrize("row", RUNS)
def test_speed(row):
    "Of several runs each figure is the one that is kindest to the stock way."
    found = [json.loads((ROOT / "benchmarks" / "results" / f"speed_{name}.json").read_text()) for name in RUNS[row]]
    kindest = [(max if key.startswith("memory") else min)(run[key] for run in found) for key in RATIOS]
    line = next(line for line in SPEED.splitlines() if line.startswith(f"| {row} |"))
    assert [cell.strip() for cell in line.split("|")[2:-1]] == [f"{value:.2f}" for value in kindest]
    for key in set(RATIOS) - {"memory_vs_stock"} if len(found) > 1 else ():
        assert f"{min(run[key] for run in found):.2f} to {max(run[key] for run in found):.2f} times" in SPEED, key


def test_simulated_minutes():
    "What is reckoned for a T4 that was simulated."
    minutes = json.loads((ROOT / "benchmarks" / "results" / "t4_simulated.json").read_text())["minutes"]
    whole = [minutes[f"{recipe}, training"] + minutes[f"{recipe}, samples"] for recipe in ("tuned", "document")]
    said = "the quickstart {:.0f}, `tuned` {:.0f} and `document` {:.0f} with their samples, 90 images {:.1f}"
    assert said.format(minutes["quickstart"], *whole, minutes["90 images"]) in SPEED


def test_seconds():
    "What the demo's seconds are spent on."
    found = json.loads((ROOT / "benchmarks" / "results" / "seconds.json").read_text())["1 threads"]
    whole = {name: row["whole"] for name, row in found["sections"].items()}
    parts = {"train: backward": "backward passes", "train: forward": "forward passes", "train: optimizer": "the optimizer"}
    parts |= {"generate": "generating", "evaluate": "evaluating", "data": "rendering"}
    for name, words in parts.items():
        share = sum(value for section, value in whole.items() if section.startswith(name)) / sum(whole.values())
        assert f"{share:.0%}".replace("%", f" % {words}") in SPEED, words
    step = found["operations"]["a training step"]
    assert f"Of a training step {step['convolution']:.0%} are convolutions".replace("%", " %") in SPEED


def test_steps():
    "What fewer passes and guided intervals give, means over the trained seeds."
    rows = json.loads((ROOT / "benchmarks" / "results" / "steps.json").read_text())["rows"]
    known = {(row["solver"], row["steps"], tuple(row["interval"]), row["deep_every"]): row["sets"] for row in rows}
    said = {}
    for name, sets in known.items():
        assert len(sets) == 3, name
        said[name] = f"{fmean(one['class_accuracy'] for one in sets):.0%}".replace("%", " %"), f"{fmean(one['kid'] for one in sets):.0f}"
    whole = [said["dpmsolver++", steps, (0.0, 1.0), 1] for steps in (5, 10, 20)]
    assert "{}, {}, {} and {}, {}, {}".format(*(one[i] for i in (0, 1) for one in whole)) in SPEED
    assert "the first two unguided {} and {}".format(*said["dpmsolver++", 10, (0.15, 1.0), 1]) in SPEED
    assert "in every second step {} and {}".format(*said["dpmsolver++", 10, (0.0, 1.0), 2]) in SPEED
    assert "25 of DDIM {} and {}".format(*said["ddim", 25, (0.0, 1.0), 1]) in SPEED
    remembered, each = (fmean(one["cpu_seconds"] for one in known["dpmsolver++", 10, (0.0, 1.0), every]) for every in (2, 1))
    assert f"in {remembered / each:.0%} of the CPU time".replace("%", " %") in SPEED
    counted = json.loads((ROOT / "benchmarks" / "results" / "t4_simulated.json").read_text())["now"]["generate 8"]
    remembered, each = (sum(counted[row]["tflop"].values()) for row in ("two steps, one remembered", "two steps"))
    assert f"{remembered / each:.0%} of the operations".replace("%", " %") in SPEED


def test_guidance():
    "How many images of the hardest classes keep their class."
    found = json.loads((ROOT / "benchmarks" / "results" / "guidance.json").read_text())["seed 0"]
    rows = [found[name] for name in ("scale 2", "scale 2 from .25", "scale 2 from .5", "scale 1")]
    missing, bent = ([row[name][name] for row in rows] for name in ("missing_wire", "bent_wire"))
    a, b, c, d = missing
    assert f"at guidance 2, {a} keep their class and {found['scale 2']['missing_wire']['combined']} are taken for `combined`" in SPEED
    assert f"; {b} keep it" in SPEED and f"unguided, {c} where the first half is, and {d} without guidance" in SPEED
    assert "Of bent_wire it is {}, {}, {} and {}".format(*bent) in SPEED


def test_trust():
    "How often the intervals hold the truth, the faults are named, and perfect images are called good."
    said, results = short("03_trust"), ROOT / "nbs" / "studies" / "results"
    found = json.loads((results / "intervals.json").read_text())
    held = [row["value"] for kind in found["intervals"].values() for row in kind.values()]
    assert f"hold the truth in {100 * min(held):.0f} to {100 * max(held):.0f} of 100 sets" in said
    table = json.loads((results / "bad_sets.json").read_text())["table"]
    bad = [row for kinds in table.values() for row in kinds.values() if row["named"] is not None]
    named, of = (sum(row[key] for row in bad) for key in ("named", "of"))
    assert f"Of {of} sets of {len(bad) // len(table)} bad kinds {named} have their fault named." in said
    assert f"called good in {listed([str(kinds['fresh']['grades']['Good']) for kinds in table.values()])} of 100 sets" in said


def test_help():
    "What pasted and painted defects add to a classifier."
    rows = json.loads((ROOT / "nbs" / "studies" / "results" / "help.json").read_text())["rows"]
    gains = {(r["network"], r["images_per_class"]): f"{r['gain']:.1f}" for r in rows if r["arm"] == "ours paste + painted"}
    said = (ROOT / "nbs" / "tutorials" / "02_your_photographs.ipynb").read_text()
    assert f"add {gains['small', 3]} points to a small inspection model" in said and f"and {gains['small', 10]} with ten" in said
    assert f"frozen features {gains['frozen', 3]} and {gains['frozen', 10]} (ten seeds)" in said


def test_painting():
    "Named, labels and seams."
    said = short("05_painting")
    found = json.loads((ROOT / "nbs" / "studies" / "results" / "painting.json").read_text())

    def of(part):
        return [row for name, row in found.items() if name.startswith(f"{part}, seed ")]

    def named(setting):
        return f"{100 * fmean(row[setting]['all'] for row in of('presence')):.0f} %"

    def fit(what):
        return f"{fmean(fmean(row[what] for row in rows.values()) for rows in of('label_fit')):.2f}"

    def told(what):
        return f"{100 * fmean(row[what]['all'] for row in of('seams')):.0f} %"

    assert (
        f"names {named('weight 8, away from good, 5')} of the painted defects ({named('drawn')} of rendered ones); "
        f"with the recipe's own weight of the masks it is {named('weight 2, away from good, 5')}" in said
    )
    tried = named("weight 8, away from good, 5, in up to four tries")
    assert f"where a classifier of the ten real images says so, it is {tried}" in said
    assert f"what really differs {fit('label')}, of the mask asked for {fit('asked')}" in said and all(
        row["outside"] == 0 for rows in of("label_fit") for row in rows.values()
    )
    assert all(
        f"{before} {told(what)}" in said
        for before, what in (
            ("right on", "seam alone, painted"),
            ("found in", "seam alone, pasted"),
            ("rendered one on", "with the defect, painted"),
            ("cut out and pasted on", "with the defect, pasted"),
        )
    )


def listed(words):
    return ", ".join(words[:-1]) + " and " + words[-1]


def test_readme_quotes_the_demo():
    found = json.loads((ROOT / "benchmarks" / "results" / "demo.json").read_text())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f'"{found["verdict"]}"' in readme
    assert f"({found['minutes']:.0f} minutes and {found['gigabytes']:.1f} GB on two CPU cores" in readme


def test_the_lines_of_python_in_the_readme_run(tmp_path, monkeypatch):
    "As they stand there, on photographs of that name; with a smaller base and fewer images."
    monkeypatch.chdir(tmp_path)
    for name in ("good", "scratch"):
        (tmp_path / "photographs" / name).mkdir(parents=True)
        for i in range(2):
            render_cable("good", i, 64)[0].save(tmp_path / "photographs" / name / f"{i}.png")
    small = dict(base="tiny", size=64, epochs=1, evaluate_every=0, sample_every=0, num_inference_steps=2)
    recipe = SimpleNamespace(from_recipe=partial(TrainConfig.from_recipe, **small))
    monkeypatch.setattr(defect_lora, "TrainConfig", recipe, raising=False)
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    known = {}
    exec(code.replace("per_class=100", "per_class=1"), known)
    assert known["image"].size == (64, 64) and len(list((tmp_path / "generated").rglob("*.png"))) == 2


def test_readme_quotes_the_study():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = json.loads((ROOT / "nbs" / "studies" / "results" / "drawn_cables.json").read_text())
    shares = [found[f"tuned, seed {seed}"]["class_accuracy"]["value"] for seed in range(3)]
    assert f"reaches {100 * min(shares):.0f} to {100 * max(shares):.0f} %" in readme
    said = (ROOT / "nbs" / "tutorials" / "02_your_photographs.ipynb").read_text()
    mean = {name: fmean(found[f"tuned, seed {seed}"]["per_class"][name] for seed in range(3)) for name in ("missing_cable", "missing_wire")}
    assert f"{100 * min(shares):.0f} to {100 * max(shares):.0f} % of the tiny base's new images" in said
    assert f"of a missing cable {100 * mean['missing_cable']:.0f} %, of a missing wire {100 * mean['missing_wire']:.0f} %" in said
    tried = [row["class_accuracy"]["value"] for name, row in found.items() if name.startswith("tuned in up to four tries, seed ")]
    assert len(tried) == 3 and f"{100 * min(tried):.0f} to {100 * max(tried):.0f} % with such tries" in readme
    assert len(re.findall(r"\S+", readme)) < 1000
