"""What a user does on a T4, with Stable Diffusion 1.5's geometry at 512 px: each case gives rows of what the device counted."""

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image

import defect_lora.model.pipeline as pipeline_module
import defect_lora.training.trainer as trainer_module
from defect_lora.model.base import Base
from defect_lora.model.pipeline import DefectPipeline
from defect_lora.model.scopes import TARGETS
from defect_lora.model.unet import ADAPTERS, ClassConditionedUNet
from defect_lora.training.config import Phase, TrainConfig
from defect_lora.training.latents import _Moments

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from speed import SD15_VAE  # noqa: E402

UNET, VAE = dict(sample_size=64, cross_attention_dim=768), SD15_VAE
CLASSES = [f"class_{i}" for i in range(8)] + ["good"]
SIZE, DEVICE, PIECES = (
    512,
    "cuda",
    2,
)  # of an update's pieces the first two run: more take what the second takes; benchmarks/gpu.py has others


def sd15(dtype=torch.float32):
    "Stable Diffusion 1.5 without its weights."

    def vae():
        return AutoencoderKL(**VAE).to(dtype).eval().requires_grad_(False)

    unet = UNet2DConditionModel(**UNET).to(dtype).eval().requires_grad_(False)
    return Base("sd15", unet, vae(), _scheduler(), SIZE, "sd15", vae)


def _scheduler():
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )


def _load_base(name, dtype=torch.float32, **hub):
    return sd15(dtype)


class Photographs:
    "Ninety photographs of nine classes."

    classes = CLASSES

    def __len__(self):
        return 90

    def __getitem__(self, i):
        return dict(pixel_values=torch.zeros(3, SIZE, SIZE), class_labels=i % 9)


