"The whole loop with a generator and inspectors that are made up: what it splits, chooses, says, keeps and copies, in seconds."

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from defect_lora.cli import main
from defect_lora.data.cables import write_cables
from defect_lora.data.files import InputError, file_sha256
from defect_lora.usefulness import advice, loop
from defect_lora.usefulness.advice import give_advice
from defect_lora.usefulness.comparison import balanced_accuracy
from defect_lora.usefulness.loop import AdviceConfig, split_photographs
from defect_lora.usefulness.trials import Inspector

CLASSES = ("bent_wire", "good", "missing_cable")


def only(folder, names=CLASSES):
    "Nothing but some classes of rendered cables, in DS-MVTec's layout."
    for place in (folder / "DS-MVTec" / "cable").glob("*/*"):
        if place.name not in names:
            shutil.rmtree(place)
    return folder


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered")
    write_cables(folder / "photographs", per_class=14, size=48)
    write_cables(folder / "others", per_class=4, size=48, seed=7)
    return only(folder / "photographs"), only(folder / "others")


class Stubs:
    "A generator that copies renderings, and inspectors that gain from painted images."

    def __init__(self, others, gain=0.49):
        self.others, self.gain, self.made, self.trained = others, gain, [], []

    def generate(self, loop):
        self.made.append("generated")
        for path in sorted((self.others / "DS-MVTec" / "cable" / "image").glob("*/*.png")):
            target = loop.out / "generated" / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)

    def paint(self, loop):
        self.made.append("painted")
        shutil.copytree(self.others, loop.out / "painted", dirs_exist_ok=True)
        shutil.rmtree(loop.out / "painted" / "DS-MVTec" / "cable" / "image" / "good")

    def inspectors(self, loop):
        judged, names = loop.photographs.judge, loop.photographs.classes
        labels = torch.tensor([names.index(name) for _, name, _ in judged])

        def train(real, fake, seed):
            self.trained.append(len(fake))
            share = 0.5 + self.gain * any("painted" in path.parts for path, *_ in fake) + 0.01 * seed
            place = torch.tensor([sum(row[1] == one[1] for row in judged[:i]) / 7 for i, one in enumerate(judged)])
            return torch.where(place < share, labels, (labels + 1) % len(names))

        score = partial(partial, balanced_accuracy, labels)
        return [
            Inspector(name, "made up.", "balanced accuracy", train, score, (0, 1), judged, name)
            for name in ("classifier", "small classifier", "segmenter")
        ]


@pytest.fixture
def stubbed(rendered, monkeypatch):
    def stub(gain=0.49):
        stubs = Stubs(rendered[1], gain)
        monkeypatch.setattr(loop, "KINDS", dict(generated=(stubs.generate, False), painted=(stubs.paint, True)))
        monkeypatch.setattr(advice, "inspectors_of", stubs.inspectors)
        monkeypatch.setattr(advice, "forecast", lambda loop, run=None: dict.fromkeys(loop.steps(), 1.0))
        monkeypatch.setattr(loop, "curate_folder", lambda *args, **kwargs: [])
        monkeypatch.setattr(loop.Loop, "train", lambda loop: loop.finish("run"))
        return stubs

    return stub


def test_nothing_that_judges_was_learned_from(rendered):
    split = split_photographs(AdviceConfig(str(rendered[0])))
    learned = {file_sha256(sample.path) for sample in split.learn.samples}
    assert len(learned) == 21 and 15 <= len(split.judge) <= 21  # near-twins of what is learned from do not judge
    assert not learned & {file_sha256(path) for path, *_ in [*split.judge]}
    assert not {*split.good} & {path for path, *_ in split.judge} and {path.parent.name for path in split.good} == {"good"}
    other = split_photographs(AdviceConfig(str(rendered[0]), seed=1))
    assert {s.path for s in other.learn.samples} != {s.path for s in split.learn.samples}


def test_a_layout_says_what_is_for_testing(rendered, tmp_path):
    source = rendered[0] / "DS-MVTec" / "cable" / "image"
    for name in CLASSES:
        for number, path in enumerate(sorted((source / name).iterdir())):
            target = tmp_path / ("train" if number < 3 else "test") / name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    split = split_photographs(AdviceConfig(str(tmp_path)))
    assert {path.parts[-3] for path, *_ in split.judge} == {"test"}
    assert {s.path.parts[-3] for s in split.learn.samples} == {"train"} and len(split.learn) == 9


