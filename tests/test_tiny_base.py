"How the tiny base is pre-trained: its scenes, its legs on a few steps, and the weights that they go on with."

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from defect_lora.evaluation.features import load_tiny_features
from defect_lora.model.base import decode_latents, encode_latents, load_base

STUDY = Path(__file__).parents[1] / "nbs" / "studies" / "tiny_base"
MEANS = {0: 113.7, 1: 94.7, 2: 113.1, 3: 106.7, 4: 39.9, 5: 112.3}


@pytest.fixture
def study(monkeypatch):
    "Imports a module of the study."
    monkeypatch.syspath_prepend(str(STUDY))
    return import_module


@pytest.fixture
def leg(study, monkeypatch):
    "Runs a leg for two steps at the size of a test."

    def run(name, shards, out, **options):
        options = dict(device="cpu", steps=2, batch=4, capacity=8, least=8, shards=shards, out=out) | options
        monkeypatch.setattr(sys, "argv", [name, *(f"--{key}={value}" for key, value in options.items())])
        study(name).main()

    return run


@pytest.fixture
def shards(study, tmp_path):
    "A shard to train on, and one that is held out."
    legs, folder = study("legs"), tmp_path / "shards"
    folder.mkdir()
    for k, numbers in ((0, range(8)), (legs.HELD_OUT, range(8, 12))):
        legs.write_shard(folder / f"{k:08d}.npz", numbers)
    return folder


def test_a_cables_damage_is_never_told(study):
    world = study("world")
    damage = {"intact", "several", *world.DAMAGE, *world.PLACES}
    cables, others = [], set()
    for number in range(200):
        picture, told, said = world.scene(number)
        assert picture.shape == (128, 128, 3) and picture.dtype == np.uint8 and set(told) <= set(world.WORDS)
        if "cable" in told:
            assert not damage & set(told)
            cables.append(damage & set(said))
        else:
            others |= damage & set(told)
    assert len(cables) > 60 and all(cables) and others >= set(world.DAMAGE)


def test_the_scenes_are_those_that_the_weights_have_seen(study):
    world = study("world")
    for number, mean in MEANS.items():
        assert world.scene(number)[0].mean() == pytest.approx(mean, abs=0.5)


def test_the_legs_write_a_base_and_go_on_from_it(leg, shards, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    leg("features_leg", shards, first)
    leg("vae_leg", shards, first, adversary=0.3, criticwarm=0)
    leg("unet_leg", shards, first, preview=0)
    base = load_base(first)
    assert base.size == 128 and load_tiny_features(first / "features").config["size"] == 128
    assert (first / "vae.png").exists() and len((first / "unet_log.jsonl").read_text().splitlines()) == 1
    leg("features_leg", shards, second, **{"from": first}, steps=1)
    leg("vae_leg", shards, second, **{"from": first}, steps=1, frozen=1, crop=8)
    leg("unet_leg", shards, second, **{"from": first}, steps=1, preview=0)
    after = load_base(second)
    assert after.vae.config.scaling_factor == base.vae.config.scaling_factor
    assert all(torch.equal(one, other) for one, other in zip(base.vae.encoder.parameters(), after.vae.encoder.parameters()))
    assert not all(torch.equal(one, other) for one, other in zip(base.vae.decoder.parameters(), after.vae.decoder.parameters()))
    moved = [(one - other).abs().max() for one, other in zip(base.unet.parameters(), after.unet.parameters())]
    assert 0 < max(moved) < 0.1  # one step on, not begun anew


def test_the_shipped_base_is_of_this_world(study):
    world, base = study("world"), load_base("tiny")
    assert load_file(STUDY / "weights" / "vocabulary.safetensors")["weight"].shape == (len(world.WORDS), 768)
    assert load_tiny_features(STUDY / "weights" / "features").dim == 256
    study("vae_leg").Critic().load_state_dict(load_file(STUDY / "weights" / "critic.safetensors"))
    pictures = torch.from_numpy(np.stack([world.scene(number)[0] for number in range(4)])).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        error = (decode_latents(base.vae, encode_latents(base.vae, pictures)) - pictures).square().mean()
    assert error < 0.02
