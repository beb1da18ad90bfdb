"What lies in a user's folders: parts for testing stay held out, masks are no photographs, the few that are learned from are varied."

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from defect_lora.cli import Evaluate, Pairs, _check_real_masks, _check_segmenter, _real_images, main
from defect_lora.data.cables import render_bundle, render_cable, sample_bundle
from defect_lora.data.dataset import DefectSpectrumDataset
from defect_lora.data.files import InputError
from defect_lora.data.images import save_image
from defect_lora.data.layouts import find_category, find_good_parts, labelled_images
from defect_lora.data.overview import alike_lines, overview
from defect_lora.evaluation.evaluator import Evaluator, read_sets
from defect_lora.generation.placement import Places
from defect_lora.sharing.exports import export_set
from defect_lora.training.config import TrainConfig, find_masks_of_run, note_data_places
from defect_lora.training.run_folder import as_begun, list_images, open_photographs
from defect_lora.usefulness.judging import choose_judges


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


def save_mask(path, kind="bent_wire", number=0, size=32):
    path.parent.mkdir(parents=True, exist_ok=True)
    render_cable(kind, number, size)[1].save(path)


def test_a_mask_in_the_folder_of_its_photograph_is_no_photograph(tmp_path):
    "As the magnetic tiles are downloaded; and a photograph that is there as PNG too is one."
    for i in range(3):
        photograph(tmp_path / "MT_Crack" / f"{i}.jpg", "bent_wire", i)
        save_mask(tmp_path / "MT_Crack" / f"{i}.png", number=i)
    photograph(tmp_path / "MT_Free" / "0.png")
    photograph(tmp_path / "MT_Break" / "0.png", "bent_wire")
    save_mask(tmp_path / "MT_Break" / "0_mask.png")
    found = find_category(tmp_path)
    assert [(s.path.name, s.mask and s.mask.name) for s in found.samples] == [
        ("0.png", "0_mask.png"),
        *((f"{i}.jpg", f"{i}.png") for i in range(3)),
        ("0.png", None),
    ]
    assert len(labelled_images(tmp_path)[0]) == 5 and found.samples[1].open_mask().any()


def test_masks_with_soft_edges_beside_their_photographs(tmp_path):
    "As those of the magnetic tiles are, with up to 185 levels; a dark photograph that is there twice is no mask."
    photograph(tmp_path / "MT_Crack/0.jpg", "bent_wire", size=64)
    mask = render_cable("bent_wire", 0, 256)[1].resize((64, 64), Image.BICUBIC)
    mask.save(tmp_path / "MT_Crack/0.png")
    assert len(set(mask.getdata())) > 8
    dark = render_cable("good", 0, 64)[0].point(lambda level: level * 0.1)
    for name in ("1.jpg", "1.png"):
        dark.save(tmp_path / "MT_Crack" / name)
    found = find_category(tmp_path).samples
    assert [(s.path.name, s.mask and s.mask.name) for s in found] == [("0.jpg", "0.png"), ("1.jpg", None), ("1.png", None)]


def test_masks_elsewhere_are_found(tmp_path):
    for i in range(2):
        photograph(tmp_path / "data/dent" / f"{i}.png", "bent_wire", i)
        save_mask(tmp_path / "labels/dent" / f"{i}.png", number=i)
    photograph(tmp_path / "data/good/0.png")
    dataset = DefectSpectrumDataset(tmp_path / "data", masks_in=tmp_path / "labels", masks=True)
    assert [s.mask and s.mask.parent.parent.name for s in dataset.samples] == ["labels", "labels", None]
    save_mask(tmp_path / "others/tile/0.png")
    with pytest.raises(InputError, match="has no mask of the images"):
        DefectSpectrumDataset(tmp_path / "data", masks_in=tmp_path / "others")


def test_photographs_in_a_folder_inside_their_class(tmp_path):
    "As the magnetic tiles are downloaded."
    for kind in ("MT_Crack", "MT_Free"):
        for i in range(2):
            photograph(tmp_path / kind / "Imgs" / f"{i}.jpg", "bent_wire" if kind == "MT_Crack" else "good", i)
    save_mask(tmp_path / "MT_Crack/Imgs/0.png")
    dataset = DefectSpectrumDataset(tmp_path)
    assert dataset.classes == ["MT_Crack", "MT_Free"] and [s.mask and s.mask.name for s in dataset.samples] == ["0.png", None, None, None]
    (tmp_path / "MT_Free/Imgs").rename(tmp_path / "MT_Free/others")
    with pytest.raises(InputError):
        DefectSpectrumDataset(tmp_path)


