"Masks and pixels that were silently absent: read, or said in one line."

import json
import logging

import numpy as np
import pytest
from PIL import Image

from defect_lora.cli import main
from defect_lora.data import images
from defect_lora.data.files import InputError
from defect_lora.data.images import open_image
from defect_lora.data.layouts import find_category, labelled_images


def photograph(path, mode="RGB", level=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 8), level if mode == "L" else (level,) * 3).save(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "BMP", "tif", "jpg", "webp"])
@pytest.mark.parametrize("layout", ["ds-mvtec", "mvtec", "visa", "masks", "class_mask"])
def test_masks_of_any_format_are_read(suffix, layout, tmp_path):
    image, mask = {
        "ds-mvtec": ("image/bent/0.png", "mask/bent/0_mask"),
        "mvtec": ("test/bent/0.png", "ground_truth/bent/0_mask"),
        "visa": ("Data/Images/bent/0.png", "Data/Masks/bent/0"),
        "masks": ("bent/0.png", "masks/bent/0"),
        "class_mask": ("bent/0.png", "bent_mask/0"),
    }[layout]
    photograph(tmp_path / image)
    photograph(tmp_path / f"{mask}.{suffix}", "L", 255)
    found = find_category(tmp_path)
    assert found.classes == ["bent"] and [sample.mask for sample in found.samples] == [tmp_path / f"{mask}.{suffix}"]
    assert found.samples[0].open_mask().all()


def test_folders_of_masks_are_no_classes(tmp_path):
    for name in ("good", "bent", "solder_mask"):  # the last is a defect: there is no class solder
        photograph(tmp_path / name / "0.png")
    for name in ("masks/bent", "Mask/bent", "bent_mask", "good_masks"):
        photograph(tmp_path / name / "0.png", "L", 255)
    assert find_category(tmp_path).classes == sorted(set(labelled_images(tmp_path)[1])) == ["bent", "good", "solder_mask"]


def train(data, out, *more):
    small = ["--base", "tiny", "--size", "64", "--epochs", "3", "--sample-every", "0", "--evaluate-every", "0", "--per-class", "1"]
    return main(["train", "--data", str(data), "--out", str(out), *small, *more])


def test_a_mask_weight_without_masks_is_refused(tmp_path, capsys):
    for name in ("good", "bent"):
        photograph(tmp_path / "data" / name / "0.png")
    assert train(tmp_path / "data", tmp_path / "run", "--mask-weight", "8") == 2
    said = capsys.readouterr().err
    assert "has no masks" in said and "mask_weight of 1" in said and said.count("\n") == 1 and not (tmp_path / "run").exists()


def test_masks_that_are_missing_are_counted(tmp_path, caplog):
    from defect_lora import DefectSpectrumDataset, TrainConfig
    from defect_lora.training.trainer import _check_masks

    for number in (0, 1):
        photograph(tmp_path / "image/bent" / f"{number}.png")
    photograph(tmp_path / "mask/bent/0_mask.bmp", "L", 255)
    with caplog.at_level(logging.WARNING):
        _check_masks(DefectSpectrumDataset(tmp_path), TrainConfig(mask_weight=8.0, data=str(tmp_path)))
    assert "1 of 2 defect images" in caplog.text


@pytest.mark.parametrize("mask", [5, True, ["a"], {"a": 1}, "../m.png", "gone.png"])
def test_a_mask_that_is_no_file_is_one_line(mask, tmp_path, capsys):
    photograph(tmp_path / "data" / "a.png")
    (tmp_path / "data" / "metadata.jsonl").write_text(json.dumps(dict(file_name="a.png", label="bent", mask=mask)))
    assert train(tmp_path / "data", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert "metadata.jsonl: line 1" in said and said.count("\n") == 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_camera_of_fewer_bits_is_not_black(bits, tmp_path, caplog):
    images._say_bits.cache_clear()
    values = np.linspace(0, 2**bits - 1, 64).astype(np.uint16).reshape(8, 8)
    for name in ("a.png", "b.png"):
        Image.fromarray(values).save(tmp_path / name)
    with caplog.at_level(logging.WARNING):
        read = [np.asarray(open_image(tmp_path / name)) for name in ("a.png", "b.png")]
    assert read[0].max() == 255 and (read[0] == read[1]).all() and abs(int(read[0][4, 0, 0]) - 130) < 3
    assert len(caplog.records) == (bits < 16)  # once


def test_a_colour_camera_of_fewer_bits_is_one_line(tmp_path):
    import zlib

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    def write(name, level):  # Pillow writes no colour of 16 bits
        head = (8).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
        rows = (b"\0" + level.to_bytes(2, "big") * 24) * 8
        (tmp_path / name).write_bytes(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        )
        return tmp_path / name

    assert open_image(write("full.png", 40_000)).getpixel((0, 0)) == (156,) * 3
    with pytest.raises(InputError, match="12.png: .*12 or fewer"):
        open_image(write("12.png", 4000))
