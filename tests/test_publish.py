"Publishing to a Hub and loading from it: a loopback server stands in for it."

import pytest
from hub import NOWHERE, Hub, run_with_hub, serving

from defect_lora.model.base import load_base
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
