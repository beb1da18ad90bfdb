"Sets that try to fool the verdict: the command `evaluate` on what a classifier does not see."

import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from defect_lora.cli import main
from defect_lora.data.cables import CLASSES, render_bundle, render_cable, sample_bundle
from defect_lora.data.dataset import fit_image
from defect_lora.evaluation.evaluator import Evaluator
from defect_lora.training.config import TrainConfig


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DEFECT_LORA_CACHE", str(tmp_path_factory.getbasetemp() / "features"))


def cable(name, seed):
    return render_cable(name, seed, size=96)[0]


def save(folder, make, count=8):
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            make(name, i).save(folder / name / f"{i:03}.png")
    return folder


def evaluate(real, fake, *flags):
    out = fake.with_name(fake.name + " report")
    shutil.rmtree(out, ignore_errors=True)
    assert main(["evaluate", "--real", str(real), "--fake", str(fake), "--out", str(out), "--features", "tiny", *map(str, flags)]) == 0
    return json.loads((out / "report.json").read_text())


def grade(report):
    return report["grade"].partition(",")[0]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return save(tmp_path_factory.mktemp("judge") / "real", cable)


def run_on(folder, data, **fields):
    "What evaluate reads of a run folder."
    (folder / "model").mkdir(parents=True)
    TrainConfig.from_recipe("tuned", base="tiny", data=str(data), **fields).save(folder / "config.json")
    return folder


def test_copies_of_what_was_trained_on(tmp_path, real):
    trained = save(tmp_path / "trained", lambda name, i: cable(name, 500 + i))
    copies = save(tmp_path / "copies", lambda name, i: (ImageOps.mirror if i % 2 else Image.Image.copy)(cable(name, 500 + i)))
    unknown = evaluate(real, copies)
    assert unknown["memorized"]["value"] < 0.3 and any("--run" in note for note in unknown["notes"])
    known = evaluate(real, copies, "--run", run_on(tmp_path / "run", trained))
    assert known["memorized"]["value"] == 1 and grade(known) == "Not usable" and not any("--run" in note for note in known["notes"])
    few = evaluate(real, copies, "--run", run_on(tmp_path / "few", trained, per_class=4))
    assert 0.45 < few["memorized"]["value"] < 0.7
    shutil.rmtree(trained)
    gone = evaluate(real, copies, "--run", tmp_path / "run")
    assert any("cannot be read" in note for note in gone["notes"])


def test_copies_of_one_class_are_named(tmp_path, real):
    report = evaluate(real, save(tmp_path / "some", lambda name, i: cable(name, i if name == "good" else 100 + i)))
    assert "Copies of real images: good (100 %)." in report["verdict"] and grade(report) == "Usable"
    two = evaluate(real, save(tmp_path / "two", lambda name, i: cable(name, i if name in ("good", "combined") else 100 + i)))
    assert "copies of real images" in two["verdict"].lower() and grade(two) == "Weak"


def test_rolled_copies(tmp_path, real):
    def rolled(name, i):
        return Image.fromarray(np.roll(np.asarray(cable(name, i)), (9, 7), (0, 1)))

    report = evaluate(real, save(tmp_path / "rolled", rolled))
    assert report["memorized"]["value"] > 0.9 and "are copies of real images" in report["verdict"] and grade(report) == "Not usable"


def test_turned_copies_and_halves(tmp_path, real):
    def made(name, i):
        pixels = np.asarray(cable(name, i))
        if i % 2:
            wide = Image.fromarray(np.pad(pixels, ((24, 24), (24, 24), (0, 0)), mode="edge"))
            return wide.rotate(12, Image.BICUBIC).crop((24, 24, 120, 120))
        return Image.fromarray(np.concatenate([pixels[:, :48], np.asarray(cable(name, (i + 2) % 8))[:, 48:]], axis=1))

    report = evaluate(real, save(tmp_path / "moved", made))
    assert report["memorized"]["value"] > 0.8 and "are copies of real images" in report["verdict"] and grade(report) == "Not usable"


