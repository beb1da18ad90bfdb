"""Exported sets, read by the programs they are for.

anomalib is not installed here: its rules are those that it documents for `anomalib.data.datasets.image.mvtecad.make_mvtec_ad_dataset`:
<root>/<category>/{train,test,ground_truth}/<class>/*.png, no other suffix; every test image that is not in `good` has one mask; both
are sorted by path and paired in that order; and the mask's name must hold the image's stem.

Nor is ultralytics: its rules are those of `ultralytics.data.utils`: data.yaml with train, val and names; the labels of an image are where
the last /images/ of its path is /labels/ and its suffix .txt; a line is a class and a polygon in shares of width and height.
"""

import json
import logging

import numpy as np
import pytest
import yaml
from matplotlib.path import Path as Outline
from PIL import Image
from scipy import ndimage

from defect_lora.data.cables import render_cable, write_cables
from defect_lora.data.files import InputError
from defect_lora.data.dataset import DefectSpectrumDataset
from defect_lora.sharing.exports import export_set
from defect_lora.data.images import save_image

NAMES = ("good", "missing_cable", "poke insulation [2]")


@pytest.fixture
def generated(tmp_path):
    "A set as `generate` writes it."
    for name in NAMES:
        for i in range(2):
            save_image(
                render_cable(name if " " not in name else "poke_insulation", i, size=64)[0],
                tmp_path / "generated" / name / f"{i:03d}.png",
                class_name=name,
                seed=i,
                model="tiny",
            )
    (tmp_path / "generated" / "manifest.jsonl").write_text("{}\n")
    return tmp_path / "generated"


def test_torchvision_reads_folders(generated, tmp_path):
    from torchvision.datasets import ImageFolder

    found = ImageFolder(export_set(generated, tmp_path / "out"))
    assert found.classes == sorted(NAMES) and len(found) == 6 and found[0][0].size == (64, 64)


def test_datasets_reads_huggingface(generated, tmp_path):
    from datasets import load_dataset

    found = load_dataset(
        "imagefolder", data_dir=str(export_set(generated, tmp_path / "out", "huggingface")), cache_dir=str(tmp_path / "cache")
    )["train"]
    assert sorted(found["label"]) == sorted(NAMES * 2) and set(found["seed"]) == {0, 1} and found[0]["image"].size == (64, 64)


def test_anomalib_s_rules(tmp_path):
    source = write_cables(tmp_path / "cables", per_class=12, size=64)
    for folder in (tmp_path / "cables").rglob("missing_wire"):  # 1.png, 10.png, 11.png, 2.png: no mask may go to another's image
        for path in sorted(folder.glob("*.png")):
            path.rename(path.with_name(f"{int(path.name[:3])}{path.name[3:]}"))
    for path in sorted((tmp_path / "cables").rglob("image/good/*.png")):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    dataset = DefectSpectrumDataset(source, masks=True, size=64)
    root = export_set(dataset, tmp_path / "out", "mvtec", category="cable", good=source) / "cable"
    images = sorted(path for path in (root / "test").rglob("*.png") if path.parent.name != "good")
    masks = sorted((root / "ground_truth").rglob("*.png"))
    assert len(images) == len(masks) == 96 and len(list((root / "train" / "good").glob("*.png"))) == 12
    for image, mask in zip(images, masks):
        assert image.stem in mask.stem and image.parent.name == mask.parent.name
    ours = {Image.open(sample.path).tobytes(): np.asarray(Image.open(sample.mask)) > 0 for sample in dataset.samples if sample.mask}
    for image, mask in zip(images, masks):
        assert np.array_equal(np.asarray(Image.open(mask)), 255 * ours[Image.open(image).tobytes()])


