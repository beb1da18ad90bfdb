"""Whatever lies on the disk is read rightly or refused in one line: damage of every reader's files, seeded, and properties of names, sizes,
modes, masks and class mixes."""

import copy
import io
import json
import random
import shutil
import string
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from defect_lora import DefectPipeline, DefectSpectrumDataset, TrainConfig
from defect_lora.data.dataset import fit_image, fit_mask
from defect_lora.data.files import InputError, check_names, path_inside
from defect_lora.data.images import open_image, open_mask, read_mask, read_provenance, save_image
from defect_lora.data.layouts import find_category, labelled_images, read_manifest, read_rejected
from defect_lora.evaluation.report import load_report
from defect_lora.generation.placement import dilate_mask
from defect_lora.model.base import load_base
from defect_lora.model.pipeline import read_config, read_training
from defect_lora.model.unet import ClassConditionedUNet, load_tensors
from defect_lora.training.checkpoints import last_checkpoint, load_checkpoint, save_checkpoint
from defect_lora.training.config import find_data

SECONDS = 2.0  # for each reader
ODD = [
    None,
    True,
    5,
    -1,
    10**400,
    1.5,
    float("nan"),
    "",
    "x",
    "../x",
    "/etc/passwd",
    "\ud800",
    "a\nb",
    "\0",
    [],
    [[]],
    {},
    {"a": {}},
    "x" * 5000,
]


def reads(function, *args):
    "What a reader gives, or the line in which it refuses; anything else is a fault."
    try:
        return function(*args)
    except InputError as error:
        assert str(error) and "\n" not in str(error), repr(str(error))
        return str(error)


def damaged(data, chance):
    "Bytes with some of them changed, lost, doubled or cut off."
    data, kind = bytearray(data), chance.randrange(5)
    for _ in range(chance.choice((1, 1, 3, 20))):
        at = chance.randrange(len(data) or 1)
        if kind == 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del data[at : at + chance.randrange(1, 30)]
        elif kind == 2:
            data[at:at] = data[at : at + 20]
        elif kind == 3:
            data[at:at] = chance.choice((b"\0", b"\xff\xfe", b"[" * 2000, b'"', b"{}", b"\n", b"NaN", b"9" * 5000))
        else:
            del data[at:]
    return bytes(data)


def altered(value, chance):
    "JSON with one thing in it replaced, lost or added, anywhere."
    value = copy.deepcopy(value)
    place = value
    while isinstance(place, (dict, list)) and place:
        key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not isinstance(place[key], (dict, list)) or not place[key] or chance.random() < 0.4:
            if chance.random() < 0.2:
                del place[key]
            else:
                place[key] = chance.choice(ODD)
            return value
        place = place[key]
    return chance.choice(ODD)


def texts(rows, chance):
    "A file of these rows, one of them altered, or its bytes damaged."
    rows = list(rows)
    if chance.random() < 0.6:
        at = chance.randrange(len(rows))
        rows[at] = altered(rows[at], chance)
        return "\n".join(map(json.dumps, rows)).encode()
    return damaged("\n".join(map(json.dumps, rows)).encode(), chance)


def for_a_while(seed, seconds=SECONDS):
    "Sources of chance, one after the other, the same each time, for as long as there is time."
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end and number < 3000:
        yield random.Random(f"{seed}/{number}")
        number += 1


# --- damage


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_images(kind, tmp_path):
    noise, buffer = np.random.default_rng(0).integers(0, 255, (13, 17, 3)).astype(np.uint8), io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    path = tmp_path / f"a.{kind.lower()}"
    for chance in for_a_while(kind, SECONDS / 3):
        path.write_bytes(damaged(buffer.getvalue(), chance))
        for read in (open_image, open_mask, read_provenance):
            reads(read, path)
        reads(read_mask, path, (17, 13))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("a.png", "b.png", "masks/b.png"):
        save_image(Image.new("RGB", (8, 8)), folder / name)
    return folder


def test_metadata(pictures):
    rows = [dict(file_name="a.png", label="good"), dict(file_name="b.png", label="bent", mask="masks/b.png")]
    for chance in for_a_while("metadata"):
        (pictures / "metadata.jsonl").write_bytes(texts(rows, chance))
        found = reads(find_category, pictures)
        for sample in getattr(found, "samples", []):
            assert pictures in sample.path.resolve().parents and (sample.mask is None or pictures in sample.mask.resolve().parents)
    (pictures / "metadata.jsonl").unlink()


def test_visa_table(tmp_path):
    for name in ("Normal/0.png", "Anomaly/1.png"):
        save_image(Image.new("RGB", (8, 8)), tmp_path / "Data" / "Images" / name)
    table = b'image,label,mask\npcb/Data/Images/Normal/0.png,normal,\npcb/Data/Images/Anomaly/1.png,"bent,scratch",\n'
    for chance in for_a_while("visa", 1):
        (tmp_path / "image_anno.csv").write_bytes(damaged(table, chance))
        reads(find_category, tmp_path)


def test_manifest(pictures):
    rows = [
        dict(file="a.png", class_name="good", seed=1),
        dict(file="b.png", mask="masks/b.png", class_name="bent", shard="shard-000000.tar"),
    ]
    for chance in for_a_while("manifest"):
        for name, read in (("manifest.jsonl", read_manifest), ("rejected.jsonl", read_rejected)):
            (pictures / name).write_bytes(texts(rows, chance))
            reads(read, pictures)
            (pictures / name).unlink()


