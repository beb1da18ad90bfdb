"""The same work, the stock way and ours, side by side: `python benchmarks/speed.py [--geometry sd15|tiny] [--script FILE] [--out FILE]`.

Training: one optimizer step as diffusers' `train_text_to_image_lora.py` does it (autoencoder and text encoder in every step), with and
without gradient checkpointing, and one of our Trainer. Generating: a stock StableDiffusionPipeline, with its adapters beside the weights
and merged into them, and our DefectPipeline. All weights are random at `sd15`; `tiny` is the base inside the package, beside a text
encoder of one layer.

First a gate: on the same noise, timesteps and latents both have the same loss and gradients, and both generate the same images. Then
every variant runs in processes of its own, in the order A B C C B A. Printed are medians, ratios and peak memory; the last line is JSON,
each figure ours over theirs (speed: above 1 is better; memory: below 1). With a CUDA device everything runs there, in half precision as
the script's fp16.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

SD15_VAE = dict(
    sample_size=512,
    block_out_channels=(128, 256, 512, 512),
    layers_per_block=2,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
)
SMALL_UNET = dict(  # and parts of its kind, for a rehearsal
    sample_size=8,
    cross_attention_dim=768,
    block_out_channels=(32, 64),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    attention_head_dim=4,
    norm_num_groups=8,
)
SMALL_VAE = SD15_VAE | dict(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4, sample_size=64)
VARIANTS = {"training": ("stock", "stock, checkpointing", "ours"), "generating": ("stock, unmerged", "stock, merged", "ours")}


# --- what both sides work on


def random_weights(kind, config):
    "A model with small random weights, norms at 1; made quickly and seeded."
    with torch.device("meta"):
        model = kind(**config) if isinstance(config, dict) else kind(config)
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
    "A base model in diffusers' layout with a text encoder and a tokenizer, and images to train on: in our layout and with captions."
    from transformers import CLIPTextConfig, CLIPTextModel

    from defect_lora.model.base import load_base

    if geometry == "tiny":
        base = load_base("tiny")
        base.unet.save_pretrained(folder / "unet")
        base.vae.save_pretrained(folder / "vae")
        base.scheduler.save_pretrained(folder / "scheduler")
    else:
        write_sd15(folder)
    layers = 1 if geometry == "tiny" else 12
    text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=layers, num_attention_heads=12)
    random_weights(CLIPTextModel, text).save_pretrained(folder / "text_encoder")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    write_tokenizer(folder / "tokenizer")
    write_images(folder)


def write_sd15(folder):
    "Stable Diffusion 1.5's UNet and autoencoder, with random weights."
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    random_weights(UNet2DConditionModel, dict(sample_size=64, cross_attention_dim=768)).save_pretrained(folder / "unet")
    random_weights(AutoencoderKL, SD15_VAE).save_pretrained(folder / "vae")
    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    ).save_pretrained(folder / "scheduler")


def write_tokenizer(folder):
    "A tokenizer of single letters: what a script has to load, at the usual length of 77."
    letters = "abcdefghijklmnopqrstuvwxyz_,."
    vocabulary = {token: i for i, token in enumerate([*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"])}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = dict(bos_token="<|startoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>", pad_token="<|endoftext|>")
    config = dict(tokenizer_class="CLIPTokenizer", model_max_length=77) | special
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_images(folder):
    "Rendered cables in our layout, and the same with captions as Hugging Face's image folders have them."
    from defect_lora.data.cables import CLASSES, render_cable, write_cables

    write_cables(folder / "data", per_class=4, seed=0, size=128)
    (folder / "captioned").mkdir()
    rows = [dict(file_name=f"{name}_{i}.png", text=f"a cable with {name}") for name in CLASSES for i in range(4)]
    for row in rows:
        name, _, i = row["file_name"][:-4].rpartition("_")
        render_cable(name, int(i), 128)[0].save(folder / "captioned" / row["file_name"])
    (folder / "captioned" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def device_name():
    return "cuda" if torch.cuda.is_available() else "cpu"


# --- training


class StockTraining:
    "diffusers' script: what its loop does in one step."

    def __init__(self, folder, size, batch, checkpointing):
        from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
        from diffusers.training_utils import cast_training_params
        from peft import LoraConfig
        from transformers import CLIPTextModel

        self.device = device_name()
        dtype = torch.float16 if self.device == "cuda" else torch.float32
        load = lambda kind, part: kind.from_pretrained(folder / part, torch_dtype=dtype).requires_grad_(False).to(self.device)
        self.unet, self.vae, self.text = load(UNet2DConditionModel, "unet"), load(AutoencoderKL, "vae"), load(CLIPTextModel, "text_encoder")
        self.unet.add_adapter(
            LoraConfig(r=8, lora_alpha=16, init_lora_weights="gaussian", target_modules=["to_k", "to_q", "to_v", "to_out.0"])
        )
        cast_training_params(self.unet, dtype=torch.float32)
        if checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.unet.train()
        self.scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
        self.trained = [p for p in self.unet.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4)
        self.scaler = torch.amp.GradScaler(self.device, enabled=self.device == "cuda")
        self.pixels = torch.rand(batch, 3, size, size, device=self.device, dtype=dtype) * 2 - 1
        self.ids = torch.randint(0, 49000, (batch, 77), device=self.device)

    def loss(self, latents, noise, timesteps, embeds):
        target = noise if self.scheduler.config.prediction_type == "epsilon" else self.scheduler.get_velocity(latents, noise, timesteps)
        with torch.autocast(self.device, torch.float16, enabled=self.device == "cuda"):
            predicted = self.unet(self.scheduler.add_noise(latents, noise, timesteps), timesteps, embeds, return_dict=False)[0]
        return F.mse_loss(predicted.float(), target.float())

    def __call__(self, number):
        latents = self.vae.encode(self.pixels).latent_dist.sample() * self.vae.config.scaling_factor
        noise, timesteps = torch.randn_like(latents), torch.randint(0, 1000, (len(latents),), device=self.device)
        self.scaler.scale(self.loss(latents, noise, timesteps, self.text(self.ids, return_dict=False)[0])).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()


def bare_trainer(run, data, base, size, batch, **options):
    "A Trainer of steps alone: no samples, no evaluations, nothing that is chosen by memory."
    from defect_lora.training.config import Phase, TrainConfig
    from defect_lora.training.trainer import Trainer

    os.environ["DEFECT_LORA_CACHE"] = str(run.parent / "cache")
    alone = dict(gradient_accumulation_steps=1, gradient_checkpointing=False, fit_memory=False, sample_every=0, evaluate_every=0)
    phases = [Phase("all", 100, 1e-4, "all")]
    return Trainer(TrainConfig(data=str(data), base=str(base), size=size, phases=phases, batch_size=batch, **alone, **options), run)


def our_trainer(folder, size, batch):
    "Our Trainer, its images encoded, its adapters where the stock script has them."
    trainer = bare_trainer(folder / "run", folder / "data", folder, size, batch, per_class=4, dropout=0.0)
    trainer.data.prepare()
    return trainer


def training(folder, size, batch, variant):
    "A function that does an optimizer step."
    if variant == "ours":
        trainer = our_trainer(folder, size, batch)
        return lambda number: trainer.train_step(trainer.plan[number])
    return StockTraining(folder, size, batch, "checkpointing" in variant)


def training_gate(folder, size, batch):
    "The largest difference of loss and gradients, as shares of the loss and the largest gradient, on the same inputs."
    stock, trainer = StockTraining(folder, size, batch, False), our_trainer(folder, size, batch)
    trainer.enter(trainer.plan[0].phase)
    inputs = trainer.data.batch(trainer.plan[0]).take(slice(None), trainer.accelerator.device)
    inputs.keep.fill_(1)
    theirs, ours = ({n: p for n, p in unet.named_parameters() if ".lora_" in n} for unet in (stock.unet, trainer.model.unet))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in theirs.items():
        parameter.data.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
        ours[name].data.copy_(parameter.data)
    embeds = trainer.model.prompt_embeds(inputs.class_labels).detach()
    from defect_lora.training.latents import diffusion_loss

    with trainer.accelerator.autocast():
        our_loss = diffusion_loss(trainer.model, trainer.data.scheduler, inputs).mean()
    their_loss = stock.loss(inputs.latents.to(stock.unet.dtype), inputs.noise.to(stock.unet.dtype), inputs.timesteps, embeds)
    our_loss.backward()
    their_loss.backward()
    largest = max(p.grad.abs().max() for p in theirs.values())
    ours = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in ours.items()}
    gradients = max((p.grad - ours[n]).abs().max() / largest for n, p in theirs.items()).item()
    return dict(loss=(abs(our_loss - their_loss) / their_loss).item(), gradients=gradients)


# --- generating


def generating(folder, size, batch, variant, steps, dtype=None):
    "A function that generates a batch of latents; the first time, which is not counted, in two steps."
    from defect_lora.model.base import load_base
    from defect_lora.model.pipeline import DefectPipeline
    from defect_lora.model.unet import ClassConditionedUNet

    device = device_name()
    dtype = dtype or (torch.float16 if device == "cuda" else torch.float32)
    base, classes = load_base(folder, dtype=dtype), [f"class_{i}" for i in range(9)]
    torch.manual_seed(0)
    model = ClassConditionedUNet(base.unet, len(classes)).eval()
    for p in model.adapter_parameters().values():
        p.data = 0.02 * torch.randn(p.shape)
    pipe = DefectPipeline(model, base.vae, base.scheduler, classes, str(folder), size).to(device)
    labels, seeds = list(range(batch)), list(range(batch))
    if variant == "ours":
        return lambda number: pipe(labels, steps if number else 2, 7.5, seeds=seeds, output_type="latent", progress=False).images
    pipe.save_pretrained(folder / "model")
    embeds = model.prompt_embeds(torch.tensor(labels, device=device)).detach()
    stock = stock_pipeline(folder, base, dtype, merged=variant == "stock, merged").to(device)
    return lambda number: (
        stock(
            prompt_embeds=embeds,
            negative_prompt_embeds=torch.zeros_like(embeds),
            num_inference_steps=steps if number else 2,
            guidance_scale=7.5,
            height=size,
            width=size,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="latent",
        ).images
    )


def stock_pipeline(folder, base, dtype, merged):
    "A StableDiffusionPipeline that has loaded the adapters we saved."
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype)
    without = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    stock = StableDiffusionPipeline(unet=unet, vae=base.vae, scheduler=base.scheduler, requires_safety_checker=False, **without)
    stock.set_progress_bar_config(disable=True)
    stock.load_lora_weights(folder / "model")
    if merged:
        stock.fuse_lora()
        stock.unload_lora_weights()
    return stock


# --- measuring


def limit_memory(gib):
    "Take at most so much of a GPU."
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / torch.cuda.get_device_properties(0).total_memory))


def reset_peak():
    "Forget the peak memory so far (loading the weights has its own)."
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory():
    "GiB at most since reset_peak, weights included: the GPU's, else the process's."
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 2**20


def run_variant(args):
    "In a process of its own: prints seconds of each repetition and the peak memory."
    folder = Path(args.folder)
    if args.memory:
        limit_memory(args.memory)
    torch.manual_seed(0)
    if args.task == "gate":
        return print(json.dumps(training_gate(folder, args.size, args.batch)))
    if args.task == "generating":
        work, repeat = generating(folder, args.size, args.images, args.variant, args.steps), 1
    else:
        work, repeat = training(folder, args.size, args.batch, args.variant), args.repeat
    reset_peak()
    times = [timed(work, number) for number in range(repeat + 1)]
    if args.task == "generating":
        torch.save(times[-1][1].cpu(), folder / f"{args.variant}.pt")
    print(json.dumps(dict(seconds=[seconds for seconds, _ in times[1:]], memory=peak_memory())))


def timed(work, number):
    start = time.perf_counter()
    result = work(number)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def in_own_process(args, folder, **what):
    "Run this file again for one variant; what its last line says."
    flags = {name: getattr(args, name) for name in ("size", "batch", "images", "steps", "repeat", "memory")} | dict(folder=folder) | what
    command = [sys.executable, __file__] + [f"--{name}={value}" for name, value in flags.items() if value is not None]
    said = subprocess.run(command, capture_output=True, text=True)
    if said.returncode:
        raise SystemExit(said.stderr[-2000:])
    return json.loads(said.stdout.strip().split("\n")[-1])


def measure(task, args, folder):
    "All variants of a task, there and back again."
    found = {variant: dict(seconds=[], memory=0.0) for variant in VARIANTS[task]}
    for variant in args.rounds * (VARIANTS[task] + VARIANTS[task][::-1]) or VARIANTS[task]:
        row = in_own_process(args, folder, task=task, variant=variant)
        print(f"  {variant}: {', '.join(f'{s:.3g}' for s in row['seconds'])} s, {row['memory']:.2f} GiB", file=sys.stderr)
        found[variant]["seconds"] += row["seconds"]
        found[variant]["memory"] = max(found[variant]["memory"], row["memory"])
    return {variant: dict(seconds=median(row["seconds"]), memory=row["memory"], turns=row["seconds"]) for variant, row in found.items()}


def run_script(args, folder, checkpointing):
    "Seconds per step of a training script as it is: a long run less a short one."

    def seconds(steps):
        out = tempfile.mkdtemp(dir=folder)
        command = [
            sys.executable,
            args.script,
            f"--pretrained_model_name_or_path={folder}",
            f"--train_data_dir={folder / 'captioned'}",
            f"--output_dir={out}",
            f"--resolution={args.size}",
            f"--train_batch_size={args.batch}",
            f"--max_train_steps={steps}",
            "--rank=8",
            "--checkpointing_steps=1000000",
            *(["--gradient_checkpointing"] if checkpointing else []),
            *(["--mixed_precision=fp16"] if device_name() == "cuda" else []),
        ]
        start, done = time.perf_counter(), subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{args.script} failed:\n{done.stderr[-2000:]}")
        return time.perf_counter() - start

    return (seconds(2 + 2 * args.repeat) - seconds(2)) / (2 * args.repeat)


def generated_difference(folder):
    "How far our latents are from the stock pipelines', at most, as a share of the largest value."
    ours, *stock = (torch.load(Path(folder) / f"{variant}.pt").float() for variant in VARIANTS["generating"][::-1])
    return max(((ours - theirs).abs().max() / theirs.abs().max()).item() for theirs in stock)


def show(task, rows):
    first = next(iter(rows.values()))

    def memory(row):
        return "" if row["memory"] is None else f"{row['memory']:8.2f}{row['memory'] / first['memory']:9.2f}x"

    print(f"\n{task:24}{'seconds':>10}{'speed':>10}{'GiB':>8}{'memory':>10}")
    for variant, row in rows.items():
        print(f"{variant:24}{row['seconds']:10.3f}{first['seconds'] / row['seconds']:9.2f}x{memory(row)}")


def ratios(found):
    "Ours over theirs."
    training, generating = found["training"], found["generating"]
    faster = lambda rows, other: round(rows[other]["seconds"] / rows["ours"]["seconds"], 3)
    return dict(
        train_vs_stock=faster(training, "stock"),
        train_vs_stock_checkpointed=faster(training, "stock, checkpointing"),
        memory_vs_stock=round(training["ours"]["memory"] / training["stock"]["memory"], 3),
        sample_vs_merged=faster(generating, "stock, merged"),
        sample_vs_unmerged=faster(generating, "stock, unmerged"),
        **{f"train_vs_{name}": faster(training, name) for name in training if name.startswith("script")},
    )


def check_gate(found, limit):
    "Stop where the two sides do not do the same work."
    for name, value in found.items():
        print(f"{name}: {value:.1e}")
        if value > limit:
            raise SystemExit(f"{name} differs by {value:.1e}, more than {limit:.0e}: the two sides do not do the same work")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", choices=("sd15", "tiny"), default="sd15")
    parser.add_argument("--size", type=int, default=128, help="pixels")
    parser.add_argument("--batch", type=int, default=4, help="images in a training step")
    parser.add_argument("--images", type=int, default=1, help="images generated at once")
    parser.add_argument("--steps", type=int, default=50, help="DDIM steps")
    parser.add_argument("--repeat", type=int, default=3, help="training steps measured in a process, after one that is not")
    parser.add_argument("--rounds", type=int, default=1, help="times there and back again; 0: there alone, to try it")
    parser.add_argument(
        "--script", default=None, help="a training script with the flags of diffusers' train_text_to_image_lora.py, timed as it is"
    )
    parser.add_argument("--out", default=None, help="JSON file for the figures")
    parser.add_argument("--memory", type=float, default=None, help="GiB of a GPU that a process may take")
    for name in ("--folder", "--task", "--variant"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        return run_variant(args)
    with tempfile.TemporaryDirectory() as folder:
        compare(args, Path(folder))


def compare(args, folder):
    "The gate, every task, the table and the ratios."
    prepare(folder, args.geometry)
    limit = 1e-4 if device_name() == "cpu" else 5e-2  # what rounding adds up to in single and in half precision
    print("differences, as shares of the largest value")
    gate = in_own_process(args, folder, task="gate")
    check_gate(gate, limit)
    found = {task: measure(task, args, folder) for task in VARIANTS}
    gate["generated"] = generated_difference(folder)
    check_gate({"generated": gate["generated"]}, 10 * limit)
    if args.script:
        for name, checkpointing in (("script", False), ("script_checkpointed", True)):
            found["training"][name] = dict(seconds=run_script(args, folder, checkpointing), memory=None)
    for task in VARIANTS:
        show(task, found[task])
    how = {name: getattr(args, name) for name in ("geometry", "size", "batch", "images", "steps")}
    how |= dict(device=device_name(), threads=torch.get_num_threads())
    if args.out:
        Path(args.out).write_text(json.dumps(how | dict(gate=gate) | found | ratios(found), indent=1) + "\n")
    print(json.dumps(ratios(found)))


if __name__ == "__main__":
    main()
