"""How few passes do? `python benchmarks/steps.py --run RUN [RUN ...] --real DIR [--per-class N] [--seeds N] [--out FILE]`.

Trained runs generate the same images (class, seed) with each solver, number of steps and guidance interval, and with the UNet's deep
blocks computed in every second or third step alone and remembered between (DeepCache, Ma et al. 2023); each set is judged against real
images that no run has seen, by class accuracy and KID. A row has the UNet's passes for an image, and a set for each run and seed, so that
whoever reads it sees what the seeds differ by. What is in the file already is not made again.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import fmean, stdev

HERE = Path(__file__).parent
BATCH = 16
WHOLE, NONE = (0.0, 1.0), (0.0, 0.0)  # guided in each step, and in none
ROWS = [  # solver, steps, guided interval, deep blocks in every so many steps
    ("dpmsolver++", 10, WHOLE, 1),
    ("dpmsolver++", 10, (0.15, 1.0), 1),
    ("dpmsolver++", 10, (0.5, 1.0), 1),
    ("dpmsolver++", 10, NONE, 1),
    ("dpmsolver++", 10, WHOLE, 2),
    ("dpmsolver++", 5, WHOLE, 1),
    ("dpmsolver++", 20, WHOLE, 1),
    ("dpmsolver++", 20, WHOLE, 3),
    ("ddim", 25, WHOLE, 1),
]


def passes(steps, interval):
    "Predictions for an image: two in a guided step, one in another."
    return steps + sum(interval[0] <= step / steps < interval[1] for step in range(steps))


def known_features(folder):
    "Features and class names of real images."
    from defect_lora import DefectSpectrumDataset
    from defect_lora.data.layouts import labelled_images
    from defect_lora.evaluation.features import extract_features

    paths, names = labelled_images(DefectSpectrumDataset(folder, per_class=None))
    return extract_features(paths), list(names)


def generate(pipe, row, seed, per_class, scale):
    "Images of each class, a class after the other."
    from defect_lora.model.pipeline import image_seed

    labels = [i for i in range(len(pipe.classes)) for _ in range(per_class)]
    seeds = [image_seed(seed, label, i % per_class) for i, label in enumerate(labels)]
    how = dict(guidance_interval=tuple(row["interval"]), cache_interval=row["deep_every"], batch_size=BATCH, progress=False)
    return pipe(labels, row["steps"], scale, seeds=seeds, **how).images, labels


def judged(images, labels, classes, real, names):
    "Own-class share in all and per class, and KID."
    import torch

    from defect_lora.evaluation.classifier import predict_classes
    from defect_lora.evaluation.distances import measure_distances
    from defect_lora.evaluation.features import extract_features

    fake, labels = extract_features(images), torch.tensor(labels)
    real_labels = torch.tensor([classes.index(name) for name in names])
    hit = predict_classes(real, real_labels, fake, labels, len(classes))[0] == labels
    kid = measure_distances(real, fake, real_labels, labels, ("kid",))["kid"]["value"]
    per_class = {name: round(hit[labels == i].double().mean().item(), 3) for i, name in enumerate(classes)}
    return dict(class_accuracy=round(hit.double().mean().item(), 4), kid=round(kid, 2), per_class=per_class)


def measured(plain, row, run, seed, args, known):
    "A set of images, judged."
    from defect_lora.model.base import SOLVERS, make_scheduler

    start = time.process_time()
    pipe = plain.from_pipe(plain, scheduler=make_scheduler(plain.scheduler.config, SOLVERS[row["solver"]]))
    images, labels = generate(pipe, row, seed, args.per_class, args.scale[run])
    seconds = time.process_time() - start
    return dict(run=run, seed=seed, cpu_seconds=round(seconds, 1)) | judged(images, labels, pipe.classes, *known)


def rows():
    "What is compared."
    names = ("solver", "steps", "interval", "deep_every")
    return [dict(zip(names, row, strict=True)) | dict(passes=passes(*row[1:3]), sets=[]) for row in ROWS]


def show(found):
    print(f"{'solver':14}{'steps':>6}  {'guided':12}{'deep in':>8}{'passes':>7}{'own class':>18}{'KID':>14}{'CPU':>7}")
    for row in found["rows"]:
        if row["sets"]:
            guided = "none" if list(row["interval"]) == list(NONE) else "{:g} to {:g}".format(*row["interval"])
            share, kid, seconds = ([one[name] for one in row["sets"]] for name in ("class_accuracy", "kid", "cpu_seconds"))
            apart = (f" +- {stdev(share):.1%}", f" +- {stdev(kid):.0f}") if len(share) > 1 else ("", "")
            how = f"{row['solver']:14}{row['steps']:6}  {guided:12}{'1 of ' + str(row['deep_every']):>8}{row['passes']:7}"
            print(f"{how}{fmean(share):10.1%}{apart[0]:>8}{fmean(kid):8.1f}{apart[1]:>6}{fmean(seconds):7.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="+", required=True)
    parser.add_argument("--real", required=True)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "steps.json")
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    from defect_lora.model.pipeline import DefectPipeline, find_model, read_training

    seeds = {json.loads((Path(run) / "config.json").read_text())["seed"]: run for run in args.run}  # a run is known by its seed
    pipes = {seed: DefectPipeline.from_pretrained(run) for seed, run in seeds.items()}
    args.scale = {seed: read_training(find_model(run))["guidance_scale"] for seed, run in seeds.items()}
    known, found = known_features(args.real), dict(guidance_scale=args.scale, per_class=args.per_class, rows=rows())
    if args.out.exists():
        found = json.loads(args.out.read_text())
    for seed in range(args.seeds):
        for row in found["rows"]:
            for run, pipe in pipes.items():
                if (run, seed) not in [(one["run"], one["seed"]) for one in row["sets"]]:
                    row["sets"].append(measured(pipe, row, run, seed, args, known))
                    args.out.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


if __name__ == "__main__":
    main()