def test_a_model_alone_does_not_say_what_it_was_trained_on(tmp_path, real):
    (tmp_path / "model").mkdir()
    report = evaluate(real, save(tmp_path / "fresh", lambda name, i: cable(name, 100 + i)), "--run", tmp_path / "model")
    assert any("does not say" in note for note in report["notes"])


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_photographs_become_squares_as_in_training(tmp_path, fit):
    def wide(name, i):
        return render_cable(name, i, size=208)[0].crop((0, 40, 208, 168))

    photographs = save(tmp_path / "photographs", wide, 6)
    squares = save(tmp_path / "squares", lambda name, i: fit_image(wide(name, 300 + i), 96, fit), 6)
    report = evaluate(photographs, squares, "--run", run_on(tmp_path / "run", photographs, fit=fit))
    assert report["kid"]["p_value"] > 0.01 and report["effect_size"]["low"] < 0.3 and report["colour_effect_size"]["low"] < 0.3


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_the_sets_say_how_photographs_became_squares(tmp_path, fit):
    def wide(name, i):
        return render_cable(name, i, size=208)[0].crop((0, 40, 208, 168))

    photographs = save(tmp_path / "photographs", wide, 2)
    evaluator = Evaluator(photographs, save(tmp_path / "squares", lambda name, i: fit_image(wide(name, 300 + i), 96, fit), 2), "tiny")
    assert evaluator.pixels.view.fit == fit and any(f"'{fit}' brings the two sets nearest" in note for note in evaluator.notes)


def test_size_is_no_difference(tmp_path):
    large = save(tmp_path / "large", lambda name, i: render_cable(name, i, size=256)[0], 6)
    small = save(tmp_path / "small", lambda name, i: fit_image(render_cable(name, 300 + i, size=256)[0], 96, "pad"), 6)
    report = evaluate(large, small)
    assert 0.8 < report["sharpness"]["value"] < 1.25 and report["kid"]["p_value"] > 0.01


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_same_images_again_and_again(tmp_path, real, count):
    report = evaluate(real, save(tmp_path / "again", lambda name, i: cable(name, 100 + i % count)))
    assert grade(report) in ("Not usable", "Weak") and "Hardly any variety" in report["verdict"]


