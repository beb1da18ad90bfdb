"The benchmark of help pairs seeds, keeps its pilots out of the rows, goes on where it was, and takes a stranger's folder."

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

PLACE = Path(__file__).parents[1] / "nbs" / "studies" / "help" / "benchmark.py"


@pytest.fixture
def benchmark():
    spec = importlib.util.spec_from_file_location("help_benchmark", PLACE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scores(folder, arm, use, by_seed):
    for seed, score in by_seed.items():
        path = folder / f"3_{seed}" / f"{arm}, {use}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(score=score, seconds=1)))


def test_rows_are_paired_and_pilots_are_not_in_them(benchmark, tmp_path):
    options = benchmark.parse(f"--images 3 --work {tmp_path} --consumers frozen --results {tmp_path / 'help.json'}".split())
    folder = tmp_path / "cells" / "frozen"
    scores(folder, "real", "half", {0: 0.5, 1: 0.6, 2: 0.4, 100: 0.1})
    scores(folder, "paste", "union", {0: 0.55, 1: 0.7, 2: 0.6, 3: 0.9})  # seed 3 has no partner
    scores(folder, "poisson", "union", {0: 0.5, 1: 0.5, 2: 0.5})
    scores(folder, benchmark.PILOTED, "half", {100: 0.2, 101: 0.2})
    scores(folder, benchmark.PILOTED, "union", {0: 0.6, 1: 0.8, 100: 0.3, 101: 0.3})
    benchmark.summarise(options, benchmark.choose_uses(options))
    found = json.loads((tmp_path / "help.json").read_text())
    rows = {row["arm"]: row for row in found["rows"]}
    assert set(rows) == {"paste", "poisson", benchmark.PILOTED} and found["uses"]["frozen"]["use"] == "union"
    gains, known = np.array([5, 10, 20]), ttest_1samp([5, 10, 20], 0).confidence_interval()
    assert np.allclose([rows["paste"][key] for key in ("gain", "low", "high")], [gains.mean(), known.low, known.high], atol=0.01)
    assert rows["paste"]["seeds"] == 3 and rows["paste"]["real_only"] == 50 and rows["paste"]["consumer"] == "classifier"
    assert rows["paste"]["steps"] is None and rows["paste"]["tries"] == 4
    (against,) = found["against_the_best_rule"]
    assert (against["over"], against["gain"], against["seeds"]) == ("paste", 7.5, 2)


def test_rows_of_others_stay(benchmark, tmp_path):
    results = tmp_path / "help.json"
    old = [
        dict(network=network, images_per_class=images, arm="paste") for network, images in (("segmenter", 3), ("frozen", 3), ("small", 10))
    ]
    results.write_text(json.dumps(dict(rows=old, against_the_best_rule=[], by_steps=old[:1], uses=dict(small=dict(use="union")))))
    options = benchmark.parse(f"--images 3 --work {tmp_path} --consumers frozen --results {results}".split())
    scores(tmp_path / "cells" / "frozen", "real", "half", {0: 0.5, 1: 0.6})
    scores(tmp_path / "cells" / "frozen", "nsa", "half", {0: 0.5, 1: 0.7})
    benchmark.summarise(options, benchmark.choose_uses(options))
    found = json.loads(results.read_text())
    known = [(row["network"], row["images_per_class"], row["arm"]) for row in found["rows"]]
    assert known == [("frozen", 3, "nsa"), ("small", 10, "paste"), ("segmenter", 3, "paste")]
    assert found["uses"] == dict(small=dict(use="union")) and found["by_steps"] == old[:1]


def test_lengths_are_compared_on_the_same_legs(benchmark, tmp_path):
    options = benchmark.parse(f"--images 3 --work {tmp_path} --consumers small".split())
    for steps, by_seed in {10: {0: 0.1, 1: 0.3}, 20: {1: 0.5, 2: 0.9}}.items():
        for arm in ("real", "perfect", "paste"):
            scores(tmp_path / "cells" / f"small-{steps}", arm, "half", by_seed)
    found = benchmark.scores_by_steps(options)
    assert found == [dict(network="small", images_per_class=3, arm=arm, legs=1, mean={"10": 30, "20": 50}) for arm in ("perfect", "real")]


def test_it_goes_on_and_takes_a_strangers_folder(benchmark, tmp_path, monkeypatch, capsys):
    for name, value in dict(GOODS=3, HELD_OUT=1, PASTED=1, SIZE=64, SIDE=32).items():
        monkeypatch.setattr(benchmark, name, value)
    monkeypatch.setattr(benchmark, "FIRST", dict(small=("real", "paste")))
    monkeypatch.setattr(benchmark, "ARMS", dict(paste=["paste"]))
    stranger = f"{tmp_path}/sets/{{images}}_{{seed}}/paste"
    flags = f"--images 1 --seeds 1 --work {tmp_path} --consumers small --pilot-images --classifier-steps 2 --results {tmp_path}/help.json"
    benchmark.main([*flags.split(), "--arm", f"theirs={stranger}"])
    cells = {path.stem.partition(",")[0]: path for path in (tmp_path / "cells" / "small-2" / "1_0").glob("*.json")}
    known = {arm: json.loads(path.read_text())["score"] for arm, path in cells.items()}
    assert set(known) == {"real", "paste", "theirs"} and known["paste"] == known["theirs"]  # the same images, the same training
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} | {
        path: path.stat().st_mtime_ns for path in cells.values()
    }
    benchmark.main([*flags.split(), "--arm", f"theirs={stranger}"])
    assert all(path.stat().st_mtime_ns == at for path, at in written.items())
    assert "about 0 minutes" in capsys.readouterr().out.splitlines()[-4]
    with pytest.raises(SystemExit):
        benchmark.parse(["--work", "x", "--arm", "paste=x"])


@pytest.mark.parametrize("consumer", ["frozen", "small", "resnet34", "segmenter"])
def test_arms_of_a_consumer(benchmark, tmp_path, consumer):
    "Real images first; what has no masks is no use to a segmenter, and what has no class none to a classifier."
    options = benchmark.parse(["--work", str(tmp_path)])
    arms = [arm for stage in (1, 2) for arm in benchmark.arms_for(consumer, options, stage)]
    assert arms[0] == "real" and len(set(arms)) == len(arms) and ("nsa" in arms) == ("ours whole" not in arms) == (consumer == "segmenter")
