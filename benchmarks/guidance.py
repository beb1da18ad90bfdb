"""What images of the hardest classes are taken for: `python benchmarks/guidance.py --run RUN [RUN ...] [--out FILE]`.

The same images (class, seed) by DPM-Solver++ in 12 steps, with other guidance scales, guided intervals and means under the first noise. A
classifier on the tiny features that has seen 200 rendered images of each class (as in nbs/studies/02_training.ipynb) says what each is.
Rows are kept by the seed that a run was trained with; what is in the file already stays.
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
ROWS = {  # name -> means, guidance scale, guided interval
    "scale 2": ("class", 2.0, (0.0, 1.0)),
    "scale 1": ("class", 1.0, (0.0, 1.0)),
    "scale 2 from .25": ("class", 2.0, (0.25, 1.0)),
    "scale 2 from .5": ("class", 2.0, (0.5, 1.0)),
    "scale 3 from .5": ("class", 3.0, (0.5, 1.0)),
    "mean of all, scale 2": ("all", 2.0, (0.0, 1.0)),
}


def other_means(means, kind):
    "(classes, channels, h, w): each class's own, the same for all, or without any place."
    every = {"class": means, "all": means.mean(0, keepdim=True), "colours": means.mean((2, 3), keepdim=True)}[kind]
    return every.expand_as(means).contiguous()


def rendered(folder, per_class, seed):
    "Features and class ids of rendered cables, which train the judge."
    import torch

    from defect_lora import DefectSpectrumDataset
    from defect_lora.data.cables import CLASSES, write_cables
    from defect_lora.data.layouts import labelled_images
    from defect_lora.evaluation.features import extract_features

    write_cables(folder, per_class=per_class, seed=seed, size=128)
    paths, names = labelled_images(DefectSpectrumDataset(folder, per_class=None, size=128))
    return extract_features(paths), torch.tensor([CLASSES.index(name) for name in names])


def taken_for(pipe, classes, count, row, judge):
    "class -> what its images are taken for -> how many."
    import torch

    from defect_lora.evaluation.classifier import predict_classes
    from defect_lora.evaluation.features import extract_features
    from defect_lora.model.pipeline import image_seed

    kind, scale, interval = row
    other = type(pipe).from_pipe(pipe, means=other_means(pipe.means, kind)).fast()
    ids = [pipe.classes.index(name) for name in classes for _ in range(count)]
    seeds = [image_seed(0, label, i % count) for i, label in enumerate(ids)]
    images = other(ids, 12, scale, seeds=seeds, batch_size=16, guidance_interval=interval, progress=False).images
    predicted, _ = predict_classes(*judge, extract_features(images), torch.tensor(ids), len(pipe.classes))
    found = {name: Counter() for name in classes}
    for label, given in zip(ids, predicted.tolist()):
        found[pipe.classes[label]][pipe.classes[given]] += 1
    return {name: dict(counts.most_common()) for name, counts in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="+", required=True)
    parser.add_argument("--classes", nargs="+", default=["missing_wire", "bent_wire"])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--count", type=int, default=10, help="images of each class")
    parser.add_argument("--judge", type=int, default=200, help="rendered images of each class that the judge has seen")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "guidance.json")
    args = parser.parse_args()
    from defect_lora.model.pipeline import DefectPipeline

    found = json.loads(args.out.read_text()) if args.out.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        judge = rendered(Path(folder) / "judge", args.judge, 1000)
    for run in args.run:
        pipe, seed = DefectPipeline.from_pretrained(run), json.loads((Path(run) / "config.json").read_text())["seed"]
        mine = found.setdefault(f"seed {seed}", {})
        for name in args.rows:
            if name not in mine:
                mine[name] = taken_for(pipe, args.classes, args.count, ROWS[name], judge)
                print(seed, name, json.dumps(mine[name]), flush=True)
                args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