def test_each_image_twice(tmp_path, real):
    report = evaluate(real, save(tmp_path / "twice", lambda name, i: cable(name, 100 + i // 2)))
    assert grade(report) == "Weak" and report["repeated"]["value"] == 1


def test_one_class_far_from_its_real_images(tmp_path, real):
    def made(name, i):
        image = cable(name, 100 + i)
        return ImageOps.invert(image) if name == "bent_wire" else image

    report = evaluate(real, save(tmp_path / "one", made))
    assert (
        "far from real ones" in report["verdict"] and "surely bent_wire." in report["verdict"] and grade(report) in ("Not usable", "Weak")
    )


def test_more_is_missing_than_any_photograph_lacks(tmp_path, real):
    "Nothing counts cores: but all three missing, where every photograph lacks one, is unlike the class, and it is named."

    def made(name, i):
        if name != "missing_cable":
            return cable(name, 100 + i)
        rng = np.random.default_rng(i)
        return render_bundle(sample_bundle(rng), rng, 96, {core: {"missing_core"} for core in range(3)})[0]

    report = evaluate(real, save(tmp_path / "three", made))
    assert "Far from real ones: missing_cable" in report["verdict"] and grade(report) == "Weak"


def test_grave_faults_of_few_images_of_each_class(tmp_path, real):
    upside_down = evaluate(real, save(tmp_path / "upside down", lambda name, i: ImageOps.flip(ImageOps.invert(cable(name, 100 + i))), 4))
    assert grade(upside_down) in ("Not usable", "Weak") and "far from real ones" in upside_down["verdict"]
    fresh = evaluate(real, save(tmp_path / "fresh", lambda name, i: cable(name, 100 + i), 4))
    assert grade(fresh) == "Cannot tell" and "half of the classes have fewer than 5" in fresh["verdict"]


def test_a_faint_watermark(tmp_path, real):
    def stamped(name, i):
        image = cable(name, 100 + i)
        marked = image.copy()
        ImageDraw.Draw(marked).rectangle((60, 75, 92, 90), outline="white", width=2)
        return Image.blend(image, marked, 0.35)

    report = evaluate(real, save(tmp_path / "stamped", stamped))
    assert "a watermark?" in report["verdict"] and grade(report) != "Good"


@pytest.mark.parametrize(
    ("hit", "said", "grades"),
    [
        (lambda name, i: True, "They are blurred", ["Weak"]),
        (lambda name, i: name == "good", "Blurred or noisy: good.", ["Weak", "Usable"]),
        (lambda name, i: i % 8 < 3, "unlike every real image of their class", ["Weak", "Usable"]),
    ],
    ids=["all", "one class", "three of eight"],
)
def test_blur(tmp_path, real, hit, said, grades):
    def made(name, i):
        image = cable(name, 100 + i)
        return image.filter(ImageFilter.GaussianBlur(0.8)) if hit(name, i) else image

    report = evaluate(real, save(tmp_path / "blurred", made))
    assert said in report["verdict"] and grade(report) in grades


@pytest.mark.parametrize("shift", [-40, 40])
def test_shifted_levels(tmp_path, real, shift):
    def made(name, i):
        return Image.fromarray((np.asarray(cable(name, 100 + i)).astype(int) + shift).clip(0, 255).astype(np.uint8))

    report = evaluate(real, save(tmp_path / "levels", made))
    assert "far from real ones" in report["verdict"] and grade(report) in ("Not usable", "Weak")


def test_real_images_that_are_there_twice(tmp_path):
    single = save(tmp_path / "single", cable, 3)
    double = save(tmp_path / "double", lambda name, i: cable(name, i // 2), 6)
    fresh = save(tmp_path / "fresh", lambda name, i: cable(name, 100 + i))
    once, twice = evaluate(single, fresh), evaluate(double, fresh)
    assert twice["class_accuracy"]["floor"] == once["class_accuracy"]["floor"] and twice["n_real"] == 27
    assert any("27 of the 54 real images are duplicates" in note for note in twice["notes"])


@pytest.mark.parametrize("count", [3, 4, 5, 7])
def test_fresh_images_beside_few_real_ones(tmp_path, count):
    report = evaluate(save(tmp_path / "few", cable, count), save(tmp_path / "fresh", lambda name, i: cable(name, 100 + i)))
    assert report["kid"]["p_value"] > 0.01 and abs(report["kid"]["floor"]) < 40
    assert not any(word in report["verdict"] for word in ("variety", "copies", "far from", "blurred", "noisy"))


def test_generated_images_say_how_photographs_became_squares(tmp_path):
    from defect_lora import DefectPipeline, TrainConfig, Trainer, generate_images
    from defect_lora.data.images import read_provenance
    from defect_lora.evaluation.features import View, common_view

    photographs = save(tmp_path / "photographs", cable, 2)
    config = TrainConfig.from_recipe("tuned", base="tiny", data=str(photographs), fit="crop", epochs=1, sample_every=0, evaluate_every=0)
    Trainer(config, tmp_path / "run").fit()
    pipe = DefectPipeline.from_pretrained(tmp_path / "run")
    generate_images(pipe, tmp_path / "out", per_class=1, classes=["good"], num_inference_steps=1, progress=False)
    path = tmp_path / "out" / "good" / "000.png"
    assert read_provenance(path)["trained_fit"] == "crop" and common_view([path]) == View(pipe.size, "crop")
