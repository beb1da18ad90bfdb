"""
Which synthetic images help an inspection model, by how much, and how are they used? On rendered cables, whose truth is known.

    python nbs/studies/help/benchmark.py --images 3 5 10 --seeds 10 --work DIR

It says its cost first, goes on where it was stopped, and rebuilds nbs/studies/results/help.json. For each number of real images a class,
and each seed (which renders the few real images, 30 good parts and 180 test images of its own, and starts every training), all arms get
the same real images, the same good parts, the same strong classical augmentation and the same number of steps; an arm differs by its
synthetic images alone. A gain is an arm less `real` of the same seed; its interval is Student's over the seeds, so it holds the luck of the
photographs, of the generator, of the training and of the test. How an arm is used (`Mix`) is chosen on seeds of its own (PILOTS), once.
A row says how long its painter and its inspection model were trained; rows that a command does not make anew stay in the file.

Any other generator takes part with folders of its images: `--prepare` writes the few real images and the good parts of each leg to
DIR/few/<images>_<seed> and DIR/good/<seed>; train on them, write a set (class folders, or pairs as DS-MVTec has them) to a folder, and
name it: `--arm NAME=FOLDER`, where {images} and {seed} in FOLDER stand for the leg.
"""

import argparse
import copy
import json
import shutil
import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import fmean, stdev

import torch
from scipy.stats import t as student
from torch import nn

from defect_lora.data.cables import CLASSES, render_cable, write_cables
from defect_lora.data.dataset import DefectSpectrumDataset
from defect_lora.data.files import InputError, write_atomically
from defect_lora.data.images import save_image
from defect_lora.data.layouts import labelled_images
from defect_lora.evaluation.classifier import ClassJudge
from defect_lora.evaluation.features import conv_block
from defect_lora.evaluation.painted import PaintedJudge
from defect_lora.generation.painting import paint_defects
from defect_lora.generation.pasting import paste_defects
from defect_lora.generation.sampling import generate_images
from defect_lora.training.config import TrainConfig
from defect_lora.training.trainer import Trainer
from defect_lora.usefulness.classification import FeatureClassifier, NetworkClassifier, resnet34_classifier
from defect_lora.usefulness.fitting import Mix, check_overlap, make_arms
from defect_lora.usefulness.segmentation import fit_segmenter, pixel_scores, predict_histograms

RESULTS = Path(__file__).resolve().parent.parent / "results" / "help.json"
SIZE, GOODS, HELD_OUT, PASTED, PAINTED, STEPS, SIDE = 128, 30, 20, 20, 20, 8, 64
UPDATES = 320  # of the generator's training, of 9 images each: half of the recipe's images
EPOCHS, WHOLE = 80, 20  # of the generator of the arms that have `whole` in their names, which is the demo's; its images of a class
PILOTS = (100, 101)  # seeds on which the uses are chosen
USES = dict(
    half=Mix(0.5, views="strong"),
    union=Mix(None, views="strong"),
    pretrain=Mix(0.5, pretrain=0.6, views="strong"),
    smooth=Mix(0.5, label_smoothing=0.1, views="strong"),
)


# The few real images, the good parts, and the test


def few(images, seed, work):
    "The real images of a leg."
    folder = work / "few" / f"{images}_{seed}"
    return DefectSpectrumDataset(write_once(folder, lambda: write_cables(folder, per_class=images, seed=seed, size=SIZE)), per_class=None)


def goods(seed, work):
    "Photographs of good parts."
    folder = work / "good" / f"{seed}"

    def write():
        for i in range(GOODS):
            save_image(render_cable("good", 900_000_000 + 1000 * seed + i, SIZE)[0], folder / f"{i:03d}.png")

    return sorted(write_once(folder, write).glob("*.png"))


def held_out(seed, work):
    "What nothing has seen."
    folder = work / "test" / f"{seed}"
    made = write_once(folder, lambda: write_cables(folder, per_class=HELD_OUT, seed=5000 + seed, size=SIZE))
    return DefectSpectrumDataset(made, per_class=None)


