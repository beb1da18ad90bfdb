"""
Where should the threshold of a detector lie that has seen good parts alone? On rendered cables, whose truth is known.

    python nbs/studies/help/threshold.py --seeds 10 --work DIR

The legs are those of benchmark.py, and so is DIR: ten real images of a class, 30 good parts, 180 test images, and what rules and the tiny
base make of them. The detector remembers eight or all of the good parts; its threshold is set by them alone, by each synthetic set, or by
the real defects. Beside it stands a classifier of the same real images and good parts, asked for good or not. A gain is in points of
balanced accuracy over the good parts alone, with Student's interval over the seeds. About three minutes of a core for a seed whose sets
are there, one more for the painted ones. It goes on where it was stopped, and writes nbs/studies/results/help_threshold.json.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean

import torch
from benchmark import CLASSES, USES, Leg, few, goods, held_out, interval, rounded
from benchmark import parse as parse_benchmark

from defect_lora.data.files import write_atomically
from defect_lora.usefulness.detection import errors_at, measure_detection

IMAGES, PARTS = 10, (8, 30)  # real ones of a class; good parts that the detector remembers
ALONE, SUPERVISED = "good parts alone", "a classifier instead"
SETS = ("perlin", "nsa", "paste", "painted")  # of the benchmark
RESULTS = Path(__file__).resolve().parent.parent / "results" / "help_threshold.json"


def measured(seed, parts, options):
    "What each way gives on the test of a seed, where so many good parts are known."
    leg = Leg(IMAGES, seed, options.work, options)
    synthetic = {kind: leg.sources.folder(kind) for kind in SETS}
    synthetic |= {"real defects": few(IMAGES, seed, options.work)}
    found = measure_detection(goods(seed, options.work)[:parts], held_out(seed, options.work), synthetic)
    train, test, labels = leg.classes_of("real", USES["half"])
    defect = (leg.features()(train, test, len(CLASSES), seed) != CLASSES.index("good")).float()
    good = labels == CLASSES.index("good")
    ways = found.ways | {SUPERVISED: errors_at(0.5, defect[good], defect[~good])}
    return dict(auroc=found.auroc, ways={way: shares(of) for way, of in ways.items()})


def shares(of):
    return dict(missed=of["missed"]["value"], rejected=of["rejected"]["value"], balanced_accuracy=of["balanced_accuracy"])


def measured_once(seed, parts, options):
    "The same, from its file where it is there."
    path = options.work / "thresholds" / f"{seed}_{parts}.json"
    if not path.exists():
        write_atomically(path, json.dumps(measured(seed, parts, options)))
    return json.loads(path.read_text())


def rows_of(found, parts):
    "A row for each way, means over the seeds in %."
    rows = []
    for way in found[0]["ways"]:
        of = [one["ways"][way] for one in found]
        gains = [100 * (mine["balanced_accuracy"] - one["ways"][ALONE]["balanced_accuracy"]) for mine, one in zip(of, found)]
        means = {key: 100 * fmean(row[key] for row in of) for key in of[0]}
        rows.append(dict(good_parts=parts, threshold=way) | rounded(means | interval(gains)))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    options = parse_benchmark(["--work", str(args.work), *"--updates 30 --painted 5 --tries 1".split()])
    rows, auroc = [], {}
    for parts in PARTS:
        found = [measured_once(seed, parts, options) for seed in range(args.seeds)]
        rows, auroc = rows + rows_of(found, parts), auroc | {str(parts): round(fmean(one["auroc"] for one in found), 3)}
    made = dict(images_per_class=IMAGES, seeds=args.seeds, auroc=auroc, rows=rows)
    write_atomically(args.results, json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
