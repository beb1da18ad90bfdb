"""What each second of the demo is spent on: `python benchmarks/seconds.py [--threads 1 2] [--out FILE]`.

For each number of threads, in a process of its own, the commands of the demo: data, train, generate, evaluate, with few steps and images.
Counted are CPU seconds of the process and all of its threads, which other work on the machine changes less than the time on the wall.
A section has what is spent in it and not in another one inside. `whole` is what a section comes to in a whole demo, which has so many
times more steps and images. Of a training step and of a step of generating, shares by operation are torch.profiler's own time.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
EPOCHS, IMAGES = 2, 2  # of this training, and of each class
DEMO = dict(epochs=80, images=10, grids=4)  # of the demo; a grid has one image of each class
GROUPS = {  # kind of operation -> how their names begin
    "convolution": "aten::(mkldnn_|thnn_|slow_)?conv|aten::_slow_conv|aten::convolution_backward",
    "matrix product": "aten::(mm|addmm|bmm|baddbmm|linear|matmul)",
    "attention": "aten::_?(scaled|flash|efficient)",
    "norm": "aten::native_(group|layer)_norm",
    "optimizer": "aten::_fused_adam|aten::_foreach|Optimizer",
    "copying": "aten::(copy_|cat|clone|contiguous|upsample|_upsample|fill_|zero_|stack)",
    "elementwise": "aten::(add|mul|silu|gelu|sub|div|sum|sigmoid|pow|neg|threshold|where|mse)",
}


class Sections:
    "CPU seconds by section; those inside another count there alone."

    def __init__(self):
        self.seconds, self.calls, self.open, self.last = Counter(), Counter(), ["start"], time.process_time()

    def note(self):
        now = time.process_time()
        self.seconds[self.open[-1]] += now - self.last
        self.last = now

    @contextlib.contextmanager
    def section(self, name):
        "For the length of a with block."
        self.note()
        self.open.append(name)
        self.calls[name] += 1
        try:
            yield
        finally:
            self.note()
            self.open.pop()

    def wrap(self, owner, function, name):
        "From now on a function is a section."
        inner = getattr(owner, function)

        def timed(*args, **kwargs):
            with self.section(name):
                return inner(*args, **kwargs)

        setattr(owner, function, timed)


def watch(sections):
    "What is a section."
    import defect_lora.evaluation.evaluator as evaluator
    import defect_lora.evaluation.report as report
    import defect_lora.training.trainer as trainer
    from defect_lora.generation import image_set
    from defect_lora.model.pipeline import DefectPipeline
    from defect_lora.training.latents import LatentDataset
    from defect_lora.training.optimization import Updates

    for owner, function, name in (
        (trainer.Trainer, "save", "train: checkpoints"),
        (LatentDataset, "prepare", "train: encoding"),
        (LatentDataset, "batch", "train: batches"),
        (trainer, "diffusion_loss", "train: forward"),
        (trainer.Trainer, "backward", "train: backward"),
        (Updates, "step", "train: optimizer"),
        (DefectPipeline, "_denoise", "generate: UNet"),
        (DefectPipeline, "decode", "generate: decoding"),
        (image_set, "save_image", "generate: files"),
        (evaluator.Pixels, "rows", "evaluate: reading and features"),
        (evaluator, "find_copies", "evaluate: copies"),
        (evaluator, "find_repeated", "evaluate: copies"),
        (evaluator, "find_distinct", "evaluate: copies"),
        (evaluator, "measure_distances", "evaluate: distances"),
        (evaluator, "predict_classes", "evaluate: classifier"),
        (evaluator, "measure_faults", "evaluate: faults"),
        (report, "write_report", "evaluate: page"),
    ):
        sections.wrap(owner, function, name)


def run_commands(folder, sections):
    "The demo's commands, short."
    from defect_lora.cli import main

    def command(words):
        with sections.section(words.split()[0] + ": rest"):
            assert main(words.split()) == 0, words

    command(f"data --out {folder}/data --size 128 --per-class 10")
    command(
        f"train --data {folder}/data --out {folder}/run --base tiny --recipe tuned --batch-size 16 --gradient-accumulation-steps 1 "
        f"--epochs {EPOCHS} --sample-every 0 --evaluate-every 0"
    )
    command(f"generate --run {folder}/run --out {folder}/generated --per-class {IMAGES}")
    command(f"data --out {folder}/unseen --size 128 --per-class 40 --seed 1")
    command(f"data --out {folder}/fake --size 128 --per-class 10 --seed 2")  # what is judged costs the same, whatever it shows
    command(f"evaluate --real {folder}/unseen --fake {folder}/fake --out {folder}/report --run {folder}/run")


def operations(work):
    "The share of each kind of operation, by torch.profiler's own time on the CPU."
    from torch.profiler import ProfilerActivity, profile

    work()  # the first is slower
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        work()
    times = Counter()
    for row in profiler.key_averages():
        times[next((group for group, names in GROUPS.items() if re.match(names, row.key)), "rest")] += row.self_cpu_time_total
    return {name: round(value / sum(times.values()), 3) for name, value in times.most_common()}


def of_steps(folder):
    "Of a training step of 16 images, and of two steps of generating 9."
    from defect_lora import DefectPipeline, TrainConfig, Trainer

    pipe = DefectPipeline.from_pretrained(folder / "run")
    generating = operations(lambda: pipe(pipe.classes, 2, 2.0, seeds=range(9), output_type="latent", progress=False))
    config = TrainConfig.from_recipe("tuned", data=f"{folder}/data", base="tiny", batch_size=16, gradient_accumulation_steps=1)
    trainer = Trainer(config, folder / "again")
    trainer.data.prepare()
    return {"a training step": operations(lambda: trainer.train_step(trainer.plan[0])), "generating": generating}


def whole(name, seconds):
    "Seconds in the demo itself."
    if name in ("train: batches", "train: forward", "train: backward", "train: optimizer"):
        return seconds * DEMO["epochs"] / EPOCHS
    if name in ("generate: UNet", "generate: decoding", "generate: files"):
        return seconds * (DEMO["images"] + DEMO["grids"]) / IMAGES  # all of the same steps
    return seconds


def measure(threads):
    "In this process."
    sections = Sections()
    with sections.section("imports"):
        import torch

        import defect_lora.cli  # noqa: F401
        import defect_lora.training.trainer  # noqa: F401
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DEFECT_LORA_CACHE"] = f"{folder}/cache"
        watch(sections)
        run_commands(folder, sections)
        sections.note()
        found = {
            name: dict(seconds=round(value, 2), calls=sections.calls[name]) for name, value in sections.seconds.items() if value > 0.05
        }
        for name, row in found.items():
            row["whole"] = round(whole(name, row["seconds"]), 1)
        return dict(sections=found, operations=of_steps(Path(folder)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "seconds.json")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        return args.out.write_text(json.dumps(measure(args.alone)))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for threads in args.threads:
            part, environment = Path(folder) / "part.json", os.environ | dict(OMP_NUM_THREADS=str(threads), OMP_WAIT_POLICY="PASSIVE")
            subprocess.run([sys.executable, __file__, f"--alone={threads}", f"--out={part}"], check=True, env=environment)
            found[f"{threads} threads"] = json.loads(part.read_text())
            show(found[f"{threads} threads"], threads)
    args.out.write_text(json.dumps(found, indent=1) + "\n")


def show(found, threads):
    total = sum(row["whole"] for row in found["sections"].values())
    print(f"\n{threads} threads: {total:.0f} CPU seconds in a demo")
    for name, row in sorted(found["sections"].items(), key=lambda item: -item[1]["whole"]):
        print(f"  {name:32}{row['whole']:8.1f} s {row['whole'] / total:6.1%}")
    for name, shares in found["operations"].items():
        print(f"  {name}: " + ", ".join(f"{group} {share:.0%}" for group, share in shares.items()))


if __name__ == "__main__":
    main()