def test_checkpoint(tmp_path):
    state = dict(config={}, classes=["a"], scaler={}, overflows=0)
    whole = save_checkpoint(tmp_path / "checkpoints", 3, {"model": {"w": torch.ones(4)}}, state, texts={"metrics.jsonl": "{}\n"})
    kept = {path: path.read_bytes() for path in whole.iterdir()}
    for chance in for_a_while("checkpoint"):
        path = chance.choice(sorted(kept))
        path.unlink() if chance.random() < 0.1 else path.write_bytes(damaged(kept[path], chance))
        if not isinstance(found := reads(load_checkpoint, whole), str):
            assert torch.equal(found[0]["model"]["w"], torch.ones(4))  # the damage was none
        reads(last_checkpoint, tmp_path / "checkpoints")
        path.write_bytes(kept[path])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, base = tmp_path_factory.mktemp("run"), load_base("tiny")
    pipe = DefectPipeline(ClassConditionedUNet(base.unet, 2, rank=2).eval(), base.vae, base.scheduler, ["bent", "good"], base.name, size=64)
    pipe.save_pretrained(folder / "model")
    TrainConfig.from_recipe("tuned", base="tiny", data="photographs").save(folder / "config.json")
    return folder


def test_configurations(run):
    files = {
        run / "model" / "config.json": lambda: reads(read_config, run / "model" / "config.json"),
        run / "config.json": lambda: reads(read_training, run / "model"),
    }
    kept = {path: path.read_text() for path in files}
    for chance in for_a_while("configurations"):
        for path, read in files.items():
            path.write_bytes(texts([json.loads(kept[path])], chance))
            read()
            if path.parent == run and not isinstance(config := reads(TrainConfig.load, path), str):
                reads(find_data, config, run)
            path.write_text(kept[path])


def test_model_folder(run):
    kept = {path: path.read_bytes() for path in (run / "model").iterdir()}
    for chance in for_a_while("model", 2.5 * SECONDS):
        path = chance.choice([*sorted(kept), *[run / "model" / "config.json"] * 3])
        path.write_bytes(texts([json.loads(kept[path])], chance) if path.suffix == ".json" else damaged(kept[path], chance))
        reads(load_tensors, path)
        reads(DefectPipeline.from_pretrained, run)
        path.write_bytes(kept[path])


def test_report(tmp_path):
    report = dict(
        verdict="Good", notes=["a"], n_real=3, n_fake=3, per_class={"a": {}}, features="tiny", sections=[dict(title="t", key="k", notes=[])]
    )
    for chance in for_a_while("report", 1):
        (tmp_path / "report.json").write_bytes(texts([report], chance))
        reads(load_report, tmp_path)


# --- properties

SOME = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
NAMES = st.one_of(
    st.text(max_size=300),
    st.text(string.printable, min_size=1, max_size=12),
    st.sampled_from(["..", "con", "COM1.a", "a/b", "C:", "~", "ä" * 150, "good", "bent wire"]),
)


@SOME
@given(name=NAMES)
def test_a_name_names_one_folder_or_is_refused(name, tmp_path):
    if not isinstance(reads(check_names, [name], "metadata.jsonl"), str):
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        assert place.resolve().parent == tmp_path.resolve() and [path.name for path in tmp_path.iterdir()] == [name]
        shutil.rmtree(place)


@SOME
@given(entry=st.one_of(NAMES, st.lists(NAMES, max_size=4).map("/".join)))
def test_an_entry_is_inside_or_refused(entry, tmp_path):
    if not isinstance(found := reads(path_inside, tmp_path, entry, "manifest.jsonl: line 1"), str):
        assert tmp_path.resolve() in (found / "x").resolve().parents and not found.is_file()


@SOME
@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16"]),
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    seed=st.integers(0, 9),
    fit=st.sampled_from(["pad", "stretch", "crop"]),
)
def test_a_photograph_of_any_size_and_mode_is_read(mode, width, height, seed, fit, tmp_path):
    values = np.random.default_rng(seed).integers(0, 60_000, (height, width))
    image = {"F": values.astype(np.float32), "I": values.astype(np.int32), "I;16": values.astype(np.uint16)}.get(mode)
    image = Image.fromarray((values % 256).astype(np.uint8)).convert(mode) if image is None else Image.fromarray(image)
    path = tmp_path / "a.tif"
    image.save(path)
    found = open_image(path)
    assert found.mode == "RGB" and found.size == (width, height) and fit_image(found, 32, fit).size == (32, 32)
    assert open_mask(path).size == (width, height)


@SOME
@given(width=st.integers(1, 90), height=st.integers(1, 90), at=st.floats(0, 0.999), fit=st.sampled_from(["pad", "stretch"]))
def test_a_mask_is_never_lost(width, height, at, fit):
    mask = np.zeros((height, width), bool)
    mask[int(at * height), int((1 - at) * (width - 1))] = True
    assert fit_mask(mask, 16, fit).any() and (dilate_mask(mask) >= mask).all()


@settings(SOME, max_examples=15)
@given(mix=st.dictionaries(st.text("abAB", min_size=1, max_size=3), st.integers(1, 4), min_size=1, max_size=4), per_class=st.integers(1, 5))
def test_any_mix_of_classes_is_counted(mix, per_class, tmp_path):
    root = Path(tmp_path) / "mix"
    for name, count in mix.items():
        for number in range(count):
            save_image(Image.new("RGB", (4, 4)), root / name / f"{number}.png")
    twins = len({name.lower() for name in mix}) < len(mix)
    found = reads(DefectSpectrumDataset, root, None, per_class)
    assert twins == isinstance(found, str) == isinstance(reads(labelled_images, root), str)
    if not twins:
        assert found.counts() == {name: min(count, per_class) for name, count in mix.items()}
        assert len(found) + len(found.holdout()) == sum(mix.values())
    shutil.rmtree(root)
