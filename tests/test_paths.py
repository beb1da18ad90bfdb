"Names become paths: whatever a data set, a set or a model says, nothing is read or written outside of its folder."

import json

import pytest
from PIL import Image

from defect_lora.cli import main
from defect_lora.data.files import InputError
from defect_lora.data.images import save_image
from defect_lora.data.layouts import find_category, labelled_images

HOSTILE = [
    "../../pwned",
    "/tmp/pwned",
    "..",
    "C:\\pwned",
    "a/b",
    "a\\b",
    "CON",
    "nul.txt",
    "com1",
    "bent.",
    "bent ",
    ".ssh",
    "a\x00b",
    "a\nb",
    "x" * 300,
]


def grey(path, level=90):
    return save_image(Image.new("RGB", (8, 8), (level,) * 3), path)


def listed(folder, rows):
    "A folder of one image with metadata.jsonl."
    grey(folder / "a.png")
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("layout", ["folders", "huggingface", "coco", "mvtec", "yolo"])
def test_export_writes_into_its_folder_alone(name, layout, tmp_path, capsys):
    fake = listed(tmp_path / "deep" / "fake", [dict(file_name="a.png", label=name), dict(file_name="a.png", label="good")])
    before = files_of(tmp_path)
    assert main(["export", "--fake", str(fake), "--out", str(tmp_path / "deep" / "out"), "--layout", layout]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "metadata.jsonl: class name" in said and "rename it" in said
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("name", HOSTILE)
def test_training_is_refused_before_it_begins(name, tmp_path, capsys):
    data = listed(tmp_path / "data", [dict(file_name="a.png", label=name), dict(file_name="a.png", label="good")])
    assert main(["train", "--data", str(data), "--out", str(tmp_path / "run"), "--base", "tiny"]) == 2
    assert "metadata.jsonl: class name" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "entry", ["../secret.png", "/etc/passwd", "C:/secret.png", "a/../../secret.png", "..\\secret.png", "~/x.png", 5, None, "", "\x00"]
)
@pytest.mark.parametrize("column", ["file_name", "mask"])
def test_a_list_names_files_of_its_folder(entry, column, tmp_path):
    grey(tmp_path / "secret.png")
    if column == "mask" and entry in (None, ""):
        return  # no mask
    with pytest.raises(InputError, match="metadata.jsonl: line 1: .* is no file inside"):
        find_category(listed(tmp_path / "data", [dict(file_name="a.png", label="good") | {column: entry}]))


def test_twins_are_named(tmp_path):
    for name in ("Bent", "bent"):
        grey(tmp_path / "set" / name / "0.png")
    for read in (find_category, labelled_images):
        with pytest.raises(InputError, match="'Bent' and 'bent'"):
            read(tmp_path / "set")


def test_folders_with_odd_names_are_named(tmp_path, capsys):
    for name in ("good", "bent\n"):
        grey(tmp_path / "set" / name / "0.png")
    assert main(["export", "--fake", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("category", ["../cable", "/cable", "..", "a/b", "NUL"])
def test_products_are_names_too(category, tmp_path, capsys):
    for name in ("good", "bent"):
        grey(tmp_path / "cable" / name / "0.png")
    assert main(["train", "--data", str(tmp_path), "--category", category, "--out", str(tmp_path / "run"), "--base", "tiny"]) == 2
    assert "product" in capsys.readouterr().err
    assert (
        main(["export", "--fake", str(tmp_path / "cable"), "--out", str(tmp_path / "o"), "--layout", "mvtec", "--category", category]) == 2
    )


def test_a_zip_holds_what_the_manifest_says(tmp_path):
    from zipfile import ZipFile

    from defect_lora.generation.image_set import add_images, zip_set

    add_images(tmp_path / "set", [(dict(class_name="bent", class_id=0, seed=1), Image.new("RGB", (8, 8)))])
    (tmp_path / "set" / "notes.json").write_text('{"token": "hf_secret"}')
    (tmp_path / "set" / ".env").write_text("hf_secret")
    assert sorted(ZipFile(zip_set(tmp_path / "set")).namelist()) == ["set/bent/000.png", "set/manifest.jsonl"]
    for row in (dict(file="../notes.json"), dict(file="bent/000.png", mask="/etc/passwd")):
        (tmp_path / "set" / "manifest.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(InputError, match="manifest.jsonl: line 1: .* is no file inside"):
            zip_set(tmp_path / "set")


def test_neighbours_of_a_flat_set_are_not_inside_of_it(tmp_path):
    fake = listed(tmp_path / "fake", [dict(file_name="a.png", label="good")])
    assert main(["export", "--fake", str(fake), "--out", str(tmp_path / "out")]) == 0
    assert main(["export", "--fake", str(fake), "--out", str(fake / "out")]) == 2
