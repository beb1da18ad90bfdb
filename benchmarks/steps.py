"""How few passes do? `python benchmarks/steps.py --run RUN --real DIR --out FILE [--per-class N] [--seeds N]`.

A trained run generates the same images (class, seed) with each solver, number of steps and guidance interval; each set is judged against
real images that the run has not seen. A row has the UNet's passes for an image, the seconds, and own-class accuracy and KID for each seed,
so that whoever reads it sees what the seeds differ by. Half an hour on two idle cores for the tiny base, 20 images a class and two seeds.
"""

import argparse
import json
import tempfile
import time
from itertools import product
from pathlib import Path

SOLVERS = {"ddim": (50, 25), "dpmsolver++": (25, 20, 15, 10)}
INTERVALS = ((0.0, 1.0), (0.0, 0.8), (0.2, 0.8), (0.2, 1.0))


def passes(steps, interval):
    "Predictions for an image: two in a guided step, one in another."
    return steps + sum(interval[0] <= step / steps < interval[1] for step in range(steps))


def measured(pipe, steps, interval, seed, args, guidance):
    "A set of images, judged."
    from defect_lora import Evaluator, generate_images

    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        generate_images(
            pipe,
            out,
            args.per_class,
            seed=seed,
            num_inference_steps=steps,
            guidance_scale=guidance,
            guidance_interval=interval,
            progress=False,
        )
        seconds = time.perf_counter() - start
        total = Evaluator(args.real, out).report().total
    return dict(seed=seed, seconds=round(seconds, 1), class_accuracy=total["class_accuracy"]["value"], kid=total["kid"]["value"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--real", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    from defect_lora.model.pipeline import DefectPipeline, find_model, read_training

    plain, rows = DefectPipeline.from_pretrained(args.run), []
    guidance = read_training(find_model(args.run))["guidance_scale"]
    for solver, counts in SOLVERS.items():
        pipe = plain.fast() if solver == "dpmsolver++" else plain
        for steps, interval in product(counts, INTERVALS):
            found = [measured(pipe, steps, interval, seed, args, guidance) for seed in range(args.seeds)]
            rows.append(dict(solver=solver, steps=steps, interval=interval, passes=passes(steps, interval), sets=found))
            print(json.dumps(rows[-1]), flush=True)
            args.out.write_text(json.dumps(dict(guidance_scale=guidance, per_class=args.per_class, rows=rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
