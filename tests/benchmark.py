"""The same work, diffusers' stock way and ours, side by side: `python tests/benchmark.py` (random weights, a CPU, some minutes).

Training: one optimizer step of `train_text_to_image_lora.py` (autoencoder, text encoder, adapters on the attention) and one of our Trainer.
Drawing: StableDiffusionPipeline and DefectPipeline, the same adapters, steps and guidance.
Every variant runs in a process of its own, in turns; printed are medians, ratios to the stock way, and peak memory of the process.
"""
import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

CLASSES = [f"class_{i}" for i in range(9)]
GEOMETRIES = {
    "sd15": dict(unet=dict(sample_size=64, cross_attention_dim=768), vae=dict(sample_size=512, block_out_channels=(128, 256, 512, 512), layers_per_block=2), layers=12),
    "small": dict(unet=dict(sample_size=16, cross_attention_dim=768, block_out_channels=(32, 64, 64, 64), norm_num_groups=16),
                  vae=dict(sample_size=128, block_out_channels=(16, 32, 32, 32), norm_num_groups=16), layers=2),
}
VARIANTS = {
    "training": ("stock", "stock, checkpointing", "ours"),
    "drawing": ("stock", "stock, merged", "ours"),
}


def random_weights(kind, config):
    "A model with small random weights, norms at 1; drawn quickly and seeded."
    import torch

    with torch.device("meta"):
        model = kind(config) if not isinstance(config, dict) else kind(**config)
    model, generator = model.to_empty(device="cpu"), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(float("norm" in name and name.endswith("weight")))
            else:
                parameter.uniform_(-1, 1, generator=generator).mul_(parameter[0].numel() ** -0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("position_ids"):
                buffer.copy_(torch.arange(buffer.numel()).view_as(buffer))
    return model


def prepare(folder, geometry):
    "A base model in diffusers' layout, and the images to train on."
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from defect_lora.cables import write_cables

    parts = GEOMETRIES[geometry]
    coder = dict(parts["vae"], down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    random_weights(UNet2DConditionModel, parts["unet"]).half().save_pretrained(folder / "unet")
    random_weights(AutoencoderKL, coder).half().save_pretrained(folder / "vae")
    text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=parts["layers"], num_attention_heads=12)
    random_weights(CLIPTextModel, text).half().save_pretrained(folder / "text_encoder")
    DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
                  steps_offset=1).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    write_cables(folder / "data", per_class=4, seed=0, size=128)


