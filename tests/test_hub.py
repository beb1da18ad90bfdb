"Fetching one category from the Hub: a loopback server stands in for it and counts what is asked for."

import pytest
from hub import NOWHERE, Hub, run_with_hub, serving
from safetensors.torch import load, save

from defect_lora.data.cables import write_cables
from defect_lora.model.base import SD15, TINY

REPO = "DefectSpectrum/Defect_Spectrum"
CODE = """
import sys
from defect_lora.data.dataset import DefectSpectrumDataset
from defect_lora.data.layouts import download_category
from defect_lora.data.files import InputError
try:
    root = download_category(sys.argv[1], cache_dir=sys.argv[2])
except InputError as error:
    sys.exit(str(error))
dataset = DefectSpectrumDataset(root, sys.argv[1], masks=True, size=64)
print(dataset.category, len(dataset), len(dataset.classes), int(dataset[0]["mask"].sum()) > 0)
"""


@pytest.fixture
def hub(tmp_path):
    "Address of a Hub with two categories, and the set of files that were asked for."
    write_cables(tmp_path / "repo", per_class=1, size=64)
    source = tmp_path / "repo" / "DS-MVTec" / "cable" / "image" / "good" / "000.png"
    other = tmp_path / "repo" / "DS-MVTec" / "screw" / "image" / "good" / "000.png"
    other.parent.mkdir(parents=True)
    other.write_bytes(source.read_bytes())
    hub = Hub()
    hub.add_folder(f"datasets/{REPO}", tmp_path / "repo")
    with serving(hub) as address:
        yield address, hub.asked


def fetch(category, cache, endpoint):
    return run_with_hub(CODE, endpoint, category, cache)


def test_one_category_is_fetched_and_kept(hub, tmp_path):
    endpoint, asked = hub
    first = fetch("cable", tmp_path / "cache", endpoint)
    assert first.stdout.split() == ["cable", "9", "9", "True"], first.stderr
    assert asked and all(name.startswith("DS-MVTec/cable/") for name in asked)
    assert fetch("cable", tmp_path / "cache", NOWHERE).stdout == first.stdout


def test_an_unknown_category_is_named(hub, tmp_path):
    done = fetch("bolt", tmp_path / "cache", hub[0])
    assert done.returncode == 1 and "no category 'bolt'" in done.stderr


def test_no_network_and_no_cache_is_one_line(tmp_path):
    done = fetch("cable", tmp_path / "cache", NOWHERE)
    assert done.returncode == 1 and "could not be fetched" in done.stderr.splitlines()[-1]


BASE = """
import sys
import torch
torch.cuda.is_available = lambda: sys.argv[1] == "gpu"
from defect_lora.model.base import fetch_base, load_base
print(fetch_base("sd15"), load_base("sd15").size, round(float(next(load_base("sd15").unet.parameters()).std()), 4))
"""


@pytest.fixture
def sd15():
    "A Hub with Stable Diffusion 1.5's repository: the tiny base's parts in both precisions, and what is of no use here."
    hub = Hub()
    hub.add_folder(f"models/{SD15}", TINY)
    files = hub.repos[f"models/{SD15}"]
    for part in ("unet", "vae"):
        weights = load(files[f"{part}/diffusion_pytorch_model.safetensors"])
        files[f"{part}/diffusion_pytorch_model.fp16.safetensors"] = save({name: value.half() for name, value in weights.items()})
    for name in ("text_encoder", "safety_checker"):
        files |= {f"{name}/model.safetensors": b"0" * 1000, f"{name}/config.json": b"{}"}
    files["model_index.json"] = b"{}"
    with serving(hub) as address:
        yield address, hub.asked


@pytest.mark.parametrize("call", ["fetch_base", "load_base"])
def test_a_base_that_cannot_be_had_is_one_line(tmp_path, call):
    code = f"""
from defect_lora.data.files import InputError
from defect_lora.model.base import {call}
try:
    {call}("sd15")
except InputError as error:
    print(error)
"""
    done = run_with_hub(code, "http://nowhere.invalid", HF_HOME=str(tmp_path))
    assert done.returncode == 0 and "cannot be loaded" in done.stdout and len(done.stdout.splitlines()) == 1, done.stderr[-2000:]
    assert "Hub cannot be reached" in done.stdout and "Retrying" not in done.stderr


@pytest.mark.parametrize("machine, variant", [("gpu", ".fp16"), ("cpu", "")])
def test_only_what_is_used_of_a_base_is_fetched(sd15, tmp_path, machine, variant):
    endpoint, asked = sd15
    first = run_with_hub(BASE, endpoint, machine, HF_HOME=str(tmp_path))
    assert first.stdout.startswith("128 128 "), first.stderr
    weights = {f"{part}/diffusion_pytorch_model{variant}.safetensors" for part in ("unet", "vae")}
    assert asked == weights | {"unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"}
    assert first.stderr.count("once: 0.0") == 1 and "at 50 MB/s" in first.stderr
    again = run_with_hub(BASE, NOWHERE, "cpu", HF_HOME=str(tmp_path))
    assert again.stdout == first.stdout and "once" not in again.stderr
