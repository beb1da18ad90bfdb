"""Exported sets, read by the programs they are for.

anomalib is not installed here: its rules are those of `anomalib.data.datasets.image.mvtecad.make_mvtec_ad_dataset` as its documentation
has them: <root>/<category>/{train,test,ground_truth}/<class>/*.png; every test image that is not in `good` has one mask, in the same
order when both are sorted, and the mask's name holds the image's stem.
"""
import logging

import numpy as np
import pytest
from PIL import Image

from defect_lora.cables import draw_cable, write_cables
from defect_lora.dataset import DefectSpectrumDataset
from defect_lora.exports import export_set
from defect_lora.images import save_image

NAMES = ("good", "missing_cable", "poke insulation [2]")


@pytest.fixture
def generated(tmp_path):
    "A set as `generate` writes it."
    for name in NAMES:
        for i in range(2):
            save_image(draw_cable(name if " " not in name else "poke_insulation", i, size=64)[0], tmp_path / "generated" / name / f"{i:03d}.png", class_name=name, seed=i, model="tiny")
    (tmp_path / "generated" / "manifest.jsonl").write_text("{}\n")
    return tmp_path / "generated"


def test_torchvision_reads_folders(generated, tmp_path):
    from torchvision.datasets import ImageFolder

    found = ImageFolder(export_set(generated, tmp_path / "out"))
    assert found.classes == sorted(NAMES) and len(found) == 6 and found[0][0].size == (64, 64)


def test_datasets_reads_huggingface(generated, tmp_path):
    from datasets import load_dataset

    found = load_dataset("imagefolder", data_dir=str(export_set(generated, tmp_path / "out", "huggingface")), cache_dir=str(tmp_path / "cache"))["train"]
    assert sorted(found["label"]) == sorted(NAMES * 2) and set(found["seed"]) == {0, 1} and found[0]["image"].size == (64, 64)


def test_anomalib_s_rules(tmp_path):
    source = write_cables(tmp_path / "cables", per_class=2, size=64)
    root = export_set(DefectSpectrumDataset(source), tmp_path / "out", "mvtec", category="cable", good=source) / "cable"
    images = sorted(path for path in (root / "test").rglob("*.png") if path.parent.name != "good")
    masks = sorted((root / "ground_truth").rglob("*.png"))
    assert len(images) == len(masks) == 16 and len(list((root / "train" / "good").glob("*.png"))) == 2
    for image, mask in zip(images, masks):
        assert image.stem in mask.stem and image.parent.name == mask.parent.name
        assert Image.open(image).size == Image.open(mask).size and np.asarray(Image.open(mask)).max() == 255


def test_a_set_without_masks_says_what_it_is_for(generated, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        export_set(generated, tmp_path / "out", "mvtec")
    assert "4 defect images have no mask" in caplog.text and not (tmp_path / "out" / "product" / "ground_truth").exists()
