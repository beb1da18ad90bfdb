"Folders that bite: the command `evaluate` on odd, small, damaged and large ones."

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from defect_lora.cli import main
from defect_lora.data.cables import render_cable, write_cables
from defect_lora.data.dataset import DefectSpectrumDataset
from defect_lora.data.files import file_sha256
from defect_lora.evaluation.curation import screen_images
from defect_lora.training.config import TrainConfig
from defect_lora.usefulness.judging import describe_training

CLASSES = ("good", "missing_cable", "cut_outer_insulation")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFECT_LORA_CACHE", str(tmp_path / "cache"))


def render(folder, count, first=0):
    "A folder per class of rendered cables."
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            render_cable(name, first + i, size=96)[0].save(folder / name / f"{i:03}.png")
    return folder


def evaluate(real, fake, out, *flags):
    return main(["evaluate", "--real", str(real), "--fake", str(fake), "--out", str(out), "--features", "tiny", *flags])


def test_odd_names_modes_and_sizes(tmp_path):
    real, fake = render(tmp_path / "real [1] ü.zip", 5), render(tmp_path / "fake (2) é.tar", 5, first=100)
    image = render_cable("good", 50, size=200)[0]
    image.convert("L").save(fake / "good" / "grey (1).png")
    image.convert("P").save(fake / "good" / "palette ü.png")
    image.convert("CMYK").resize((90, 50)).save(fake / "good" / "[cmyk].jpg")
    image.convert("RGBA").save(fake / "good" / "alpha.webp")
    Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16) * 257)).save(fake / "good" / "16 bit.png")
    assert evaluate(real, fake, tmp_path / "out #1") == 0
    report = json.loads((tmp_path / "out #1" / "report.json").read_text())
    assert report["n_fake"] == 20 and report["kid"]["value"] is not None
    assert (tmp_path / "out #1" / "report.html").stat().st_size > 10_000


def test_a_report_inside_a_set_is_refused(tmp_path, capsys):
    "It would be a class of the set."
    real, fake = render(tmp_path / "real", 2), render(tmp_path / "fake", 2, first=100)
    for folder in (real, fake):
        assert evaluate(real, fake, folder / "deeper" / "report") == 2
        assert "lies inside" in capsys.readouterr().err and not (folder / "deeper").exists()


