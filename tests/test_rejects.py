"Rejected images leave a set with their masks and labels, and are not made again."

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from defect_lora.data.cables import write_cables
from defect_lora.data.images import open_image, png_bytes, save_image
from defect_lora.data.layouts import MASK_KEYS, find_category, read_manifest
from defect_lora.evaluation.curation import _Decision, curate, screen_images
from defect_lora.generation.image_set import PAIR_LAYOUTS, ImageSet, image_place, pair_place, with_rejected
from defect_lora.generation.sampling import _plan_images, fill_set

CLASSES = ["bent", "good"]


def image_set(out, layout=None, weights="w"):
    place = (lambda i: pair_place(layout, "part", CLASSES, 0, i)) if layout else (lambda i: image_place(i, "bent", i))
    rows = [place(i) | dict(class_name="bent", class_id=0, index=i, seed=i, model="tiny", weights=weights) for i in range(4)]
    return ImageSet(out, rows, 2, ["bent"] if layout else None)


def fill(images):
    "The numbers of the images that were made."
    made = []

    def make(rows):
        pixels, mask = np.zeros((8, 8, 3), np.uint8), np.eye(8, dtype=bool)
        made.extend(row["index"] for row in rows)
        return [(row, Image.fromarray(pixels + row["index"]), *([mask, mask] if images.defects else [])) for row in rows]

    fill_set(images, make, progress=False)
    return made


def reject(out, *numbers):
    paths = {sample.path for sample in find_category(out).samples}
    curate(out, [_Decision(path, "bent", ["unlike its class"] * (int(path.stem) in numbers), frozenset()) for path in sorted(paths)])


@pytest.mark.parametrize("layout", [None, *PAIR_LAYOUTS])
def test_rejects_leave_with_all_that_is_theirs(layout, tmp_path, caplog):
    out, aside = tmp_path / "set", tmp_path / "set_set_aside"
    assert fill(image_set(out, layout)) == [0, 1, 2, 3]
    reject(out, 1)
    reject(out, 2)
    with caplog.at_level("INFO", "defect_lora"):
        assert fill(image_set(out, layout)) == []  # nothing is missing
    assert "2 of 4 images are already there, 2 were taken out" in caplog.text
    assert sorted(int(sample.path.stem) for sample in find_category(out).samples) == [0, 3]
    assert sorted(row["index"] for row in read_manifest(out)) == [0, 3] and sorted(row["index"] for row in read_manifest(aside)) == [1, 2]
    if layout:
        for place in (out, aside):
            labels, rows = json.loads((place / "annotations.json").read_text()), read_manifest(place)
            assert [image["file_name"] for image in labels["images"]] == [row["file"] for row in rows]
            assert [label["image_id"] for label in labels["annotations"]] == [image["id"] for image in labels["images"]]
            masks = [place / row[key] for row in rows for key in MASK_KEYS if key in row]
            assert sorted(place.rglob("*_mask.png")) == sorted(masks) and len(masks) == 2 * (3 if layout == "ds-mvtec" else 2)


def test_what_is_moved_back_is_there_again_and_another_model_makes_its_own(tmp_path):
    out = tmp_path / "set"
    fill(image_set(out))
    reject(out, 1)
    (tmp_path / "set_set_aside" / "bent" / "001.png").rename(out / "bent" / "001.png")
    assert fill(image_set(out)) == [] and len(read_manifest(out)) == 4
    reject(out, 0, 1, 2) if not (tmp_path / "set_set_aside" / "bent" / "001.png").exists() else None
    (out / "bent" / "003.png").unlink()
    assert fill(image_set(out, weights="other")) == [0, 1, 2, 3]


def test_a_killed_process_leaves_nothing_for_long(tmp_path):
    left = tmp_path / "set" / "bent" / f".{'a' * 32}.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(png_bytes(Image.new("RGB", (8, 8))))
    program = (
        "import sys, time\nfrom defect_lora.data.files import whole_file\n"
        f"with whole_file({str(tmp_path / 'set' / 'bent' / 'x.txt')!r}):\n    print('at work', flush=True)\n    time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "at work\n"
    fill(image_set(tmp_path / "set"))
    assert not left.exists() and len(list(left.parent.glob(".*.tmp"))) == 1  # of the one that is at work
    other.kill()
    other.wait()
    time.sleep(0.1)
    fill(image_set(tmp_path / "set"))
    assert not list(left.parent.glob(".*.tmp"))


def test_a_set_is_topped_up_with_fresh_seeds(tmp_path):
    out = tmp_path / "set"

    def plan(count):
        return ImageSet(out, [row | dict(model="tiny", weights="w") for row in _plan_images(CLASSES, [0], [count], seed=0)], 2)

    assert fill(plan(4)) == [0, 1, 2, 3]
    reject(out, 1)
    assert fill(plan(4)) == [] and with_rejected(out, CLASSES, 4) == [5, 4]
    assert fill(plan(5)) == [4]
    reject(out, 3)
    reject(out, 4)
    assert with_rejected(out, CLASSES, 4) == [7, 4] and fill(plan(7)) and fill(plan(7)) == []
    kept = read_manifest(out)
    assert [row["index"] for row in kept] == [0, 2, 5, 6] and len({row["seed"] for row in kept}) == 4


def test_a_painted_defect_is_no_copy_of_the_good_part_that_it_lies_in(tmp_path):
    real = write_cables(tmp_path / "real", per_class=3, size=64)
    good = next(path for path in sorted(real.rglob("*.png")) if path.parent.name == "good" and path.parents[1].name == "image")
    for name, known in (("painted", dict(painted=True)), ("whole", {})):
        save_image(open_image(good), tmp_path / name / "bent_wire" / "000.png", **known)
        (decision,) = screen_images(real, tmp_path / name, "tiny")
        assert any("a copy of" in reason for reason in decision.reasons) == (name == "whole")
