"""What painting costs beside generating: `python benchmarks/painting.py [--steps N] [--images N] [--rounds N]`.

The same number of images of the same class, with the same model, solver, steps and guidance, in turn; painting also makes the label. A
photograph is encoded when it is first painted into; a set, which paints into each photograph many times, keeps that. The last line has
the ratios of the medians, painting over generating, for new photographs and for such that were painted into before. The tiny base, a
CPU.
"""

import argparse
import json
import time
from statistics import median

import numpy as np


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="denoising steps")
    parser.add_argument("--images", type=int, default=4, help="in a round, all in one batch")
    parser.add_argument("--rounds", type=int, default=5, help="of both, in turn")
    args = parser.parse_args()
    from defect_lora.model.base import load_base
    from defect_lora.data.cables import CLASSES, render_pair
    from defect_lora.generation.painting import encode_photograph, paint_images
    from defect_lora.model.pipeline import WHOLE, DefectPipeline
    from defect_lora.model.unet import ClassConditionedUNet

    base = load_base("tiny")
    pipe = DefectPipeline(ClassConditionedUNet(base.unet, len(CLASSES)).eval(), base.vae, base.scheduler, CLASSES, base.name).fast()
    good, _, masks = zip(*(render_pair("missing_cable", i, 128) for i in range(args.images)))
    masks, labels, seeds = [np.asarray(mask) > 0 for mask in masks], ["missing_cable"] * args.images, list(range(args.images))
    same = dict(seeds=seeds, progress=False, guidance_interval=WHOLE)
    work = {
        "generating": lambda: pipe(labels, args.steps, 5.0, seeds=seeds, negative_class="good", progress=False),
        "painting": lambda: paint_images(pipe, list(good), masks, labels, args.steps, 5.0, **same),
        "again": lambda: paint_images(pipe, list(good), masks, labels, args.steps, 5.0, encoded=encoded, **same),
    }
    encoded, found = [encode_photograph(pipe, image) for image in good], {name: [] for name in work}
    for turn in range(args.rounds + 1):
        for name, do in work.items():
            seconds = timed(do)
            if turn:  # the first warms up
                found[name].append(seconds)
                print(f"{name:12} {seconds / args.images:.3f} s an image")
    ratio = {name: round(median(times) / median(found["generating"]), 3) for name, times in found.items()}
    print(json.dumps(dict(painting_vs_generating=ratio["painting"], again_vs_generating=ratio["again"])))


if __name__ == "__main__":
    main()