def write_once(folder, write):
    "A folder that is whole once its mark is there."
    if not (folder / "done").exists():
        write()
        (folder / "done").touch()
    return folder


# Where synthetic images come from


def trained(images, seed, work, updates):
    "The generator of a leg: one training, with masks, that generates and paints."
    few(images, seed, work)
    config = TrainConfig.from_recipe(
        "tuned",
        epochs=-(-updates // images),
        data=str(work / "few" / f"{images}_{seed}"),
        base="tiny",
        per_class=images,
        seed=seed,
        mask_weight=8.0,
        sample_every=0,
        evaluate_every=0,
        held_out_per_class=0,
        batch_size=9,
        gradient_accumulation_steps=1,
        fit_memory=False,
    )
    return Trainer(config, work / "runs" / f"{images}_{seed}").fit().fast()


def taught(images, seed, work):
    "The demo's generator."
    data = work / "few" / f"{images}_{seed}"
    how = dict(data=str(data), base="tiny", per_class=images, seed=seed, batch_size=16, gradient_accumulation_steps=1)
    config = TrainConfig.from_recipe("tuned", epochs=EPOCHS, sample_every=0, evaluate_every=0, held_out_per_class=0, **how)
    return Trainer(config, work / "taught" / f"{images}_{seed}").fit(), config


def with_painted(real, painted):
    "The real defects and the painted ones, as one data set to cut from."
    both, ids = copy.copy(real), {name: i for i, name in enumerate(real.classes)}
    both.samples = real.samples + [replace(s, label=ids[painted.classes[s.label]]) for s in painted.samples]
    return both


class Sources:
    "The synthetic sets of a leg, made when they are first asked for."

    def __init__(self, images, seed, options):
        self.images, self.seed, self.work, self.others, self.options = images, seed, options.work, dict(options.others), options
        self.pipe = cache(lambda: trained(images, seed, options.work, options.updates))

    def folder(self, kind):
        "The folder of one set."
        if kind in self.others:
            return Path(self.others[kind].format(images=self.images, seed=self.seed))
        folder = self.work / "sets" / f"{self.images}_{self.seed}" / kind
        return write_once(folder, lambda: getattr(self, kind)(folder))

    def rule(self, kind, folder, real=None):
        real, good = real or few(self.images, self.seed, self.work), goods(self.seed, self.work)
        paste_defects(folder, good, real, PASTED, seed=self.seed, rule=kind, progress=False)

    def __getattr__(self, kind):
        if kind in ("paste", "poisson", "perlin", "nsa"):
            return partial(self.rule, kind)
        raise AttributeError(kind)

    def painted(self, folder):
        real, good = few(self.images, self.seed, self.work), goods(self.seed, self.work)
        how = dict(seed=self.seed, num_inference_steps=STEPS, progress=False)
        if self.options.tries > 1:
            how |= dict(judge=PaintedJudge(real, good, self.pipe().classes), tries=self.options.tries)
        paint_defects(self.pipe(), folder, good, real, self.options.painted, **how)

    def generated(self, folder):
        defects = [name for name in CLASSES if name != "good"]
        how = dict(classes=defects, seed=self.seed, num_inference_steps=STEPS, guidance_scale=2.0, progress=False)
        generate_images(self.pipe(), folder, self.options.painted, **how)

    def whole(self, folder):
        "What `generate --tries 4` makes of the demo's generator."
        few(self.images, self.seed, self.work)
        pipe, config = taught(self.images, self.seed, self.work)
        how = dict(num_inference_steps=config.num_inference_steps, guidance_scale=config.guidance_scale, tries=4, progress=False)
        judge = ClassJudge(DefectSpectrumDataset(config.data, per_class=None, size=pipe.size))
        generate_images(pipe, folder, WHOLE, seed=self.seed, guidance_interval=config.guidance_interval, judge=judge, **how)

    def perfect(self, folder):
        "What a perfect generator would make: more rendered images, which the test does not hold."
        write_cables(folder, per_class=self.options.painted, seed=9000 + self.seed, size=SIZE)

    def repasted(self, folder):
        "Painted defects multiplied: cut out as the real ones are, and pasted into other good parts at other places."
        painted = DefectSpectrumDataset(self.folder("painted"), per_class=None)
        self.rule("paste", folder, with_painted(few(self.images, self.seed, self.work), painted))

    def chosen(self, folder):
        "The painted pairs that a judge gives their own class; the judge has seen the real images and the pasted ones, not the test."
        train, ids = self.judge_set()
        painted = DefectSpectrumDataset(self.folder("painted"), per_class=None)
        given = FeatureClassifier("tiny", views=2)(train, [s.path for s in painted.samples], len(CLASSES), self.seed)
        shutil.copytree(self.folder("painted"), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.json*", "done"))
        for sample, label in zip(painted.samples, given.tolist()):
            if label != ids[painted.classes[sample.label]]:
                (folder / sample.path.relative_to(self.folder("painted"))).unlink()

    def judge_set(self):
        "What the judge is trained on, and the ids of the classes."
        real, ids = few(self.images, self.seed, self.work), {name: i for i, name in enumerate(CLASSES)}
        good, (paths, names) = goods(self.seed, self.work), labelled_images(self.folder("paste"), None)
        known = [s.path for s in real.samples] + good, [s.label for s in real.samples] + [ids["good"]] * len(good)
        return make_arms(known, (list(paths), [ids[name] for name in names]), USES["half"])["real+synthetic"], ids


ARMS = {  # arm -> its sets
    "paste": ["paste"],
    "poisson": ["poisson"],
    "perlin": ["perlin"],
    "nsa": ["nsa"],
    "perfect": ["perfect"],
    "ours generated": ["generated"],
    "ours painted": ["painted"],
    "ours paste + painted": ["paste", "painted"],
    "ours paste + chosen": ["paste", "chosen"],
    "ours painted, then pasted": ["repasted"],
    "ours whole": ["whole"],
    "ours paste + whole": ["paste", "whole"],
}
RULED = ("paste", "poisson", "perlin", "nsa")


# What is trained


def lean(num_classes):
    "Four convolutions."
    channels = (3, 16, 32, 64, 96)
    blocks = [conv_block(i, o, 2) for i, o in zip(channels, channels[1:])]
    return nn.Sequential(*blocks, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(channels[-1], num_classes))


class Leg:
    "One number of real images, and one seed."

    def __init__(self, images, seed, work, options):
        self.images, self.seed, self.work, self.options = images, seed, work, options
        self.sources = Sources(images, seed, options)
        self.features = cache(lambda: FeatureClassifier("tiny", views=2))

    def cell(self, consumer, arm, use):
        "What one training gives, from its file where it is there."
        path = folder_of(consumer, self.options) / f"{self.images}_{self.seed}" / f"{arm}, {use}.json"
        if not path.exists():
            start = time.process_time()
            score = getattr(self, consumer)(arm, USES[use])
            write_atomically(path, json.dumps(dict(score=score, seconds=round(time.process_time() - start, 1))))
        return json.loads(path.read_text())["score"]

    def classes_of(self, arm, mix):
        "The training set of an arm, and the test."
        real, test = few(self.images, self.seed, self.work), held_out(self.seed, self.work)
        good, ids = goods(self.seed, self.work), {name: i for i, name in enumerate(CLASSES)}
        known = [s.path for s in real.samples] + good, [s.label for s in real.samples] + [ids["good"]] * len(good)
        paths, names = [], []
        for kind in sets_of(arm, self.options.others):
            found = labelled_images(self.sources.folder(kind), None)
            paths, names = paths + list(found[0]), names + list(found[1])
        check_overlap([s.path for s in test.samples], real=known[0], synthetic=paths)
        made = paths, [ids[name] for name in names]
        arms = make_arms(known, made if paths else known, mix)
        return arms["real+synthetic" if paths else "real"], [s.path for s in test.samples], torch.tensor([s.label for s in test.samples])

    def small(self, arm, mix):
        "Accuracy of a small network from scratch."
        train, test, labels = self.classes_of(arm, mix)
        classify = NetworkClassifier(lean, SIDE, self.options.classifier_steps, lr=2e-3)
        return accuracy_of(classify(train, test, len(CLASSES), self.seed), labels)

    def frozen(self, arm, mix):
        "Accuracy of logistic regression on the tiny base's frozen features."
        train, test, labels = self.classes_of(arm, mix)
        return accuracy_of(self.features()(train, test, len(CLASSES), self.seed), labels)

    def resnet34(self, arm, mix):
        "Accuracy of the field's network, on ImageNet's weights where they can be had."
        train, test, labels = self.classes_of(arm, mix)
        return accuracy_of(resnet34_classifier(steps=self.options.resnet34_steps)(train, test, len(CLASSES), self.seed), labels)

    def segmenter(self, arm, mix):
        "Average precision over the pixels of a small U-Net from scratch."
        real, test = few(self.images, self.seed, self.work), held_out(self.seed, self.work)
        known = [(s.path, s.mask) for s in real.samples] + [(path, None) for path in goods(self.seed, self.work)]
        made = []
        for kind in sets_of(arm, self.options.others):
            made += [(s.path, s.mask) for s in DefectSpectrumDataset(self.sources.folder(kind), per_class=None).samples]
        arms = make_arms((known, [0] * len(known)), (made or known, [0] * len(made or known)), mix)
        train = arms["real+synthetic" if made else "real"]
        network = fit_segmenter(train, SIDE, self.options.segmenter_steps, self.seed)
        found = predict_histograms(network, [(s.path, s.mask) for s in test.samples], SIDE)
        return float(pixel_scores(found[None])["average_precision"](torch.ones(1, len(found), dtype=torch.float64)))


def accuracy_of(predicted, labels):
    return float((predicted == labels).double().mean())


def folder_of(consumer, options):
    "Where a consumer's scores lie; other steps are another consumer."
    steps = steps_of(consumer, options)
    return options.work / "cells" / (consumer if steps is None else f"{consumer}-{steps}")


def sets_of(arm, others):
    "The sets of an arm; a stranger's is a folder."
    return [] if arm == "real" else [arm] if arm in dict(others) else ARMS[arm]


# What is run, in which order, and what it costs

CONSUMERS = ("frozen", "small", "resnet34", "segmenter")
FIRST = {  # consumer -> arms of the first round
    "frozen": ("real", "paste", "ours painted", "ours paste + painted", "ours paste + chosen"),
    "small": ("real", "paste", "ours paste + painted"),
    "resnet34": ("real", "paste", "ours paste + painted"),
    "segmenter": ("real", "paste", "ours painted", "ours paste + painted"),
}
PILOTED = "ours paste + painted"  # the arm that uses are chosen on: the others of an inspection model follow it
SECONDS = dict(
    frozen=5,
    small=16,
    resnet34=5,
    segmenter=0.065,
    train=1.2,
    painted=5,
    generated=4,
    paste=7,
    poisson=9,
    perlin=8,
    nsa=8,
    repasted=8,
    chosen=5,
    perfect=2,
    whole=700,
)  # of a core; of one step, update, or image of each class where there is a number of these


def seconds_of(what, options):
    "What one training, or one set, takes."
    times = dict(
        resnet34=options.resnet34_steps,
        segmenter=options.segmenter_steps,
        train=options.updates,
        painted=options.painted,
        generated=options.painted,
    )
    return SECONDS[what] * times.get(what, 1)


def uses_of(consumer):
    "The uses that can be told apart by a consumer."
    return dict(segmenter=("half", "union", "pretrain"), small=tuple(USES)).get(consumer, ("half", "union"))


def pilot_cells(options):
    "What the choice of the use needs."
    for images, seed, consumer in ((i, s, c) for i in options.pilot_images for s in PILOTS for c in options.pilot_consumers):
        if consumer in options.known_uses or consumer not in options.consumers:
            continue
        yield from ((images, seed, consumer, PILOTED, use) for use in uses_of(consumer))


def arms_for(consumer, options, stage):
    "The arms of the first or of the second round; what has no class is no use to a classifier."
    arms = FIRST[consumer] if stage == 1 else [arm for arm in ARMS if arm not in FIRST[consumer]]
    arms = [arm for arm in arms if consumer == "segmenter" or arm not in ("perlin", "nsa")]
    arms = [arm for arm in arms if consumer != "segmenter" or not {"generated", "whole"} & set(sets_of(arm, ()))]  # they have no masks
    arms = [arm for arm in arms if arm == "real" or arm in options.only] if options.only else arms
    return [*arms, *(dict(options.others) if stage == 1 else ())]


def cells(options, uses):
    "Everything, the most wanted first: (images, seed, consumer, arm, use)."
    for stage in (1, 2):
        for images in options.images:
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                for consumer in options.consumers:
                    yield from ((images, seed, consumer, arm, uses(consumer, arm)) for arm in arms_for(consumer, options, stage))


def choose_uses(options):
    "Which use each inspection model puts synthetic images to, by the mean over the pilots; without pilots, half real."
    chosen = {}
    for consumer in options.consumers:
        means = {use: known_scores(options, consumer, use) for use in uses_of(consumer)}
        means = {use: fmean(scores) for use, scores in means.items() if scores}
        use = options.known_uses.get(consumer) or (max(means, key=means.get) if means else "half")
        chosen[consumer] = dict(use=use, means=means)
    return chosen


def known_scores(options, consumer, use):
    legs = ((images, seed) for images in options.pilot_images for seed in PILOTS)
    files = (folder_of(consumer, options) / f"{images}_{seed}" / f"{PILOTED}, {use}.json" for images, seed in legs)
    return [json.loads(path.read_text())["score"] for path in files if path.exists()]


def use_for(chosen, consumer, arm):
    return "half" if arm == "real" else chosen[consumer]["use"]


def missing_cost(options, wanted):
    "Seconds of a core that are still to be spent, by what earlier legs have taken."
    total, made = 0, set()
    for images, seed, consumer, arm, use in wanted:
        if (folder_of(consumer, options) / f"{images}_{seed}" / f"{arm}, {use}.json").exists():
            continue
        total += seconds_of(consumer, options)
        for kind in sets_of(arm, ()) if arm in ARMS else ():
            for part in (kind, *(("train",) if kind in ("painted", "generated") else ())):
                if (images, seed, part) not in made and not (options.work / "sets" / f"{images}_{seed}" / kind / "done").exists():
                    made.add((images, seed, part))
                    total += seconds_of(part, options)
    return total


# The results


def interval(values):
    "Mean, and Student's 95 % interval."
    mean = fmean(values)
    if len(values) < 2:
        return dict(gain=mean, low=None, high=None)
    reach = float(student.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return dict(gain=mean, low=mean - reach, high=mean + reach)


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(of) for key, of in value.items()}
    return round(value, 2) if isinstance(value, float) else value


def summarise(options, chosen):
    "Every row that at least two seeds know, from the files of the cells."
    rows, beside = [], []
    for images in options.images:
        for consumer in options.consumers:
            known = {}
            for arm in ("real", *ARMS, *dict(options.others)):
                use, scores = use_for(chosen, consumer, arm), {}
                for path in folder_of(consumer, options).glob(f"{images}_*/{arm}, {use}.json"):
                    seed = int(path.parent.name.partition("_")[2])
                    scores |= {} if seed in PILOTS else {seed: 100 * json.loads(path.read_text())["score"]}
                known[arm] = scores
            made = dict(steps=steps_of(consumer, options), updates=options.updates, painted=options.painted, tries=options.tries)
            rows += [row | made for row in rows_of(known, images, consumer, chosen)]
            beside += against_rules(known, images, consumer)
    choice = {name: rounded(of | dict(means={use: 100 * mean for use, mean in of["means"].items()})) for name, of in chosen.items()}
    setting = dict(good=GOODS, test_per_class=HELD_OUT, pasted=PASTED, denoising_steps=STEPS, epochs_of_whole=EPOCHS, whole=WHOLE)
    setting |= dict(pixels=SIDE, pilots=list(PILOTS))
    found = dict(setting=setting, uses=choice, rows=rows, against_the_best_rule=beside, by_steps=scores_by_steps(options))
    earlier = json.loads(options.results.read_text()) if options.results.exists() else {}
    write_atomically(options.results, json.dumps(with_others(found, earlier), indent=1) + "\n")


def with_others(found, earlier):
    "What was found, and of an earlier file what is of other inspection models, or of other numbers of images."
    known = {(row["network"], row["images_per_class"]) for row in found["rows"]}
    merged = found | dict(uses=earlier.get("uses", {}) | {name: of for name, of in found["uses"].items() if of["means"]})
    for table in ("rows", "against_the_best_rule", "by_steps"):
        others = [row for row in earlier.get(table, ()) if (row["network"], row["images_per_class"]) not in known]
        merged[table] = sorted([*others, *found[table]], key=lambda row: (CONSUMERS.index(row["network"]), row["images_per_class"]))
    return merged


def steps_of(consumer, options):
    "Of an inspection model's training; frozen features have none."
    return dict(small=options.classifier_steps, resnet34=options.resnet34_steps, segmenter=options.segmenter_steps).get(consumer)


def scores_by_steps(options):
    "What real images reach, alone and with perfect ones, by how long an inspection model is trained, on the legs that all lengths know."
    found = {}
    for path in (options.work / "cells").glob("*-*/*/*.json"):
        network, _, steps = path.parent.parent.name.partition("-")
        arm, leg = path.stem.partition(",")[0], path.parent.name
        if arm in ("real", "perfect"):
            legs = found.setdefault((network, int(leg.partition("_")[0]), arm), {}).setdefault(int(steps), {})
            legs[leg] = 100 * json.loads(path.read_text())["score"]
    table = []
    for (network, images, arm), steps in sorted(found.items()):
        legs = set.intersection(*map(set, steps.values()))
        means = {str(number): round(fmean(of[leg] for leg in legs), 1) for number, of in sorted(steps.items()) if legs}
        row = dict(network=network, images_per_class=images, arm=arm, legs=len(legs), mean=means)
        table += [row] if len(means) > 1 else []
    return table


def consumer_names(consumer):
    return dict(consumer="segmenter" if consumer == "segmenter" else "classifier", network=consumer)


def rows_of(known, images, consumer, chosen):
    "A row for each arm: what it adds to the real images of the same seeds."
    rows = []
    for arm, scores in known.items():
        seeds = sorted(scores.keys() & known["real"].keys())
        if arm != "real" and len(seeds) > 1:
            real = fmean(known["real"][seed] for seed in seeds)
            gain = rounded(interval([scores[seed] - known["real"][seed] for seed in seeds]))
            row = consumer_names(consumer) | dict(images_per_class=images, arm=arm) | gain
            rows.append(row | dict(seeds=len(seeds), real_only=round(real, 2), use=use_for(chosen, consumer, arm)))
    return rows


def against_rules(known, images, consumer):
    "What ours add to the best rule, which is chosen by its mean over the same seeds: a bar that favours the rule."
    found = []
    for arm in (arm for arm in known if arm.startswith("ours") and known[arm]):
        rules = {rule: sorted(known[rule].keys() & known[arm].keys()) for rule in RULED if rule in known}
        rules = {rule: seeds for rule, seeds in rules.items() if len(seeds) > 1}
        if rules:
            best = max(rules, key=lambda rule: fmean(known[rule][seed] for seed in rules[rule]))
            gain = rounded(interval([known[arm][seed] - known[best][seed] for seed in rules[best]]))
            found.append(consumer_names(consumer) | dict(images_per_class=images, arm=arm, over=best) | gain | dict(seeds=len(rules[best])))
    return found


# The command


def parse(args=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[3, 5, 10], help="real images of a class")
    parser.add_argument("--seeds", type=int, default=10, help="paired seeds")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True, help="folder of everything that is made; a stopped run goes on in it")
    parser.add_argument(
        "--consumers", nargs="+", choices=CONSUMERS, default=[name for name in CONSUMERS if name != "resnet34"], help="resnet34 wants a GPU"
    )
    parser.add_argument(
        "--arm",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="another generator's images; {images} and {seed} stand for the leg",
    )
    parser.add_argument("--only", nargs="+", choices=list(ARMS), default=[], help="fill the rows of these arms alone")
    parser.add_argument("--pilot-images", type=int, nargs="*", default=[3], help="numbers of images with which uses are chosen")
    parser.add_argument(
        "--pilot-consumers", nargs="*", choices=CONSUMERS, default=list(CONSUMERS), help="whose use is chosen; others take half"
    )
    parser.add_argument("--use", action="append", default=[], metavar="CONSUMER=USE", help="a use that is known, instead of pilots")
    parser.add_argument("--classifier-steps", type=int, default=450)
    parser.add_argument("--resnet34-steps", type=int, default=600)
    parser.add_argument("--segmenter-steps", type=int, default=2000)
    parser.add_argument("--updates", type=int, default=UPDATES, help="of the generator's training; take another --work with another number")
    parser.add_argument("--painted", type=int, default=PAINTED, help="painted pairs, and generated images, of a class; likewise")
    parser.add_argument(
        "--tries", type=int, default=4, help="of a painted pair, to be named right by a judge of the few real ones; likewise"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--prepare", action="store_true", help="write the real images and good parts of every leg, and stop")
    parser.add_argument("--summary", action="store_true", help="rebuild the results from what is there, and stop")
    options = parser.parse_args(args)
    options.known_uses = dict(use.split("=", 1) for use in options.use)
    options.others = [tuple(arm.partition("=")[::2]) for arm in options.arm]
    bad = [name for name, folder in options.others if not folder or name in ARMS or name == "real"]
    if bad:
        parser.error(f"--arm {bad[0]}: give NAME=FOLDER, with a name of its own")
    return options


def run(options, wanted):
    "Fill what is missing of some cells."
    legs = cache(lambda images, seed: Leg(images, seed, options.work, options))
    latest = None
    for images, seed, consumer, arm, use in wanted:
        if latest != (images, seed):
            legs.cache_clear()
            latest = images, seed
        score = legs(images, seed).cell(consumer, arm, use)
        print(f"{images} images, seed {seed}, {consumer}, {arm}, {use}: {100 * score:.1f}", flush=True)
        yield


def main(args=None):
    options = parse(args)
    torch.set_num_threads(1)
    wanted = list(cells(options, lambda consumer, arm: "half"))
    if options.prepare:
        for images, seed in dict.fromkeys((images, seed) for images, seed, *_ in wanted):
            few(images, seed, options.work), goods(seed, options.work)
        return
    if not options.summary:
        both = [*pilot_cells(options), *wanted]
        print(
            f"{len(both)} trainings of inspection models; about {missing_cost(options, both) / 60:.0f} minutes of a core are left",
            flush=True,
        )
        for _ in run(options, pilot_cells(options)):
            pass
    chosen = choose_uses(options)
    if not options.summary:
        for _ in run(options, cells(options, partial(use_for, chosen))):
            summarise(options, chosen)
    summarise(options, chosen)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"benchmark: {error}") from None