def test_pairs_take_masks_from_elsewhere(tmp_path):
    photograph(tmp_path / "data/dent/0.png", "bent_wire")
    photograph(tmp_path / "data/good/0.png")
    save_mask(tmp_path / "labels/dent/0.png")
    run, data, masks = tmp_path / "run", str(tmp_path / "data"), str(tmp_path / "labels")
    with pytest.raises(InputError, match="no masks beside the photographs; give their folder as --masks"):
        _check_real_masks(run, Pairs(pairs=True, real=data))
    (run / "model").mkdir(parents=True)
    for noted, pairs in (
        (None, Pairs(pairs=True, real=data, masks=masks)),
        (masks, Pairs(pairs=True)),
        (None, Pairs(pairs=True, masks=masks)),
    ):
        note_data_places(TrainConfig(data=data, masks=noted), run).save(run / "config.json")
        _check_real_masks(run, pairs)
        assert [s.mask and s.mask.parent.parent.name for s in _real_images(run, pairs, ["dent", "good"]).samples] == ["labels", None]


def test_pairs_are_judged_by_masks_from_elsewhere(tmp_path, capsys):
    "Those given, else those that the run was given with the same photographs."
    for i in range(6):
        photograph(tmp_path / "data/dent" / f"{i}.png", "bent_wire", i, 64)
        save_mask(tmp_path / "labels/dent" / f"{i}.png", number=i, size=64)
        image, _ = render_cable("bent_wire", 50 + i, 64)
        save_image(image, tmp_path / "pairs/image/dent" / f"{i}.png", painted=True)
        save_mask(tmp_path / "pairs/mask/dent" / f"{i}_mask.png", number=50 + i, size=64)
    folders = {f"--{key}": str(tmp_path / place) for key, place in dict(real="data", fake="pairs", out="report").items()}
    judge = ["evaluate", *sum(folders.items(), ()), "--features", "tiny"]
    assert main([*judge, "--masks", str(tmp_path / "labels")]) == 0
    assert json.loads((tmp_path / "report/report.json").read_text())["painted"]["dent"]["n_fake"] == 6
    assert main([*judge, "--masks", str(tmp_path / "nowhere")]) == 2 and "--masks is a folder" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    note_data_places(TrainConfig(data=folders["--real"], masks=str(tmp_path / "labels")), tmp_path / "run").save(
        tmp_path / "run/config.json"
    )
    for real, masks in (("data", str(tmp_path / "labels")), ("pairs", None)):
        assert find_masks_of_run(tmp_path / "run", tmp_path / real) == masks
    _check_segmenter(Evaluate(folders["--real"], folders["--fake"], "out", masks=str(tmp_path / "labels")))
    with pytest.raises(InputError, match="those of --real also as --masks"):
        _check_segmenter(Evaluate(folders["--real"], folders["--fake"], "out"))


def test_places_of_tall_parts_are_found_on_wide_ones(tmp_path):
    "Tiles of all shapes fill their photographs: what lies near the end of a tall one lies outside of a wide one."
    rng = np.random.default_rng(0)

    def tile(path, width, height):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.normal(90, 12, (height, width)).clip(0, 255).astype(np.uint8)).save(path)
        return path

    for i in range(3):
        tile(tmp_path / "data/hole" / f"{i}.png", 60, 240)
        mask = Image.new("L", (60, 240))
        mask.paste(255, (20, 215 + i, 32, 230 + i))
        (tmp_path / "data/masks/hole").mkdir(parents=True, exist_ok=True)
        mask.save(tmp_path / "data/masks/hole" / f"{i}.png")
    good = [tile(tmp_path / "good" / f"{i}.png", 240, 60) for i in range(3)]
    places = Places(good, DefectSpectrumDataset(tmp_path / "data", size=64))
    for seed in range(4):
        mask = places("hole", Image.open(good[0]).convert("RGB"), np.random.default_rng(seed))
        assert 60 < mask.sum() < 900  # the real ones have 180 pixels


