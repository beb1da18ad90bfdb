"What lies in a user's folders: parts for testing stay held out, masks are no photographs, the few that are learned from are varied."

import pytest

from defect_lora.data.cables import render_cable
from defect_lora.data.dataset import DefectSpectrumDataset
from defect_lora.data.layouts import find_good_parts
from defect_lora.evaluation.evaluator import read_sets
from defect_lora.sharing.exports import export_set


def photograph(path, kind="good", number=0, size=32):
    path.parent.mkdir(parents=True, exist_ok=True)
    image, mask = render_cable(kind, number, size)
    image.save(path)
    return image, mask


@pytest.fixture
def mvtec(tmp_path):
    "MVTec AD's layout: three good parts to train on, two for testing, and two defects."
    for part, count in (("train", 3), ("test", 2)):
        for i in range(count):
            photograph(tmp_path / "mvtec" / part / "good" / f"{i:03d}.png", number=i + 10 * (part == "test"))
    for i in range(2):
        _, mask = photograph(tmp_path / "mvtec/test/bent_wire" / f"{i:03d}.png", "bent_wire", i)
        (tmp_path / "mvtec/ground_truth/bent_wire").mkdir(parents=True, exist_ok=True)
        mask.save(tmp_path / "mvtec/ground_truth/bent_wire" / f"{i:03d}_mask.png")
    return tmp_path / "mvtec"


def parts(paths):
    return [path.parent.parent.name for path in paths]


def good_of(dataset):
    return parts(s.path for s in dataset.samples if dataset.classes[s.label] == "good")


def test_parts_for_testing_are_neither_learned_from_nor_painted_into(mvtec):
    few = DefectSpectrumDataset(mvtec, per_class=1)
    assert good_of(few) == ["train"] and good_of(few.holdout()) == ["train", "train", "test", "test"]
    assert good_of(DefectSpectrumDataset(mvtec)) == ["train"] * 3
    assert parts(find_good_parts(mvtec)) == parts(find_good_parts(few)) == ["train"] * 3


def test_parts_for_training_are_not_judged_against(mvtec, tmp_path):
    photograph(tmp_path / "fake/bent_wire/0.png", "bent_wire", 7)
    sets = read_sets(mvtec, tmp_path / "fake")
    assert parts(sets.by_class()["good"][0]) == ["test"] * 2


def test_an_export_tests_on_what_is_for_testing(mvtec, tmp_path):
    for kind in ("good", "bent_wire"):
        photograph(tmp_path / "fake" / kind / "0.png", kind, 8)
    out = export_set(tmp_path / "fake", tmp_path / "out", "mvtec", good=mvtec) / "product"
    for part in ("train", "test"):
        assert [p.read_bytes() for p in sorted((out / part / "good").iterdir())] == [
            p.read_bytes() for p in sorted((mvtec / part / "good").iterdir())
        ]


def test_parts_for_testing_alone_are_not_taken_in_silence(mvtec, caplog):
    (mvtec / "train/good").rename(mvtec.parent / "elsewhere")
    (mvtec / "train").rmdir()
    assert parts(find_good_parts(mvtec)) == ["test"] * 2 and "for testing alone" in caplog.text
    caplog.clear()
    assert good_of(DefectSpectrumDataset(mvtec)) == ["test"] * 2 and "all of good is for testing" in caplog.text


def test_a_split_is_kept(tmp_path):
    for part in ("train", "test"):
        for kind in ("good", "bent_wire"):
            photograph(tmp_path / part / kind / "0.png", kind)
    dataset = DefectSpectrumDataset(tmp_path)
    assert dataset.classes == ["bent_wire", "good"]
    assert parts(s.path for s in dataset.samples) == ["train"] * 2 and parts(s.path for s in dataset.rest) == ["test"] * 2