def stock_training(folder, size, batch, checkpointing):
    "diffusers' script: what its loop does in one step."
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from peft import LoraConfig
    from transformers import CLIPTextModel

    unet, vae, text = (kind.from_pretrained(folder / part, torch_dtype=torch.float32).requires_grad_(False)
                       for kind, part in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae"), (CLIPTextModel, "text_encoder")))
    unet.add_adapter(LoraConfig(r=8, lora_alpha=16, init_lora_weights="gaussian", target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
    if checkpointing:
        unet.enable_gradient_checkpointing()
    unet.train()
    scheduler, trained = DDPMScheduler.from_pretrained(folder / "scheduler"), [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    pixels, ids = torch.rand(batch, 3, size, size) * 2 - 1, torch.randint(0, 49000, (batch, 77))

    def step(_):
        latents = vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor
        noise, t = torch.randn_like(latents), torch.randint(0, 1000, (batch,))
        embeds = text(ids, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(unet(scheduler.add_noise(latents, noise, t), t, embeds, return_dict=False)[0], noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def our_training(folder, size, batch):
    "Our Trainer's optimizer step."
    from defect_lora.config import TrainConfig
    from defect_lora.trainer import Trainer

    config = TrainConfig(data=str(folder / "data"), base=str(folder), size=size, per_class=4, batch_size=batch, accumulation=1,
                         gradient_checkpointing=False, sample_every=0, dropout=0.0)
    trainer = Trainer(config, folder / "run")
    trainer._encode()
    return lambda number: trainer.train_step(trainer.plan[number])


def drawing(folder, size, batch, variant, steps=50):
    "A function that draws a batch of images."
    import torch

    from defect_lora.base import load_base
    from defect_lora.pipeline import DefectPipeline
    from defect_lora.unet import ClassConditionedUNet

    base = load_base(folder)
    torch.manual_seed(0)
    model = ClassConditionedUNet(base.unet, len(CLASSES)).eval()
    for p in model.adapter_parameters().values():
        p.data = 0.02 * torch.randn(p.shape)
    pipe = DefectPipeline(model, base.vae, base.scheduler, CLASSES, str(folder), size)
    labels, seeds = list(range(batch)), list(range(batch))
    if variant == "ours":
        return lambda _: pipe(labels, num_inference_steps=steps, guidance_scale=7.5, seeds=seeds, output_type="latent", progress=False).images
    pipe.save_pretrained(folder / "model")
    embeds = model.prompt_embeds(torch.tensor(labels)).detach()
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    stock = StableDiffusionPipeline(unet=UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32), vae=base.vae, scheduler=base.scheduler,
                                    text_encoder=None, tokenizer=None, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    stock.set_progress_bar_config(disable=True)
    stock.load_lora_weights(folder / "model")
    if variant == "stock, merged":
        stock.fuse_lora()
        stock.unload_lora_weights()
    return lambda _: stock(prompt_embeds=embeds, negative_prompt_embeds=torch.zeros_like(embeds), num_inference_steps=steps, guidance_scale=7.5, height=size, width=size,
                           generator=[torch.Generator().manual_seed(seed) for seed in seeds], output_type="latent").images


def run_variant(args):
    "In a process of its own: prints seconds of each repetition and the peak memory."
    import torch

    folder, size, batch = Path(args.folder), args.size, args.batch
    torch.manual_seed(0)
    if args.task == "drawing":
        work = drawing(folder, size, batch, args.variant, args.steps)
    else:
        work = our_training(folder, size, batch) if args.variant == "ours" else stock_training(folder, size, batch, "checkpointing" in args.variant)
    times, result = [], None
    for number in range(args.repeat + 1):
        start = time.perf_counter()
        result = work(number)
        times.append(time.perf_counter() - start)
    if args.task == "drawing":
        torch.save(result, folder / f"{args.variant}.pt")
    print(json.dumps(dict(seconds=times[1:], memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)))


def measure(task, args, folder):
    "All variants of a task, in turns."
    found = {variant: dict(seconds=[], memory=0.0) for variant in VARIANTS[task]}
    for _ in range(args.rounds):
        for variant in VARIANTS[task]:
            command = [sys.executable, __file__, "--folder", str(folder), "--task", task, "--variant", variant, "--size", str(args.size),
                       "--batch", str(args.batch if task == "training" else args.images), "--repeat", str(args.repeat if task == "training" else 1), "--steps", str(args.steps)]
            said = subprocess.run(command, capture_output=True, text=True)
            if said.returncode:
                raise SystemExit(said.stderr[-2000:])
            row = json.loads(said.stdout.strip().split("\n")[-1])
            found[variant]["seconds"] += row["seconds"]
            found[variant]["memory"] = max(found[variant]["memory"], row["memory"])
    return {variant: dict(seconds=median(row["seconds"]), memory=row["memory"]) for variant, row in found.items()}


def show(task, rows):
    stock = rows["stock"]
    print(f"\n{task:24}{'seconds':>10}{'speed':>10}{'GiB':>8}{'memory':>10}")
    for variant, row in rows.items():
        print(f"{variant:24}{row['seconds']:10.2f}{stock['seconds'] / row['seconds']:9.2f}x{row['memory']:8.2f}{row['memory'] / stock['memory']:9.2f}x")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", choices=GEOMETRIES, default="sd15")
    parser.add_argument("--size", type=int, default=128, help="pixels")
    parser.add_argument("--batch", type=int, default=4, help="images in a training step")
    parser.add_argument("--images", type=int, default=1, help="images drawn at once")
    parser.add_argument("--steps", type=int, default=50, help="DDIM steps")
    parser.add_argument("--repeat", type=int, default=3, help="training steps measured in a turn, after one that is not")
    parser.add_argument("--rounds", type=int, default=2, help="turns")
    parser.add_argument("--out", default=None, help="JSON file for the figures")
    for name in ("--folder", "--task", "--variant"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.variant:
        return run_variant(args)
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), args.geometry)
        found = {}
        for task in VARIANTS:
            found[task] = measure(task, args, Path(folder))
            show(task, found[task])
        import torch

        drawn = {variant: torch.load(Path(folder) / f"{variant}.pt") for variant in VARIANTS["drawing"]}
        stock = torch.as_tensor(drawn["stock"])
        found["difference"] = ((torch.as_tensor(drawn["ours"]) - stock).abs().max() / stock.abs().max()).item()
        print(f"\nlargest difference of the drawn latents from the stock pipeline's: {found['difference']:.1e} of the largest value")
    if args.out:
        Path(args.out).write_text(json.dumps(vars(args) | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