def test_a_class_whose_photographs_are_alike_is_named(tmp_path):
    "One cable at five exposures, five cables that lie as one does, and two classes of others."
    held = sample_bundle(Fixture(0))
    for i in range(5):
        one, alike = (render_bundle(held, np.random.default_rng(seed), 96)[0] for seed in (0, i))
        photographs = dict(one=one.point(lambda level, by=1 - i / 10: level * by), alike=alike)
        photographs |= {kind: render_cable(kind, i, 96)[0] for kind in ("bent_wire", "good")}
        for name, seen in photographs.items():
            (tmp_path / name).mkdir(exist_ok=True)
            seen.save(tmp_path / name / f"{i}.png")
    part, differ = alike_lines(DefectSpectrumDataset(tmp_path))
    assert part == "one: the 5 photographs that are learned from show 1 part: expect copies of it"
    assert differ.startswith("alike: the 5 photographs that are learned from are alike (they differ by ")


def test_a_class_of_masks_is_refused(tmp_path):
    photograph(tmp_path / "dent/0.png", "bent_wire")
    save_mask(tmp_path / "dent_gt/0.png")
    with pytest.raises(InputError, match="dent_gt holds masks"):
        DefectSpectrumDataset(tmp_path)
    (tmp_path / "dent_gt").rename(tmp_path / "dent_mask")
    assert DefectSpectrumDataset(tmp_path).classes == ["dent"]


@pytest.fixture
def split(tmp_path):
    "Two photographs of good parts and two of a defect in each part, of the same names."
    for at, part in enumerate(("train", "test")):
        for i in range(2):
            for kind in ("good", "bent_wire"):
                photograph(tmp_path / "split" / part / kind / f"{i}.png", kind, i + 5 * at)
    return tmp_path / "split"


def test_a_split_is_judged_by_what_is_for_testing(split, tmp_path, caplog):
    photograph(tmp_path / "fake/bent_wire/0.png", "bent_wire", 7)
    list_images(tmp_path / "run", DefectSpectrumDataset(split))
    for run in (None, tmp_path / "run"):
        real, said = choose_judges(split, run)
        assert parts(read_sets(real, tmp_path / "fake").real) == ["test"] * 4 and not said
    assert parts(read_sets(split, tmp_path / "fake").real) == ["test"] * 4
    shutil.copy(split / "train/good/0.png", split / "test/good/seen.png")
    real, said = choose_judges(split, tmp_path / "run")  # too few others
    assert parts(s.path for s in real.samples) == ["test"] * 5 and "1 of 5 real photographs" in said[0]
    assert not caplog.records
    photograph(split / "train/broken/0.png")
    assert len(read_sets(split, tmp_path / "fake").real) == 6 and "nothing of broken is for testing" in caplog.text
    for real in (split, choose_judges(split)[0]):
        assert Evaluator(real, tmp_path / "fake", "tiny").notes[0].startswith("Nothing of broken is kept for testing")
    shutil.rmtree(split / "train/broken")
    assert not any("kept for testing" in note for note in Evaluator(split, tmp_path / "fake", "tiny").notes)


def masks_of(dataset):
    return {"/".join(s.path.parts[-3:]): s.mask for s in dataset.samples + dataset.rest if s.mask}


def test_a_train_that_holds_defects_is_learned_from(split, caplog):
    save_mask(split / "ground_truth/bent_wire/5_mask.png")
    photograph(split / "test/bent_wire/5.png", "bent_wire", 9)
    dataset = DefectSpectrumDataset(split)
    assert parts(s.path for s in dataset.samples) == ["train"] * 4 and list(masks_of(dataset)) == ["test/bent_wire/5.png"]


def test_a_mask_that_fits_two_photographs_is_nobodys(split, tmp_path, caplog):
    photograph(split / "train/bent_wire/only.png", "bent_wire", 9)
    for name in ("0", "only"):
        save_mask(tmp_path / "labels/bent_wire" / f"{name}.png")
    assert list(masks_of(DefectSpectrumDataset(split, masks_in=tmp_path / "labels"))) == ["train/bent_wire/only.png"]
    assert "fit photographs of several folders are left out: 1," in caplog.text


