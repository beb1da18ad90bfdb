"""
Does a longer training of the generator change what its images are worth? On the pilots' seeds, with three real images a class.

    python nbs/studies/help/updates.py --work DIR --updates 30 200

For each number of updates, in a folder of its own beside the benchmark's sets: how many painted pairs a judge with 25 images of each class
names right, and the accuracy of both classifiers with them, alone and beside the pasted ones. It goes on where it was stopped, and rebuilds
nbs/studies/results/help_updates.json.
"""

import argparse
import json
from pathlib import Path

import benchmark as b
import torch

from defect_lora.data.cables import CLASSES, write_cables
from defect_lora.data.dataset import DefectSpectrumDataset
from defect_lora.data.files import write_atomically
from defect_lora.evaluation.features import load_features
from defect_lora.usefulness.classification import FeatureClassifier
from defect_lora.usefulness.fitting import make_arms

IMAGES, RESULTS = 3, b.RESULTS.with_name("help_updates.json")
IDS = {name: i for i, name in enumerate(CLASSES)}


def beside(work, updates):
    "A folder that shares all but what follows from the generator."
    folder = work / f"updates_{updates}"
    for name in ("few", "good", "test"):
        (work / name).mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            folder.mkdir(exist_ok=True)
            (folder / name).symlink_to((work / name).resolve())
    return folder


def named(paths_and_ids, work, features):
    "The share that a judge names right; it is trained on images that nothing else sees."
    folder = work / "judge"
    truth = DefectSpectrumDataset(
        b.write_once(folder, lambda: write_cables(folder, per_class=25, seed=77_777, size=b.SIZE)), per_class=None
    )
    known = [s.path for s in truth.samples], [s.label for s in truth.samples]
    given = features(make_arms(known, known)["real"], paths_and_ids[0], len(CLASSES), 0)
    return float((given == torch.tensor(paths_and_ids[1])).double().mean())


def measured(seed, updates, painted, work, features):
    "One row."
    options = b.parse(f"--images {IMAGES} --updates {updates} --painted {painted} --tries 1 --work".split() + [str(beside(work, updates))])
    leg = b.Leg(IMAGES, seed, options.work, options)
    paths, names = b.labelled_images(leg.sources.folder("painted"), None)
    scores = {f"frozen, {arm}": leg.cell("frozen", arm, "half") for arm in ("real", "paste", "ours painted", b.PILOTED)}
    scores |= {f"small, {arm}": leg.cell("small", arm, use) for arm, use in (("real", "half"), ("paste", "union"), (b.PILOTED, "union"))}
    return dict(named=named((list(paths), [IDS[name] for name in names]), work, features)) | scores


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--updates", type=int, nargs="+", default=[30, 200])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(b.PILOTS))
    parser.add_argument("--painted", type=int, default=5, help="pairs of a class")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    features = FeatureClassifier(load_features("tiny"), views=2)
    rows = json.loads(options.results.read_text()) if options.results.exists() else []
    for seed in options.seeds:
        for updates in options.updates:
            if not any((row["seed"], row["updates"], row["painted"]) == (seed, updates, options.painted) for row in rows):
                found = measured(seed, updates, options.painted, options.work, features)
                rows.append(
                    dict(seed=seed, updates=updates, painted=options.painted) | {name: round(100 * of, 1) for name, of in found.items()}
                )
                write_atomically(options.results, json.dumps(rows, indent=1) + "\n")
                print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
