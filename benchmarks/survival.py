"""Kills a training run again and again and looks whether it notices: `python benchmarks/survival.py [--kills N] [--seed S] [--out FILE]`.

A run on the tiny base (nine classes, 64 px; samples, evaluations, early bests and a backup on the way) is trained once without
disturbance. Then the same run is trained in other folders, and its process is killed with SIGKILL: at a random instant, or at a random
one of its file operations, so that saves are hit from the inside. It is started again with the same call until it ends, killed on the
way as often as it happens. Every tensor of the last checkpoint (weights and the optimizer's memory), every loss, the model, the best
model, every picture and the backup's copies must equal the undisturbed run's.

The instants follow from --seed; where exactly a process is at that instant does not. The last line is `N kills, M different`; M counts
files and tensors.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from defect_lora.training import checkpoints
from defect_lora.training.backup import list_copies
from defect_lora.data.cables import write_cables
from defect_lora.training.config import TrainConfig, document_phases
from defect_lora.training.metrics import losses, read_metrics, validations
from defect_lora.training.trainer import Trainer


def make_config(folder, backup):
    "Twelve steps that save, sample, evaluate and keep a best."
    few = dict(per_class=2, samples_per_class=1, evaluate_per_class=2, held_out_per_class=1, num_inference_steps=2)
    often = dict(sample_every=2, evaluate_every=3, checkpointing_steps=2, checkpoints_total_limit=1, warmup_steps=2, patience=0)
    batch = dict(batch_size=8, gradient_accumulation_steps=2, gradient_checkpointing=False)
    return TrainConfig(
        base="tiny",
        data=str(folder / "data"),
        size=64,
        phases=[replace(phase, epochs=2, lr=1e-3) for phase in document_phases()],
        guidance_scale=2.0,
        backup=str(backup),
        backup_every=0,
        **few,
        **often,
        **batch,
    )


def in_a_child(work):
    "Run a function in a forked process; its number."
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def train(folder, name):
    "What a person's command does; quietly."
    sys.stderr = open(folder / "said.log", "a")
    Trainer(make_config(folder, folder / f"{name}_backup"), folder / name).fit()


def fuse(operations):
    "Count this process's file operations in the list that is returned; the last of so many kills it, before or after it is done."
    left, chance = [operations], random.Random(operations)

    def burning(stock):
        def operate(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0 and chance.random() < 0.5:
                os.kill(os.getpid(), signal.SIGKILL)
            done = stock(*args, **kwargs)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return operate

    for module, name in ((os, "rename"), (os, "replace"), (os, "fsync"), (shutil, "rmtree"), (checkpoints, "save_file")):
        setattr(module, name, burning(getattr(module, name)))
    return left


def train_counting(folder, name):
    "The undisturbed run; writes how many file operations it took."
    left = fuse(10**9)
    train(folder, name)
    (folder / "operations").write_text(str(10**9 - left[0]))


def disturbed(folder, name, chance, most, seconds, operations):
    "Train a run to its end, killing it at most so often within the undisturbed run's seconds or operations; how often it was killed."
    kills = 0
    while True:
        inside = chance.random() < 0.5
        last, instant = chance.randint(1, operations), chance.uniform(0, seconds)

        def work(inside=inside, kills=kills, last=last):
            if inside and kills < most:
                fuse(last)
            train(folder, name)

        child, deadline = in_a_child(work), time.monotonic() + instant
        while not inside and kills < most and time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.002)
        else:
            if not inside and kills < most:
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status):
                raise SystemExit(f"a run ended by itself, with an error: {(folder / 'said.log').read_text()[-2000:]}")
            return kills
        kills += 1


def differences(run, other):
    "What is not equal in two finished runs."
    found = []
    last = [(checkpoints.list_checkpoints(place / "checkpoints") or [path for _, path in list_copies(place)])[-1] for place in (run, other)]
    for name in ("model.safetensors", "optimizer.safetensors"):
        mine, theirs = (load_file(place / name) for place in last)
        found += [
            f"{name}: {key}"
            for key in sorted(mine.keys() | theirs.keys())
            if key not in mine or key not in theirs or not torch.equal(mine[key], theirs[key])
        ]
    told = [what_was_told(read_metrics(place / "metrics.jsonl")) for place in (run, other)]
    if told[0] != told[1]:
        found.append("metrics.jsonl")
    files = [
        {path.relative_to(place): path for pattern in ("epoch_*/*", "model/*", "best/*") for path in place.glob(pattern)}
        for place in (run, other)
    ]
    found += [
        str(name)
        for name in sorted(files[0].keys() | files[1].keys())
        if any(name not in f for f in files) or contents(files[0][name]) != contents(files[1][name])
    ]
    found += [str(path) for path in other.rglob(".*") if path.name != ".lock"]  # what a killed process left behind
    return found


def what_was_told(rows):
    "The losses and validations of a run, without their seconds."
    kinds = ("samples", "loss", "evaluation")
    return losses(rows), [{k: v for k, v in row.items() if k != "seconds"} for kind in kinds for row in validations(rows, kind)]


def contents(path):
    "A file's bytes; of safetensors the tensors' bytes and the metadata, whose order in the file is not fixed."
    if path.suffix != ".safetensors":
        return path.read_bytes()
    with safe_open(path, "pt") as file:
        return file.metadata(), {
            name: (str(tensor.dtype), tensor.shape, tensor.numpy().tobytes()) for name, tensor in load_file(path).items()
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="JSON file for the result")
    args = parser.parse_args()
    torch.set_num_threads(1)  # a forked process has no other threads
    folder = Path(tempfile.mkdtemp())
    os.environ["DEFECT_LORA_CACHE"] = str(folder / "cache")
    write_cables(folder / "data", per_class=3, seed=0, size=64)
    start = time.monotonic()
    _, status = os.waitpid(in_a_child(lambda: train_counting(folder, "whole")), 0)
    if status:
        raise SystemExit((folder / "said.log").read_text()[-2000:])
    seconds, operations = time.monotonic() - start, int((folder / "operations").read_text())
    chance, done, different, runs = random.Random(args.seed), 0, [], 0
    while done < args.kills:
        name = f"run_{runs}"
        done += disturbed(folder, name, chance, args.kills - done, seconds, operations)
        runs += 1
        found = differences(folder / "whole", folder / name) + [
            f"backup: {what}" for what in differences(folder / name, folder / f"{name}_backup")
        ]
        print(f"run {runs}: {done} kills so far, {len(found)} different {found[:3] or ''}", file=sys.stderr, flush=True)
        different += found
        shutil.rmtree(folder / name)
        shutil.rmtree(folder / f"{name}_backup")
    shutil.rmtree(folder)
    if args.out:
        args.out.write_text(json.dumps(dict(kills=done, runs=runs, different=len(different), seed=args.seed), indent=1) + "\n")
    print(f"{done} kills, {len(different)} different")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
