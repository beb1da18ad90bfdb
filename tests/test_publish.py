"Publishing to a Hub and loading from it: a loopback server stands in for it."

import json
import shutil

import pytest
import torch
from hub import NOWHERE, Hub, run_with_hub, serving

from defect_lora.cli import main
from defect_lora.data.cables import write_cables
from defect_lora.data.images import save_image
from defect_lora.generation.image_set import add_images
from defect_lora.model.base import TINY, load_base
from defect_lora.training.config import TrainConfig
from defect_lora.model.pipeline import DefectPipeline
from defect_lora.model.unet import ClassConditionedUNet

REPO = "maker/two-classes"
PUBLISH = (
    "import sys; from defect_lora.cli import main; sys.exit(main(['publish', '--run', sys.argv[1], '--repo', sys.argv[2], *sys.argv[3:]]))"
)
GENERATE = """
import hashlib, sys
import torch
torch.set_num_threads(1)
from defect_lora.data.files import InputError
from defect_lora.model.pipeline import DefectPipeline
try:
    pipe = DefectPipeline.from_pretrained(sys.argv[1], local_files_only=len(sys.argv) > 2)
except InputError as error:
    sys.exit(str(error))
print(hashlib.sha256(pipe(["dent"], 2, 3.0, seeds=[7], progress=False).images[0].tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A run's folder with a model that generates what no other does."
    folder, base = tmp_path_factory.mktemp("run"), load_base("tiny")
    model = ClassConditionedUNet(base.unet, 2, rank=2).eval()
    for number, parameter in enumerate(model.adapter_parameters().values()):
        parameter.data += 0.01 * (number % 3)
    DefectPipeline(model, base.vae, base.scheduler, ["dent", "good"], base.name, size=64).save_pretrained(folder / "model")
    TrainConfig.from_recipe("tuned", base="tiny", data="/photographs/of/mine").save(folder / "config.json")
    return folder


def publish(run, endpoint, tmp_path, *more, token="hf_good"):
    return run_with_hub(PUBLISH, endpoint, run, REPO, *more, HF_TOKEN=token, HF_HOME=str(tmp_path / "home"))


def test_a_model_is_published_and_drawn_from_elsewhere(run, tmp_path):
    hub = Hub()
    with serving(hub) as address:
        done = publish(run, address, tmp_path)
        assert done.returncode == 0 and "published: " in done.stdout, done.stderr
        files = hub.repos[f"models/{REPO}"]
        assert {"README.md", "config.json", "training.json", "pytorch_lora_weights.safetensors", "class_embedding.safetensors"} <= set(
            files
        ) and hub.private[REPO]
        assert not any(b"of/mine" in data for data in files.values())
        elsewhere = dict(HF_HOME=str(tmp_path / "elsewhere"), HF_TOKEN="")
        generated = run_with_hub(GENERATE, address, REPO, **elsewhere)
        assert generated.returncode == 0, generated.stderr
        assert "README.md" not in hub.asked
    assert run_with_hub(GENERATE, NOWHERE, run).stdout == generated.stdout
    assert run_with_hub(GENERATE, NOWHERE, REPO, "offline", **elsewhere).stdout == generated.stdout  # from the cache


@pytest.mark.parametrize(
    "token, broken, reason",
    [("", False, "hf auth login"), ("hf_wrong", False, "hf auth login"), ("hf_good", True, "nothing was published")],
)
def test_what_goes_wrong_is_one_line(run, tmp_path, token, broken, reason):
    hub = Hub()
    hub.broken = broken
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with serving(hub) as address:
        done = publish(run, address, tmp_path, token=token)
    assert done.returncode == 2 and reason in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} and not hub.repos.get(f"models/{REPO}")


def test_a_name_that_nobody_has_is_one_line(tmp_path):
    with serving(Hub()) as address:
        done = run_with_hub(GENERATE, address, "nobody/nothing", HF_HOME=str(tmp_path))
    assert done.returncode == 1 and "neither a folder with a trained model nor one on the Hub" in done.stderr.splitlines()[-1]


def look(run, tmp_path, *more):
    "Exit code of a publication that is only looked at, and its files' bytes."
    code = main(["publish", "--run", str(run), "--repo", REPO, "--look", str(tmp_path / "look"), *more])
    return code, {path.name: path.read_bytes() for path in (tmp_path / "look").glob("*")}


def test_only_a_models_own_files_are_published(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    for name in ("notes.json", "token.safetensors", "class_embedding.safetensors.bak", ".env"):
        (tmp_path / "run" / "model" / name).write_text('{"token": "hf_secret"}')
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    (tmp_path / "run" / "model" / "config.json").write_text(json.dumps(config | dict(token="hf_secret")))
    run_config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(run_config | dict(token="hf_secret")))
    code, files = look(tmp_path / "run", tmp_path)
    assert code == 0 and not any(b"hf_secret" in data for data in files.values())
    assert set(files) == {"README.md", "config.json", "training.json", "pytorch_lora_weights.safetensors", "class_embedding.safetensors"}


def test_a_base_that_is_a_folder_becomes_a_name(tmp_path, capsys):
    base_folder = tmp_path / "secret place" / "steel"
    shutil.copytree(TINY, base_folder)
    base = load_base(base_folder)
    pipe = DefectPipeline(ClassConditionedUNet(base.unet, 2, rank=2).eval(), base.vae, base.scheduler, ["dent", "good"], base.name, size=64)
    pipe.save_pretrained(tmp_path / "run" / "model")
    TrainConfig.from_recipe("tuned", base=str(base_folder), data="photographs").save(tmp_path / "run" / "config.json")
    assert pipe.settings(2, 1.0)["model"] == "steel"
    code, files = look(tmp_path / "run", tmp_path)
    assert code == 0 and not any(b"secret place" in data for data in files.values())
    assert json.loads(files["config.json"])["base"] == json.loads(files["training.json"])["base"] == "steel"
    capsys.readouterr()
    generate = [
        "generate",
        "--run",
        str(tmp_path / "look"),
        "--out",
        str(tmp_path / "set"),
        "--per-class",
        "1",
        "--num-inference-steps",
        "1",
    ]
    assert main(generate) == 2
    said = capsys.readouterr().err
    assert "'steel'" in said and "--base" in said and said.count("\n") == 1
    assert main([*generate, "--base", str(base_folder)]) == 0
    assert "secret place" not in (tmp_path / "set" / "manifest.jsonl").read_text()


@pytest.mark.parametrize("trick", ["pairs", "masks forgotten", "no manifest", "a photograph in its place", "another set's image"])
def test_photographs_are_no_samples(run, tmp_path, trick, capsys):
    from PIL import Image

    made, row = tmp_path / "made", dict(class_name="dent", class_id=0, seed=1, weights="0" * 16)
    add_images(made, [(row, Image.new("RGB", (8, 8)))])
    assert look(run, tmp_path, "--generated", str(made))[0] == 0
    shutil.rmtree(tmp_path / "look")
    image = made / "dent" / "000.png"
    if trick == "pairs":
        made = tmp_path / "pairs"
        pair = dict(painted=True, good="000.png", good_sha256="0" * 16)
        from numpy import ones

        add_images(made, [(row | pair, Image.new("RGB", (8, 8)), ones((8, 8), bool))], ["dent", "good"])
    elif trick == "masks forgotten":
        save_image(Image.new("RGB", (8, 8)), image, **row, good="000.png")
    elif trick == "no manifest":
        (made / "manifest.jsonl").unlink()
    elif trick == "a photograph in its place":
        save_image(Image.new("RGB", (8, 8)), image)
    else:
        save_image(Image.new("RGB", (8, 8)), image, **row | dict(weights="1" * 16))
    capsys.readouterr()
    assert look(run, tmp_path, "--generated", str(made))[0] == 2 and not (tmp_path / "look").exists()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("counts, code", [([1, 9], 2), ([4, 4], 2), ([5, 9], 0), (None, 2)])
def test_means_of_few_photographs_stay_here(run, tmp_path, counts, code, capsys):
    pipe = DefectPipeline.from_pretrained(run)
    pipe.means, pipe.mean_counts = torch.zeros(2, *pipe.latent_shape), counts
    pipe.save_pretrained(tmp_path / "model")
    assert DefectPipeline.from_pretrained(tmp_path / "model").mean_counts == counts
    found, files = look(tmp_path / "model", tmp_path)
    assert found == code and ("class_means.safetensors" in files) == (code == 0)
    if code:
        assert "--without-means" in capsys.readouterr().err
        found, files = look(tmp_path / "model", tmp_path, "--without-means")
        assert found == 0 and "class_means.safetensors" not in files


def test_painting_finds_the_runs_own_photographs(tmp_path, monkeypatch, capsys):
    from defect_lora.training.config import note_data_places

    project = tmp_path / "project"
    project.mkdir()
    write_cables(project / "photographs", per_class=1, size=64)
    monkeypatch.chdir(project)
    base, names = load_base("tiny"), sorted(path.name for path in (project / "photographs/DS-MVTec/cable/image").iterdir())
    pipe = DefectPipeline(ClassConditionedUNet(base.unet, len(names), rank=2).eval(), base.vae, base.scheduler, names, base.name, size=64)
    pipe.save_pretrained(project / "run" / "model")
    config = TrainConfig.from_recipe("tuned", base="tiny", data="photographs", per_class=1)
    note_data_places(config, project / "run").save(project / "run" / "config.json")
    elsewhere = tmp_path / "elsewhere"
    for name in ("good", "private"):
        save_image(render(), elsewhere / "photographs" / name / "0.png")
    monkeypatch.chdir(elsewhere)
    paint = [
        "generate",
        "--pairs",
        "--per-class",
        "1",
        "--num-inference-steps",
        "1",
        "--classes",
        names[0],
        "--out",
        str(tmp_path / "pairs"),
    ]
    assert main([*paint, "--run", str(project / "run")]) == 0
    project.rename(tmp_path / "moved")
    assert main([*paint, "--run", str(tmp_path / "moved" / "run")]) == 0
    (tmp_path / "moved" / "run").rename(tmp_path / "alone")
    capsys.readouterr()
    assert main([*paint, "--run", str(tmp_path / "alone")]) == 2
    assert str(project / "photographs") in capsys.readouterr().err


def render():
    from defect_lora.data.cables import render_cable

    return render_cable("good", 0, size=64)[0]
