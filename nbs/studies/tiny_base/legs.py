# %% [markdown]
# # Legs
# > What the legs that pre-train a tiny base share: rendered shards, a pool of pictures on the device, clocks, averages
#
# A leg takes `--device cpu|cuda`, `--minutes` (or `--steps`), `--out` and `--from`. It can be stopped at any time: it saves every so often
# and at its end, and `--from` goes on with what was saved, with a fresh optimizer.

# %%
import argparse
import json
import math
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import world
from PIL import Image
from safetensors.torch import load_file, save_file

SHARD, HELD_OUT = 500, 10_000_000  # scenes to a shard; shards from HELD_OUT on are never trained on
START = time.time()


def say(*words):
    print(f"[{time.time() - START:6.1f}]", *words, flush=True)


# %% [markdown]
# ## Shards
# Shard k holds the scenes 500 k to 500 k + 499: pictures, and a row of the told words and of all words for each.


# %%
def write_shard(path, numbers):
    "The scenes of these numbers in one file, whole or not at all."
    scenes = [world.scene(i) for i in numbers]
    for _, told, _ in scenes:
        world.check(told)
    rows = {key: np.stack([world.row(scene[i]) for scene in scenes]) for i, key in ((1, "told"), (2, "said"))}
    part = path.with_suffix(f".{os.getpid()}.part")
    with open(part, "wb") as file:
        np.savez(file, pictures=np.stack([scene[0] for scene in scenes]), **rows)
    os.replace(part, path)


def render_shard(folder, k):
    path = Path(folder) / f"{k:08d}.npz"
    if not path.exists():
        write_shard(path, range(k * SHARD, (k + 1) * SHARD))


def render(folder, worker, workers, limit=10**9):
    "Render every `workers`-th shard until a file `stop` appears; the first two workers render the held-out shards first."
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if worker < 2:
        render_shard(folder, HELD_OUT + worker)
    for k in range(worker, limit, workers):
        if (folder / "stop").exists():
            break
        render_shard(folder, k)


def shards(folder, held_out=False):
    "The shards to train on, or those held out, in order."
    return [path for path in sorted(Path(folder).glob("*.npz")) if (int(path.stem) >= HELD_OUT) == held_out]


def read_shard(path, device):
    "Pictures, told words and all words of a shard."
    with np.load(path) as shard:
        return {key: torch.from_numpy(shard[key]).to(device) for key in shard.files}


def held_out(folder, device):
    "Held-out pictures (n, 3, size, size) in -1..1, told words, all words."
    parts = [read_shard(path, device) for path in shards(folder, held_out=True)]
    pictures, told, said = (torch.cat([part[key] for part in parts]) for key in ("pictures", "told", "said"))
    return as_input(pictures), told, said


class Pool:
    "Pictures and words of the shards in a folder, on a device; `refresh` takes in what was rendered since."

    def __init__(self, folder, device, capacity, least):
        self.folder, self.device, self.capacity, self.count, self.seen = Path(folder), device, capacity, 0, set()
        self.pictures = torch.empty(capacity, world.SIZE, world.SIZE, 3, dtype=torch.uint8, device=device)
        self.said = torch.zeros(capacity, len(world.WORDS), dtype=torch.uint8, device=device)
        while self.refresh() < min(least, capacity):
            time.sleep(0.5)
        say(f"{self.count} pictures")
        threading.Thread(target=self._keep_fresh, daemon=True).start()

    def refresh(self, most=10**9):
        "Take in at most so many new shards; returns the number of pictures."
        for path in [path for path in shards(self.folder) if path.stem not in self.seen][:most]:
            shard = read_shard(path, self.device)
            rows = slice(self.count, self.count + len(shard["pictures"]))
            if rows.stop > self.capacity:
                break
            self.pictures[rows], self.said[rows] = shard["pictures"], shard["said"]
            self.seen.add(path.stem)
            self.count = rows.stop
        return self.count

    def _keep_fresh(self, every=2.0):
        while True:
            time.sleep(every)
            try:
                self.refresh(20)
            except Exception as error:  # the leg goes on with what it has
                say("refresh:", error)


def as_input(pictures):
    return pictures.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def as_images(x):
    return [Image.fromarray(p) for p in x.float().clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()]


