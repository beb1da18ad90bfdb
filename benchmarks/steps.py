"""How few passes do? `python benchmarks/steps.py --run RUN [RUN ...] --real DIR [--per-class N] [--seeds N] [--out FILE]`.

Trained runs generate the same images (class, seed) with each solver, number of steps and guidance interval; each set is judged against
real images that no run has seen, by class accuracy and KID. A row has the UNet's passes for an image, and a set for each run and seed, so
that whoever reads it sees what the seeds differ by. What is in the file already is not made again.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import fmean, stdev

HERE = Path(__file__).parent
WHOLE, NONE = (0.0, 1.0), (0.0, 0.0)  # guided in each step, and in none
ROWS = {  # solver -> steps -> intervals
    "dpmsolver++": {10: (WHOLE, (0.25, 1.0), (0.25, 0.75), NONE), 5: (WHOLE,), 20: (WHOLE, (0.25, 1.0), (0.25, 0.75), NONE)},
    "ddim": {25: (WHOLE, (0.25, 1.0), NONE), 50: (WHOLE,)},
}


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


def generate(pipe, steps, interval, seed, per_class, scale):
    "Images of each class, a class after the other."
    from defect_lora.model.pipeline import image_seed

    labels = [i for i in range(len(pipe.classes)) for _ in range(per_class)]
    seeds = [image_seed(seed, label, i % per_class) for i, label in enumerate(labels)]
    return pipe(labels, steps, scale, seeds=seeds, batch_size=16, guidance_interval=interval, progress=False).images, labels


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
    start = time.process_time()
    pipe = plain.fast() if row["solver"] == "dpmsolver++" else plain
    images, labels = generate(pipe, row["steps"], row["interval"], seed, args.per_class, args.scale[run])
    seconds = time.process_time() - start
    return dict(run=run, seed=seed, cpu_seconds=round(seconds, 1)) | judged(images, labels, pipe.classes, *known)


def rows():
    "What is compared."
    every = [(solver, steps, interval) for solver, counts in ROWS.items() for steps, many in counts.items() for interval in many]
    return [dict(solver=solver, steps=steps, interval=list(i), passes=passes(steps, i), sets=[]) for solver, steps, i in every]


def show(found):
    print(f"{'solver':14}{'steps':>6}  {'guided':12}{'passes':>7}{'own class':>18}{'KID':>8}")
    for row in found["rows"]:
        if row["sets"]:
            shares = [one["class_accuracy"] for one in row["sets"]]
            apart = f" +- {stdev(shares):.1%}" if len(shares) > 1 else ""
            guided = "none" if row["interval"] == list(NONE) else "{:g} to {:g}".format(*row["interval"])
            kid = fmean(one["kid"] for one in row["sets"])
            print(f"{row['solver']:14}{row['steps']:6}  {guided:12}{row['passes']:7}{fmean(shares):10.1%}{apart:>8}{kid:8.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="+", required=True)
    parser.add_argument("--real", required=True)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "steps.json")
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    from defect_lora.model.pipeline import DefectPipeline, find_model, read_training

    pipes = {Path(run).name: DefectPipeline.from_pretrained(run) for run in args.run}
    args.scale = {Path(run).name: read_training(find_model(run))["guidance_scale"] for run in args.run}
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