@pytest.mark.parametrize("inside", [True, False])
def test_masks_sorted_as_the_split_are_found(inside, split, tmp_path):
    place = split / "masks" if inside else tmp_path / "labels"
    for part in ("train", "test"):
        save_mask(place / part / "bent_wire/0.png")
    found = masks_of(DefectSpectrumDataset(split, masks_in=None if inside else place))
    assert found == {f"{part}/bent_wire/0.png": place / part / "bent_wire/0.png" for part in ("train", "test")}


def test_photographs_are_not_their_own_masks(split):
    for data, place in ((split, split), (split / "train", split / "train"), (split / "train/", split / "train/bent_wire")):
        with pytest.raises(InputError, match="the photographs themselves"):
            DefectSpectrumDataset(data, masks_in=place)


def test_every_mask_beside_a_photograph_is_withheld(tmp_path):
    photograph(tmp_path / "dent/0.png", "bent_wire")
    save_mask(tmp_path / "dent/0_mask.png")
    photograph(tmp_path / "dent/0_rgb_mask.png", "bent_wire", 3)
    assert [s.path.name for s in find_category(tmp_path).samples] == ["0.png"]


def test_a_class_named_mask_is_no_folder_of_masks(tmp_path):
    for name in ("good", "mask"):
        photograph(tmp_path / name / "0.png", "bent_wire")
    with pytest.raises(InputError, match="mask: .*holds photographs; rename it, such as mask_defect"):
        find_category(tmp_path)
    mask = render_cable("bent_wire", 0, 32)[1]
    masks = {"png": Image.merge("RGB", [mask, mask.point(lambda v: v // 2), mask]), "jpg": mask}  # in colour, and blurred
    for suffix, image in masks.items():
        shutil.rmtree(tmp_path / "mask")
        (tmp_path / "mask").mkdir()
        image.save(tmp_path / "mask" / f"0.{suffix}")
        assert find_category(tmp_path).samples[0].mask


def test_a_class_for_testing_alone_is_odd(split):
    photograph(split / "test/scratch/0.png", "bent_wire")
    assert any(line.startswith("odd: scratch: what is learned from is for testing") for line in overview(DefectSpectrumDataset(split)))


def test_parts_of_a_split_in_capitals_and_of_other_names(split):
    for part in ("train", "test"):
        (split / part).rename(split / part.title())
    dataset = DefectSpectrumDataset(split)
    assert dataset.layout == "train and test" and parts(s.path for s in dataset.samples) == ["Train"] * 4
    (split / "Test").rename(split / "testing")
    with pytest.raises(InputError, match="the parts of a split are named train, test, val"):
        DefectSpectrumDataset(split)


def test_masks_move_with_their_photographs(split, tmp_path):
    save_mask(tmp_path / "labels/train/bent_wire/0.png")
    run = tmp_path / "run"
    noted = note_data_places(TrainConfig(data=str(split), masks=str(tmp_path / "labels")), run)
    (tmp_path / "moved").mkdir()
    for name in ("split", "labels"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert list(masks_of(open_photographs(noted, tmp_path / "moved/run"))) == ["train/bent_wire/0.png"]


@pytest.fixture
def exposures(tmp_path):
    "Twelve dark cables, then four of the same at another exposure, then eight bright ones."
    for i in range(24):
        number, level = (i - 12, 0.6) if 12 <= i < 16 else (i, 0.4 if i < 12 else 1)
        pixels = np.asarray(render_cable("bent_wire", number, 64)[0]) * level
        path = tmp_path / "tiles" / "dent" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return tmp_path / "tiles"


def numbers(samples):
    return [int(sample.path.stem) for sample in samples]


def test_the_few_are_varied_and_no_twin_is_on_both_sides(exposures):
    by_name, varied = (DefectSpectrumDataset(exposures, per_class=8, choose=how) for how in ("name", "variety"))
    assert numbers(by_name.samples) == list(range(8)) and set(numbers(by_name.twins())) == {12, 13, 14, 15}

    def brightness(samples):
        return np.mean([np.asarray(sample.open()).mean() for sample in samples])

    everything = brightness(by_name.samples + by_name.rest)
    off = [abs(brightness(dataset.samples) - everything) for dataset in (by_name, varied)]
    assert off[1] < off[0] / 3 and any(i >= 16 for i in numbers(varied.samples)) and any(i < 12 for i in numbers(varied.samples))
    assert numbers(varied.samples) == numbers(DefectSpectrumDataset(exposures, per_class=8, choose="variety").samples)
    for dataset in (by_name, varied):
        picked, held_out = ({i - 12 if 12 <= i < 16 else i for i in numbers(part.samples)} for part in (dataset, dataset.holdout()))
        assert len(picked) == 8 and held_out and not picked & held_out


def test_what_is_tiny_or_like_a_mask_is_chosen_last(tmp_path):
    "It is the most unlike the others, and variety would take it first."
    for i in range(6):
        photograph(tmp_path / "dent" / f"{i}.png", "bent_wire", i, 64)
    Image.new("RGB", (1, 1), "white").save(tmp_path / "dent" / "0_tiny.png")
    Image.fromarray(np.uint8(255) * (np.arange(64) % 9 < 4) * np.ones((64, 1), np.uint8)).save(tmp_path / "dent" / "0_levels.png")
    few, most = (DefectSpectrumDataset(tmp_path, per_class=n, choose="variety") for n in (4, 7))
    assert not any("_" in sample.path.stem for sample in few.samples) and len(few) == 4
    assert sum("_" in sample.path.stem for sample in most.samples) == 1


class Fixture:
    "Chance whose spread is small: parts lie nearly as the others do."

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def normal(self, mean=0, deviation=1, size=None):
        return mean + self.rng.normal(0, deviation / 10, size)

    def __getattr__(self, name):
        return getattr(self.rng, name)


@pytest.mark.parametrize("cameras", [2, 4])
def test_parts_before_a_few_fixed_cameras_are_no_twins(cameras, tmp_path):
    "Different cables in a fixture, and one of each camera's at another exposure too."
    ways = [(1, 0, 0, 0, 1, 0), (0, 1.5, -20, -1.5, 0, 180), (1.4, 0, -40, 0, 1.4, -10), (-0.8, 0, 120, 0, -0.8, 110)]
    for i in range(24):
        image, _ = render_bundle(sample_bundle(Fixture(i)), np.random.default_rng(i), 128)
        seen = image.transform(image.size, Image.AFFINE, ways[i % cameras], Image.BICUBIC, fillcolor=(68, 92, 125))
        (tmp_path / "good").mkdir(exist_ok=True)
        seen.save(tmp_path / "good" / f"{i:02d}.png")
        if i < cameras:
            seen.point(lambda level: level * 0.7).save(tmp_path / "good" / f"{i + 50}.png")
    dataset = DefectSpectrumDataset(tmp_path, choose="variety", per_class=8)
    samples = dataset.samples + dataset.rest
    part_of = dict(zip((sample.path.stem for sample in samples), dataset.parts(samples).tolist(), strict=True))
    assert len(set(part_of.values())) >= 24 - 3 and all(part_of[f"{i:02d}"] == part_of[f"{i + 50}"] for i in range(cameras))
    assert len({int(s.path.stem) % 50 % cameras for s in dataset.samples}) == cameras and len(dataset.holdout()) >= 12


def test_a_run_goes_on_with_what_it_chose(exposures, mvtec, tmp_path):
    config, run = TrainConfig(data=str(exposures), per_class=8), tmp_path / "run"
    begun = open_photographs(config, run, exposures)
    list_images(run, begun)
    for path in list((exposures / "dent").iterdir()):  # more come in front of them, and between
        Image.open(path).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(path.with_name(f"0{path.name}"))
    assert numbers(open_photographs(config, run, exposures).samples) == numbers(begun.samples)


def test_a_run_of_an_earlier_version_keeps_the_first_by_name(exposures, mvtec, tmp_path):
    values = vars(TrainConfig(data=str(exposures), per_class=8))
    values = {name: value for name, value in values.items() if name not in ("choose", "phases")}
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(json.dumps(values))
    old = as_begun(TrainConfig(data=str(exposures), per_class=8), tmp_path / "run")
    dataset = open_photographs(old, tmp_path / "run", exposures)
    assert old.choose == "earlier" and numbers(dataset.samples) == list(range(8))
    assert numbers(dataset.holdout().samples) == list(range(8, 24))
    assert good_of(DefectSpectrumDataset(mvtec, choose="earlier")) == ["test"] * 2


SMALL = "--base tiny --size 64 --epochs 1 --per-class 2 --sample-every 0 --evaluate-every 0 --gradient-accumulation-steps 1".split()


def test_a_dry_run_says_what_would_be_learned_from(mvtec, tmp_path, capsys):
    assert main(["train", "--data", str(mvtec), "--out", str(tmp_path / "run"), "--dry-run", "--per-class", "1"]) == 0
    said = capsys.readouterr().out
    assert "5 photographs" not in said and "7 photographs of 2 classes; 2 are learned from, chosen by variety" in said
    assert "good parts: 5; 2 for testing are neither learned from nor painted into" in said and not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train --data {} --base tiny", "export --fake {}", "evaluate --real {} --fake {}/../fake"])
def test_what_is_written_does_not_join_what_is_read(command, mvtec, tmp_path, capsys):
    photograph(tmp_path / "fake/good/0.png")
    for out in (mvtec / "new" / "out", mvtec):
        before = sorted(mvtec.rglob("*"))
        assert main([*command.format(mvtec, mvtec).split(), "--out", str(out)]) == 2
        assert "--out" in capsys.readouterr().err and sorted(mvtec.rglob("*")) == before
    if command.startswith("train"):
        assert main([*command.format(mvtec).split(), "--out", str(tmp_path / "run"), "--backup", str(mvtec / "copy"), "--dry-run"]) == 2
        assert "--backup lies inside --data" in capsys.readouterr().err


@pytest.fixture(scope="module")
def one_class(tmp_path_factory):
    "A run on two of eight photographs of one defect."
    folder = tmp_path_factory.mktemp("one")
    for i in range(8):
        photograph(folder / "data/dent" / f"{i}.png", "bent_wire", i, 64)
        save_mask(folder / "data/masks" / f"{i}.png", number=i, size=64)
        photograph(folder / "good" / f"{i}.png", number=i, size=64)
    assert main(["train", "--data", str(folder / "data"), "--out", str(folder / "run"), *SMALL]) == 0
    return folder


def test_one_class_goes_the_whole_way(one_class, tmp_path, capsys):
    generate = ["generate", "--run", str(one_class / "run"), "--num-inference-steps", "1"]
    assert main([*generate, "--out", str(tmp_path / "set"), "--per-class", "6"]) == 0
    assert main([*generate, "--out", str(tmp_path / "pairs"), "--pairs", "--good", str(one_class / "good"), "--per-class", "1"]) == 0
    out, good = tmp_path / "mvtec", str(one_class / "good")
    chosen = [*generate, "--out", str(tmp_path / "chosen"), "--pairs", "--good", good, "--per-class", "3", "--tries", "2"]
    assert main(chosen) == 0
    rows = [json.loads(line) for line in (tmp_path / "chosen" / "manifest.jsonl").read_text().splitlines()]
    assert rows and all(row["own_class"] in (True, False) and row["tries"] <= row["most_tries"] == 2 for row in rows)
    assert len(json.loads((tmp_path / "chosen" / "curation.json").read_text())["real"]) == 2  # what the run learned from
    before = {path: path.read_bytes() for path in (tmp_path / "chosen").rglob("*") if path.is_file()}
    next((tmp_path / "chosen").rglob("image/dent/*.png")).unlink()
    assert main(chosen) == 0 and before == {path: path.read_bytes() for path in before}
    assert main(["export", "--fake", str(tmp_path / "pairs"), "--out", str(out), "--layout", "mvtec", "--good", good]) == 0
    assert len(list((out / "product/test/dent").iterdir())) == len(list((out / "product/ground_truth/dent").iterdir())) == 1
    assert main([*generate, "--out", str(one_class / "data/set"), "--per-class", "1"]) == 2  # in the folder of its photographs
    capsys.readouterr()
    judge = ["evaluate", "--real", str(one_class / "data"), "--fake", str(tmp_path / "set"), "--out", str(tmp_path / "report")]
    assert main([*judge, "--features", "tiny", "--run", str(one_class / "run")]) == 0
    assert json.loads((tmp_path / "report/report.json").read_text())["n_real"] == 6
    said = capsys.readouterr().out
    assert "there is one class only, so its accuracy cannot be measured" in said
    assert "2 of 8 real photographs had been trained on; judged by are the 6 others." in said