def sheet(path, images, columns):
    width, height = images[0].size
    out = Image.new("RGB", (columns * width, math.ceil(len(images) / columns) * height))
    for i, image in enumerate(images):
        out.paste(image, (i % columns * width, i // columns * height))
    out.save(path)


# %% [markdown]
# ## Clocks and averages
# A leg ends after `--minutes`, or after `--steps` where that is given.


# %%
class Clock:
    def __init__(self, minutes, steps):
        self.start, self.seconds, self.steps = time.time(), 60 * minutes, steps

    def spent(self):
        return time.time() - self.start

    def done(self, step):
        "The share of the way that is over, 0 to 1."
        return min(1.0, step / self.steps if self.steps else self.spent() / max(1e-6, self.seconds))


class Now:
    "True once in so many seconds."

    def __init__(self, every):
        self.every, self.last = every, time.time()

    def __call__(self):
        if time.time() - self.last < self.every:
            return False
        self.last = time.time()
        return True


def set_rate(optimizer, peak, step, done, warm, flat=0.0):
    "A warm-up of some steps, a plateau for a share of the time, then half a cosine."
    k = max(0.0, done - flat) / (1 - flat)
    for group in optimizer.param_groups:
        group["lr"] = peak * min(1, (step + 1) / warm) * (0.5 + 0.5 * math.cos(math.pi * k)) + 1e-6


class Average:
    "Exponential moving average of a module's parameters; inside `with`, the module has the average's."

    def __init__(self, module):
        self.of, self.kept = list(module.parameters()), [p.detach().clone() for p in module.parameters()]

    def update(self, decay):
        torch._foreach_lerp_(self.kept, [p.detach() for p in self.of], 1 - decay)

    @torch.no_grad()
    def _swap(self):
        for parameter, kept in zip(self.of, self.kept):
            before = parameter.detach().clone()
            parameter.copy_(kept)
            kept.copy_(before)

    def __enter__(self):
        self._swap()

    def __exit__(self, *error):
        self._swap()


# %% [markdown]
# ## Files and arguments


# %%
def write(path, module, half=False):
    "A module's parameters as a safetensors file, whole or not at all."
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: (v.half() if half and v.is_floating_point() else v).detach().cpu().contiguous() for k, v in module.state_dict().items()}
    save_file(tensors, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def read(path, module):
    "Load what `write` wrote."
    module.load_state_dict({k: v.float() for k, v in load_file(path).items()})


def note(path, options, **facts):
    "A line of JSON at a file's end: what a leg was given, and what it did."
    with open(path, "a") as file:
        file.write(json.dumps(facts | dict(options=vars(options))) + "\n")


def leg_arguments(**more):
    "The arguments that all legs take and a leg's own, with their defaults; seeds torch."
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=0, help="end after so many steps instead")
    parser.add_argument("--out", default="out")
    parser.add_argument("--from", dest="begin", default=None, help="a folder that a leg wrote to: go on from there")
    parser.add_argument("--shards", default="shards")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", type=int, default=None, help="1 or 0; as it is left, on CUDA alone")
    for key, value in more.items():
        parser.add_argument(f"--{key}", type=type(value), default=value)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    if is_cuda(options):
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    Path(options.out).mkdir(parents=True, exist_ok=True)
    return options


def is_cuda(options):
    return options.device.startswith("cuda")


def half_precision(options):
    "bfloat16 where that is fast."
    return torch.autocast(options.device.split(":")[0], torch.bfloat16, enabled=is_cuda(options))


def compiled(function, options):
    "The function, compiled where that is wanted; what the compiler cannot take runs as it is."
    if not (is_cuda(options) if options.compile is None else options.compile):
        return function
    torch._dynamo.config.suppress_errors = True
    return torch.compile(function, dynamic=False)


def adamw(parameters, rate, options, **more):
    return torch.optim.AdamW(parameters, lr=rate, fused=is_cuda(options), **more)


def descend(loss, optimizer, parameters):
    "One step along a loss' gradient, clipped."
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


# %% [markdown]
# ## Measures


# %%
def psnr(r, x):
    return 10 * math.log10(4 / F.mse_loss(r.float(), x.float()).item())


def laplacian(x):
    "Mean absolute Laplacian of the grey picture, one number a picture."
    grey = (x.float() * torch.tensor([0.299, 0.587, 0.114], device=x.device)[:, None, None]).sum(1)
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (4 * grey[:, 1:-1, 1:-1] - around).abs().mean((1, 2))


# %%
if __name__ == "__main__":
    if len(sys.argv) < 5 or sys.argv[1] != "render":
        sys.exit("usage: legs.py render FOLDER WORKER WORKERS [LIMIT], where WORKER is 0 to WORKERS - 1 and LIMIT ends the shards")
    render(sys.argv[2], *map(int, sys.argv[3:6]))