def test_a_set_without_masks_says_what_it_is_for(generated, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        export_set(generated, tmp_path / "out", "mvtec")
    assert "4 defect images have no mask" in caplog.text and not (tmp_path / "out" / "product" / "ground_truth").exists()


def test_pycocotools_reads_coco(tmp_path):
    from pycocotools.coco import COCO

    real = DefectSpectrumDataset(write_cables(tmp_path / "real", per_class=2, size=64), size=64)
    out = export_set(real, tmp_path / "out", "coco")
    coco = COCO(out / "annotations.json")
    assert (
        len(coco.getImgIds()) == 18
        and len(coco.getAnnIds()) == 16
        and sorted(c["name"] for c in coco.loadCats(coco.getCatIds())) == [name for name in real.classes if name != "good"]
    )
    masks = {(out / real.classes[sample.label] / sample.path.name): real.mask(i) for i, sample in enumerate(real.samples)}
    for label in coco.loadAnns(coco.getAnnIds()):
        mask = masks[out / coco.loadImgs(label["image_id"])[0]["file_name"]]
        assert (coco.annToMask(label).astype(bool) == mask).all() and label["area"] == mask.sum()


def painted(folder, name, number, mask):
    "A pair in class folders, the mask beside the image."
    save_image(Image.new("RGB", mask.shape[::-1], (90 + number, 90, 90)), folder / name / f"{number}.png")
    save_image(Image.fromarray(np.uint8(255) * mask), folder / name / f"{number}_mask.png")


def read_yolo(root, part):
    "File name -> (class names, the pixels whose centres lie in a polygon)."
    data, found = yaml.safe_load((root / "data.yaml").read_text(encoding="utf-8")), {}
    for image in sorted((root / data[part]).glob("*.*")):
        before, after = str(image).rsplit("/images/", 1)
        with open(f"{before}/labels/{after.rsplit('.', 1)[0]}.txt") as file:
            rows = [line.split() for line in file]
        (width, height), names = Image.open(image).size, [data["names"][int(row[0])] for row in rows]
        polygons = [np.array(row[1:], float).reshape(-1, 2) for row in rows]
        assert all(len(polygon) >= 3 and polygon.min() >= 0 and polygon.max() <= 1 for polygon in polygons)
        centres = (np.mgrid[:width, :height].reshape(2, -1).T + 0.501) / (width, height)  # beside the slits
        inside = [Outline(polygon).contains_points(centres).reshape(width, height).T for polygon in polygons]
        found[image.name] = names, np.any([np.zeros((height, width), bool), *inside], axis=0)
    return found


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("turned", [3, 6])
def test_photographs_that_exif_turns_fit_their_masks(suffix, turned, tmp_path):
    "The photograph lies on its side in the file, the mask was drawn upright: they fit in every layout, for who reads pixels alone."
    upright, mask = (Image.new("L", (48, 32), level) for level in (200, 0))
    for image, level in ((upright, 20), (mask, 255)):
        image.paste(level, (4, 3, 20, 11))
    turn_back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[turned]
    exif, data = Image.Exif(), tmp_path / "data"
    exif[0x0112] = turned
    for place in ("image/dent", "mask/dent"):
        (data / place).mkdir(parents=True)
    upright.transpose(turn_back).save(data / f"image/dent/0.{suffix}", exif=exif, quality=95)
    mask.save(data / "mask/dent/0_mask.png")
    for layout in ("mvtec", "coco", "yolo", "folders"):
        out = export_set(data, tmp_path / layout, layout)
        with Image.open(
            next(p for p in out.rglob(f"*.{suffix if layout in ('coco', 'folders') else 'png'}") if "mask" not in p.name)
        ) as image:
            assert image.size == (48, 32) and image.mode == "L" and not image.getexif().get(0x0112)
            assert ((np.asarray(image) < 110) == (np.asarray(mask) > 0)).mean() > 0.97
    (row,) = json.loads((tmp_path / "coco/annotations.json").read_text())["annotations"]
    assert row["bbox"] == [4, 3, 16, 8]


def test_yolo_s_rules(tmp_path):
    "Several parts, holes in them, a part in a hole, thin lines, edges of the image, and names with odd characters."
    y, x = np.mgrid[:48, :64]
    far = np.hypot(y - 24, x - 30)
    masks = {
        "images": (abs(far - 14) < 4) | (far < 3) | (x > 60),
        "Kratzer – größer, 100% [2]": (abs(x - y) == 0) | ((y == 40) & (x > 50)),
        "'it''s' #1 \N{HAMMER}": (x < 40) & ~((x % 8 > 3) & (y % 8 > 3)),
    }
    for name, mask in masks.items():
        painted(tmp_path / "set", name, 0, mask)
    save_image(Image.new("RGB", (64, 48)), tmp_path / "set" / "good" / "0.png")
    out = export_set(tmp_path / "set", tmp_path / "images" / "out", "yolo")
    found = read_yolo(out, "train")
    assert found.keys() == read_yolo(out, "val").keys() and len(found) == 4 and not found["good_000.png"][0]
    for name, mask in masks.items():
        names, again = found[f"{name}_000.png"]
        assert names == [name] * ndimage.label(mask, np.ones((3, 3)))[1] and (again & mask).sum() / (again | mask).sum() > 0.99


def test_yolo_s_split_is_the_set_s(tmp_path):
    mask = np.pad(np.ones((4, 4), bool), 8)
    for part, count in dict(train=3, test=2).items():
        for number in range(count):
            painted(tmp_path / "set" / part, "dent", number, mask)
    out = export_set(tmp_path / "set", tmp_path / "out", "yolo")
    assert [len(read_yolo(out, part)) for part in ("train", "val")] == [3, 2]


def test_yolo_without_masks_is_refused(generated, tmp_path):
    painted(tmp_path / "empty", "dent", 0, np.zeros((8, 8), bool))
    for source, said in ((generated, "^4 defect images have no mask, .* --pairs"), (tmp_path / "empty", "0_mask.png: .* draw the mask$")):
        with pytest.raises(InputError, match=said):
            export_set(source, tmp_path / "out", "yolo")
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_is_said(generated, tmp_path, caplog):
    "Folders deeper than classes are; a class that is named as masks are is refused."
    for place in ("good/inner", "good/inner/deeper"):
        save_image(render_cable("good", 9, size=64)[0], generated / place / "009.png")
    with caplog.at_level(logging.WARNING):
        export_set(generated, tmp_path / "out")
    assert "2 images below" in caplog.text and "good/inner/009.png" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        export_set(write_cables(tmp_path / "cables", per_class=1, size=64), tmp_path / "cables out", "mvtec")
    assert "left out, such as" not in caplog.text
    save_image(render_cable("good", 9, size=64)[0], generated / "mask" / "009.png")
    with pytest.raises(InputError, match="mask: a folder of this name is for masks"):
        export_set(generated, tmp_path / "out again")


def test_a_link_stays_a_link(generated, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    export_set(generated, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "good" / "000.png").exists()