def _moments(count):
    shape = (count, 2, 4, SIZE // 8, SIZE // 8)
    return _Moments(torch.zeros(shape), torch.zeros(shape), torch.zeros(count, 2, *shape[-2:]), torch.zeros(count, dtype=torch.long))


@contextlib.contextmanager
def _trainer(recipe, **fields):
    "A trainer whose photographs are encoded already, and whose checkpoints stay in memory."
    kept = []
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(trainer_module, "load_base", _load_base):
        config = TrainConfig.from_recipe(recipe, **dict(base="sd15", data="photographs") | fields)
        trainer = trainer_module.Trainer(config, Path(folder) / "run", dataset=Photographs())
        trainer.data.moments, trainer.data.held_out = _moments(90), _moments(36)
        trainer.data.__dict__["digest"] = "photographs"
        trainer.base.release_vae()
        trainer.save = lambda best_step=None: kept.append(
            (_copies(trainer.updates.tensors()), trainer.updates.state() | dict(step=trainer.step))
        )
        trainer.folder.restore = lambda identity, device: kept[-1] if kept else None
        whole = trainer.microbatches.pieces
        trainer.microbatches.pieces = lambda length: whole(length)[: PIECES and trainer.some]
        trainer.some, trainer.parts = 1, lambda: len(whole(trainer.config.effective_batch))
        yield trainer
        trainer._leave()


def _copies(tensors):
    "On the CPU, as a checkpoint is: on the device they would count as the run's."
    return {part: {name: value.detach().to("cpu", copy=True) for name, value in values.items()} for part, values in tensors.items()}


def _first_step(trainer, phase):
    return next(step for step in range(len(trainer.plan)) if trainer.plan[step].phase == phase)


def train(t4, recipe, **fields):
    "Preflight, and an update in each phase: in the last a second one, in pieces, with gradients and the optimizer's memory there."
    with _trainer(recipe, **fields) as trainer:
        t4.reset()
        said = trainer.preflight()
        yield "preflight", t4.row() | dict(said=said)
        for phase in trainer.config.phases:
            trainer.step = _first_step(trainer, phase)
            t4.reset()
            if phase == trainer.config.phases[-1]:
                trainer._attempt()
                trainer.some = PIECES
                t4.forget_work()
            trainer._attempt()
            micro, parts = trainer.microbatches.current, trainer.parts()
            times = parts / min(parts, trainer.some) if PIECES else 1
            yield phase.name, t4.row(times) | dict(images=micro.batch_size, checkpointing=micro.checkpointing)


def resume(t4):
    "A run goes on from its checkpoint in the last phase, and samples."
    with _trainer("tuned", gradient_checkpointing=False) as trainer:
        trainer.folder.open()
        trainer._attempt()
        trainer.save()
        t4.reset()
        trainer._resume()
        trainer._attempt()
        yield "resume", t4.row()


def out_of_memory(t4):
    "The optimizer finds no room in its step, and then there is."
    with _trainer("document", batch_size=4, gradient_accumulation_steps=1, gradient_checkpointing=False, fit_memory=False) as trainer:
        trainer.folder.open()
        optimizer, calls = trainer.updates.optimizer, []
        step = optimizer._optimizer_patched_step_method

        def full(*args, **kwargs):
            calls.append(1)
            if len(calls) == 1:
                raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")
            return step(*args, **kwargs)

        optimizer._optimizer_patched_step_method = full
        t4.reset()
        trainer._attempt()
        yield "update", t4.row() | dict(images=trainer.microbatches.current.batch_size, calls=len(calls))


def validate(t4, recipe):
    "What training is looked at by: samples, the loss on held-out photographs."
    with _trainer(recipe, gradient_checkpointing=False) as trainer:
        trainer.folder.open()
        trainer._attempt()
        t4.reset()
        images = trainer.validator.generate([i % 9 for i in range(8)], list(range(8)))
        config = trainer.config
        settings = dict(steps=config.num_inference_steps, solver=config.solver, interval=list(config.guidance_interval))
        work = trainer.plan.work(9)
        yield "samples", t4.row() | dict(images=len(images), whole_run=work["images"], training_passes=work["train"], **settings)
        t4.reset()
        trainer.validator.held_out_loss()
        yield "held-out loss", t4.row()


@contextlib.contextmanager
def _saved(rank=32, alpha=32, targets="all"):
    "The folder of a trained model, whose weights have no data."
    unet = dict(num_classes=9, rank=rank, alpha=alpha, dropout=0.0, target_modules=list(TARGETS[targets]), tokens=1, condition_dropout=0.1)
    config = dict(base="sd15", classes=CLASSES, size=SIZE, unet=unet, scheduler=dict(_scheduler().config))
    patches = (
        mock.patch.object(pipeline_module, "load_base", _load_base),
        mock.patch.object(ClassConditionedUNet, "load_adapters", lambda self, folder: self),
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        (Path(folder) / "model").mkdir()
        (Path(folder) / "model" / "config.json").write_text(json.dumps(config))
        (Path(folder) / "model" / ADAPTERS).touch()
        yield Path(folder)


def generate(t4, images, **model):
    "A pipeline as a notebook loads it: two steps, the same with a cache interval of two, and decoding."
    with _saved(**model) as folder:
        pipe = DefectPipeline.from_pretrained(folder, device=DEVICE)
        labels, seeds = [i % 9 for i in range(images)], list(range(images))
        t4.reset()
        latents = pipe(labels, num_inference_steps=2, seeds=seeds, progress=False, output_type="latent").images
        yield "two steps", t4.row() | dict(images=images)
        t4.reset()
        pipe(labels, num_inference_steps=2, seeds=seeds, progress=False, output_type="latent", cache_interval=2)
        yield "two steps, one remembered", t4.row() | dict(images=images)
        t4.reset()
        with torch.no_grad():
            pipe.decode(latents, "pil")
        yield "decode", t4.row() | dict(images=images)


def command(t4):
    "The command generate, with two steps."
    from defect_lora.cli import main

    with _saved() as folder, tempfile.TemporaryDirectory() as out:
        t4.reset()
        code = main(["generate", "--run", str(folder), "--out", out, "--per-class", "1", "--num-inference-steps", "2"])
        rows = [json.loads(line) for line in (Path(out) / "manifest.jsonl").read_text().splitlines()]
        yield "two steps", t4.row() | dict(code=code, images=len(rows), dtype=rows[0].get("dtype"))


def trained_pipeline(t4, scope):
    "The pipeline that training returns, outside of the trainer."
    with _trainer("document", phases=[Phase("all", 4, 1e-5, scope)]) as trainer:
        trainer.folder.open()
        trainer._attempt()
        trainer.updates.optimizer.optimizer.state.clear()
        t4.reset()
        trainer.pipeline([0, 1, 2, 3], num_inference_steps=2, seeds=[0, 1, 2, 3], progress=False)
        yield "two steps", t4.row() | dict(images=4)


def paint(t4):
    "Defects painted into photographs of 1024 px."
    import defect_lora.generation.painting as painting_module
    from defect_lora.generation.painting import paint_images

    mask = np.zeros((1024, 1024), bool)
    mask[300:600, 300:500] = True
    window = (slice(16, 48), slice(16, 48))
    with _saved() as folder, mock.patch.object(painting_module, "_window_around", lambda inside: window):
        pipe = DefectPipeline.from_pretrained(folder, device=DEVICE)
        t4.reset()
        paint_images(pipe, [Image.new("RGB", (1024, 1024))] * 8, [mask] * 8, [0], 2, seeds=list(range(8)), progress=False)
        yield "two steps", t4.row() | dict(images=8)


def encode(t4):
    "A photograph and its flip, as training encodes them."
    from defect_lora.training.latents import ImageEncoder

    base = sd15()
    t4.reset()
    ImageEncoder(base.restore_vae(DEVICE), DEVICE, keep=False)(torch.zeros(3, SIZE, SIZE))
    yield "photograph", t4.row()


def features(t4):
    "What an evaluation looks at images with."
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from defect_lora.evaluation.features import Features, TinyFeatures, extract_features, square_pixels

    images = [Image.new("RGB", (SIZE, SIZE))] * 32
    tiny = TinyFeatures().to(DEVICE).eval()
    t4.reset()
    extract_features(images, Features("tiny", lambda image: square_pixels(image, 128), lambda batch: tiny(batch.to(DEVICE))))
    yield "tiny", t4.row()
    config = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336, patch_size=14
    )
    clip = CLIPVisionModelWithProjection(config).to(DEVICE).eval()

    def network(batch):
        return clip(pixel_values=batch.to(DEVICE)).image_embeds

    t4.reset()
    extract_features(images, Features("clip", lambda image: torch.zeros(3, 336, 336), network))
    yield "clip", t4.row()


CASES = {  # name -> a function of the T4 that gives rows
    "document": lambda t4: train(t4, "document"),
    "tuned": lambda t4: train(t4, "tuned"),
    "scope decoder+base": lambda t4: train(t4, "document", phases=[Phase("decoder and base", 4, 1e-5, "decoder+base")]),
    "scope all+base": lambda t4: train(t4, "document", phases=[Phase("all and base", 4, 1e-5, "all+base")]),
    "document, 6 GiB": lambda t4: train(t4, "document", memory=6.0),
    "tuned, 6 GiB": lambda t4: train(t4, "tuned", memory=6.0),
    "pipeline decoder+base": lambda t4: trained_pipeline(t4, "decoder+base"),
    "resume": resume,
    "out of memory": out_of_memory,
    "validate tuned": lambda t4: validate(t4, "tuned"),
    "generate 8": lambda t4: generate(t4, 8),
    "generate 16": lambda t4: generate(t4, 16),
    "generate 16, document": lambda t4: generate(t4, 16, rank=8, alpha=16, targets="attention"),
    "command generate": command,
    "paint 8": paint,
    "encode": encode,
    "features": features,
}


def measure(t4, name):
    "The rows of a case; what it raises is one."
    rows = {}
    try:
        for row, found in CASES[name](t4):
            rows[row] = found
    except Exception as error:
        rows["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return rows