def test_too_little_is_refused_in_one_line(rendered, tmp_path, capsys):
    only(Path(shutil.copytree(rendered[1], tmp_path / "four")), ("good", "bent_wire"))
    assert main(["help-me", "--data", str(tmp_path / "four"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip()
    assert "too few photographs are left to judge by" in said and "\n" not in said and not (tmp_path / "out").exists()
    only(tmp_path / "four", ("good",))
    with pytest.raises(InputError, match="a single class"):
        split_photographs(AdviceConfig(str(tmp_path / "four")))


def test_the_page_says_what_helps(rendered, stubbed, tmp_path):
    stubbed()
    found = give_advice(AdviceConfig(str(rendered[0]), base="tiny", per_class=4), tmp_path / "out")
    said = json.loads((tmp_path / "out" / "advice.json").read_text())
    assert said["sentence"] == found.sentence and found.sentence.startswith("With your photographs, ")
    assert (
        found.sentence.count("painted image") == found.sentence.count("worth +") == 2 and said["models"]["classifier"]["grade"] == "helps"
    )
    assert "generated" not in said["models"]["classifier"]["gain"]["arm"]  # of equals the first is taken, painted alone is before both
    page = (tmp_path / "out" / "advice.html").read_text(encoding="utf-8")
    assert page.index("With your photographs") < page.index("What to do") < page.index("Class by class") < page.index("not to trust")
    assert "://" not in page and page.count("data:image/jpeg") == 2
    [folder] = said["sets"]["segmenter"]
    pairs = sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.png"))
    assert len(pairs) == 2 * 2 * 4 and "bent_wire/painted_000.png" in pairs and "masks/bent_wire/painted_000_mask.png" in pairs


def test_nothing_helps_and_nothing_is_promised(rendered, stubbed, tmp_path):
    stubbed(gain=-0.2)
    found = give_advice(AdviceConfig(str(rendered[0]), base="tiny", per_class=4), tmp_path / "out")
    assert "worth" not in found.sentence and found.sentence.count("no synthetic images were better than none") == 1
    assert not found.sets and not (tmp_path / "out" / "sets").exists()
    assert all("photograph more" in row["advice"] and row["weight"] == 0 for row in found.classes)
    assert "photograph more" in (tmp_path / "out" / "advice.html").read_text(encoding="utf-8").lower()


def test_interrupted_it_goes_on_and_ends_alike(rendered, stubbed, tmp_path, capsys):
    whole, config = stubbed(), AdviceConfig(str(rendered[0]), base="tiny", per_class=4)
    expected = give_advice(config, tmp_path / "whole")
    stubs = stubbed()
    for step in (1, 4, 9):  # trainings until it is interrupted
        left, train = [step], stubs.inspectors

        def interrupted(loop, left=left, train=train):
            found = train(loop)
            for one in found:

                def once(real, fake, seed, inner=one.train):
                    if left[0] == 0:
                        raise KeyboardInterrupt
                    left[0] -= 1
                    return inner(real, fake, seed)

                object.__setattr__(one, "train", once)
            return found

        advice.inspectors_of = interrupted
        with pytest.raises(KeyboardInterrupt):
            give_advice(config, tmp_path / "out")
    advice.inspectors_of = stubs.inspectors
    found = give_advice(config, tmp_path / "out")
    assert len(stubs.trained) == len(whole.trained) and stubs.made == ["generated", "painted"]
    assert found.sentence == expected.sentence and found.curve == expected.curve
    with pytest.raises(InputError, match="per_class: 5 instead of 4"):
        give_advice(AdviceConfig(str(rendered[0]), base="tiny", per_class=5), tmp_path / "out")
    give_advice(
        AdviceConfig(str(rendered[0]), base="tiny", per_class=4, trainings=9), tmp_path / "out"
    )  # more of the same is no other loop


@pytest.mark.parametrize("layout, there", [("yolo", "data.yaml"), ("coco", "annotations.json"), ("mvtec", "product")])
def test_the_set_in_the_layout_of_a_trainer(layout, there, rendered, stubbed, tmp_path, capsys):
    stubbed()
    words = [
        "help-me",
        "--data",
        str(rendered[0]),
        "--out",
        str(tmp_path / "out"),
        "--base",
        "tiny",
        "--per-class",
        "4",
        "--layout",
        layout,
    ]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "With your photographs, " in out and f"page: {tmp_path / 'out' / 'advice.html'}" in out
    assert (tmp_path / "out" / "sets" / f"segmenter-{layout}" / there).exists() and f"segmenter-{layout}" in out
    assert main(words) == 0  # and once more over what is there


def test_a_dry_run_writes_nothing(rendered, stubbed, tmp_path, capsys):
    stubbed()
    assert main(["help-me", "--data", str(rendered[0]), "--out", str(tmp_path / "out"), "--base", "tiny", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "on this device" in out and "bent_wire 7 and" in out and not (tmp_path / "out").exists()