def test_empty_and_damaged_are_named(tmp_path, capsys):
    real, fake = render(tmp_path / "real", 3), render(tmp_path / "fake", 3, first=100)
    (tmp_path / "empty").mkdir()
    assert evaluate(real, tmp_path / "empty", tmp_path / "out") == 2
    assert "empty" in capsys.readouterr().err
    (fake / "good" / "cut.png").write_bytes((fake / "good" / "000.png").read_bytes()[:500])
    (fake / "good" / "nothing.png").touch()
    assert evaluate(real, fake, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "cut.png" in said and "nothing.png" in said and "Traceback" not in said
    assert not (tmp_path / "out" / "report.json").exists()


def test_one_image_of_each_class(tmp_path, capsys):
    assert evaluate(render(tmp_path / "real", 1), render(tmp_path / "fake", 1, first=100), tmp_path / "out") == 0
    said = (tmp_path / "out" / "report.md").read_text()
    assert (
        "Cannot tell" in said
        and "Cannot tell" in capsys.readouterr().out
        and "n/a (n = 1)" in said
        and "nan" not in said.lower().replace("n/a", "")
    )


def test_curated_twice_and_told(tmp_path, capsys):
    real, fake = render(tmp_path / "real", 6), render(tmp_path / "fake", 4, first=100)
    copy = Image.open(real / "good" / "000.png")
    copy.save(fake / "good" / "copy.png")
    assert evaluate(real, fake, tmp_path / "out", "--curate") == 0
    assert "moved aside" in capsys.readouterr().out
    assert (tmp_path / "fake_set_aside" / "good" / "copy.png").exists() and not (fake / "good" / "copy.png").exists()
    assert evaluate(real, fake, tmp_path / "out", "--curate") == 0
    kept, aside = (len(list(folder.rglob("*.png"))) for folder in (fake, tmp_path / "fake_set_aside"))
    assert kept + aside == 13


def test_usefulness_is_part_of_the_report(tmp_path):
    real, fake = render(tmp_path / "real", 12), render(tmp_path / "fake", 6, first=100)
    assert evaluate(real, fake, tmp_path / "out", "--usefulness", "2") == 0
    found = json.loads((tmp_path / "out" / "report.json").read_text())["usefulness"]
    assert found["n_real"] == 6 and found["n_test"] == 30 and set(found["arms"]) == {"real", "synthetic", "real+synthetic"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Does an inspection model gain?" in page and found["verdict"] in (tmp_path / "out" / "report.md").read_text()


def shuffled(folder, count, first):
    "Cables of the right product under classes that they are not of."
    for i, (name, j) in enumerate((name, j) for name in CLASSES for j in range(count)):
        (folder / CLASSES[i % 3]).mkdir(parents=True, exist_ok=True)
        render_cable(name, first + j, size=96)[0].save(folder / CLASSES[i % 3] / f"{i:03}.png")
    return folder


def first_of(real, count):
    return {file_sha256(path) for name in CLASSES for path in sorted((real / name).glob("*.png"))[:count]}


def test_usefulness_curates_by_the_few_alone(tmp_path):
    real, fake = render(tmp_path / "real", 12), shuffled(tmp_path / "fake", 6, first=100)
    decided = {d.path.relative_to(fake) for d in screen_images(DefectSpectrumDataset(real, per_class=2), fake) if d.reasons}
    assert evaluate(real, fake, tmp_path / "out", "--usefulness", "2", "--curate") == 0
    aside = tmp_path / "fake_set_aside"
    assert {path.relative_to(aside) for path in aside.rglob("*.png")} == decided != set()
    assert set(json.loads((fake / "curation.json").read_text())["real"]) == first_of(real, 2)


def test_usefulness_refuses_what_was_curated_by_test_images(tmp_path, capsys):
    real, fake = render(tmp_path / "real", 12), shuffled(tmp_path / "fake", 6, first=100)
    assert evaluate(real, fake, tmp_path / "out", "--curate") == 0
    capsys.readouterr()
    assert evaluate(real, fake, tmp_path / "out", "--usefulness", "2") == 2
    assert "was curated by images that are test images" in capsys.readouterr().err


def test_usefulness_knows_what_the_run_was_trained_on(tmp_path, capsys):
    real, fake, run = render(tmp_path / "real", 12), render(tmp_path / "fake", 4, first=100), tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    TrainConfig(data=str(real), per_class=5).save(run / "config.json")
    assert evaluate(real, fake, tmp_path / "out", "--usefulness", "2", "--run", str(run)) == 2
    said = capsys.readouterr().err
    assert "take --usefulness 5" in said and len(said.strip().splitlines()[-1:]) == 1 and "Traceback" not in said
    assert evaluate(real, fake, tmp_path / "out", "--usefulness", "5", "--run", str(run)) == 0
    notes = json.loads((tmp_path / "out" / "report.json").read_text())["usefulness"]["notes"]
    assert any("None of the test images" in note for note in notes)


def test_a_report_says_that_the_tiny_base_stands_in(tmp_path):
    "Of photographs, and not of rendered cables."
    run, said = tmp_path / "run", []
    (run / "model").mkdir(parents=True)
    for data in (render(tmp_path / "real", 2), write_cables(tmp_path / "cables", per_class=1, size=64)):
        TrainConfig.from_recipe(base="tiny", data=str(data)).save(run / "config.json")
        said.append(describe_training(run)[1])
    assert "The base tiny is a stand-in" in said[0][0] and said[1] == []


def test_usefulness_finds_copied_test_images_without_the_run(tmp_path, capsys):
    real, fake = render(tmp_path / "real", 12), tmp_path / "fake"
    for name in CLASSES:
        (fake / name).mkdir(parents=True)
        for i in range(6):
            Image.open(real / name / f"{i:03}.png").save(fake / name / f"{i:03}.jpg", quality=80)
    assert evaluate(real, fake, tmp_path / "out", "--usefulness", "2") == 2
    assert "near copies of test images" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert evaluate(real, fake, tmp_path / "out", "--usefulness", "6") == 0
    notes = json.loads((tmp_path / "out" / "report.json").read_text())["usefulness"]["notes"]
    assert any("run was not given" in note for note in notes)


def test_an_interrupted_run_keeps_what_it_has(tmp_path):
    from defect_lora.evaluation import features

    paths = sorted(render(tmp_path / "real", 4).rglob("*.png"))
    tiny, seen, stop = features.load_features("tiny"), [], [6]

    def network(batch):
        if len(seen) + len(batch) > stop[0]:
            raise KeyboardInterrupt
        seen.extend(batch)
        return tiny.network(batch)

    counted = features.Features("tiny", tiny.prepare, network, key=tiny.key)
    with pytest.raises(KeyboardInterrupt):
        features.extract_features(paths, counted, batch_size=2, piece=4)
    assert len(seen) == 6
    stop[0] = 100
    rows = features.extract_features(paths, counted, batch_size=2, piece=4)
    assert len(seen) == 6 + 8  # the first piece was kept, the second begun anew
    assert rows.equal(features.extract_features(paths, "tiny", batch_size=2))


def test_memory_does_not_grow_with_the_images(tmp_path):
    "1,500 images of 512 px are 1.2 GB of pixels."
    program = """
import os, resource, sys
from pathlib import Path
from PIL import Image
from defect_lora.evaluation.features import extract_features
folder = Path(sys.argv[1])
Image.effect_noise((512, 512), 40).convert("RGB").save(folder / "0.bmp")
for i in range(1, 1500): os.link(folder / "0.bmp", folder / f"{i}.bmp")
paths = sorted(folder.glob("*.bmp"))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
means = lambda batch: batch.mean((2, 3))
extract_features(paths[:64], means)
before = peak()
assert len(extract_features(paths, means)) == 1500
print(peak() - before)
"""
    (tmp_path / "many").mkdir()
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "many")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 150, f"{done.stdout} MB more"


def test_nothing_is_left_to_keep(tmp_path, capsys):
    real = render(tmp_path / "real", 6)
    for name in CLASSES:
        (tmp_path / "fake" / name).mkdir(parents=True)
        for path in (real / name).iterdir():
            Image.open(path).save(tmp_path / "fake" / name / f"{path.stem}.jpg", quality=95)
    assert evaluate(real, tmp_path / "fake", tmp_path / "out", "--curate") == 0
    assert "so none was moved" in capsys.readouterr().out and len(list((tmp_path / "fake").rglob("*.jpg"))) == 18
    assert evaluate(real, tmp_path / "fake", tmp_path / "out", "--usefulness", "6") == 2
    assert "--usefulness 6" in capsys.readouterr().err
    assert evaluate(real, tmp_path / "fake", tmp_path / "fake") == 2
