"""Stable Diffusion 1.5's geometry with random weights: counted, trained for one step and sampled from, on a CPU at 128 pixels."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from speed import SD15_VAE, random_weights

from defect_lora.model.base import load_base
from defect_lora.model.pipeline import DefectPipeline
from defect_lora.model.unet import ClassConditionedUNet

CLASSES = [
    "bent_wire",
    "cable_swap",
    "combined",
    "cut_inner_insulation",
    "cut_outer_insulation",
    "good",
    "missing_cable",
    "missing_wire",
    "poke_insulation",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "SD 1.5 in diffusers' folder layout, in half precision to keep the files small."
    folder = tmp_path_factory.mktemp("sd15")
    random_weights(UNet2DConditionModel, dict(sample_size=64, cross_attention_dim=768)).half().save_pretrained(folder / "unet")
    random_weights(AutoencoderKL, SD15_VAE).half().save_pretrained(folder / "vae")
    PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1).save_pretrained(
        folder / "scheduler"
    )
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return folder


def train_step(model, base):
    "One AdamW step on noise; the loss before it."
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    latents, noise = torch.randn((2, 1, 4, 16, 16), generator=generator)
    timestep = torch.tensor([500])
    noisy = base.scheduler.add_noise(latents, noise, timestep)
    loss = torch.nn.functional.mse_loss(model.train()(noisy, timestep, torch.tensor([3]), keep=torch.ones(1)), noise)
    loss.backward()
    optimizer.step()
    return loss.item()


def test_one_step_and_one_image(folder, tmp_path):
    base = load_base(folder)
    assert base.size == 512 and base.scheduler.config.prediction_type == "epsilon"
    model = ClassConditionedUNet(base.unet, num_classes=9)
    assert model.count_parameters() == dict(frozen=859_520_964, adapters=1_594_368, embedding=6_912, trainable=1_203_456)

    frozen = base.unet.conv_in.weight.clone()
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    assert 0 < train_step(model, base) < 1e3
    after = dict(model.named_parameters())
    assert torch.equal(frozen, base.unet.conv_in.weight)
    moved = {name for name, p in before.items() if not torch.equal(p, after[name])}
    assert any("attn2.to_v.lora_B" in name for name in moved) and "embedding.table.weight" in moved

    pipe = DefectPipeline(model, base.vae, base.scheduler, CLASSES, base.name, size=128)
    image = pipe("poke_insulation", num_inference_steps=2, seeds=[0], progress=False).images[0]
    assert image.size == (128, 128)
    pipe.save_pretrained(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 8e6
