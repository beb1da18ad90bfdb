"""What a run costs as it grows: `python benchmarks/growth.py [--base tiny] [--out FILE]`.

One thing grows at a time: images, classes (two images each at least), resolution, images in a step. Measured are the encoding before
the first step, the same on a second run (from the cache), one optimizer step (median), what its forward pass keeps for the backward
pass, and one generated image. Rendered cables, a CPU.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from speed import bare_trainer

START = dict(images=18, classes=9, size=128, batch=4)
AXES = dict(images=(18, 90, 360), classes=(2, 9, 36), size=(64, 128, 256), batch=(1, 4, 16))
COLUMNS = dict(encode="encode, s", cached="again, s", step="step, s", kept="kept, MiB", generate="generate, s", parameters="trained")


def write_folders(folder, images, classes):
    "A folder per class; which cable is in which does not matter here."
    from defect_lora.data.cables import CLASSES, render_cable

    for i in range(images):
        place = Path(folder) / f"class_{i % classes:02d}"
        place.mkdir(parents=True, exist_ok=True)
        render_cable(CLASSES[i % len(CLASSES)], i, 128)[0].save(place / f"{i:04d}.png")
    return Path(folder)


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(base, folder, images, classes, size, batch, steps=4):
    "A row of the table."
    from defect_lora.training.latents import LatentDataset

    data = write_folders(folder / "data", max(images, 2 * classes), classes)
    trainer = bare_trainer(folder / "run", data, base, size, batch, per_class=None)
    again = LatentDataset(trainer.data.dataset, trainer.base, trainer.config)
    encode, cached = timed(trainer.data.prepare), timed(again.prepare)
    kept = trainer.measure_pass(batch).memory
    step = median(timed(lambda number=number: trainer.train_step(trainer.plan[number])) for number in range(steps))
    generate = timed(lambda: trainer.pipeline([0], num_inference_steps=10, guidance_scale=2.0, seeds=[0], progress=False))
    return dict(
        encode=encode,
        cached=cached,
        step=step,
        kept=kept / 2**20,
        generate=generate,
        parameters=trainer.model.count_parameters()["trainable"],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="tiny", help="base model: a name, a folder or a Hub id")
    parser.add_argument("--out", default=None, help="JSON file for the figures")
    args, rows = parser.parse_args(), []
    print(f"{'':12}" + "".join(f"{name:>12}" for name in COLUMNS.values()))
    for axis, values in AXES.items():
        for value in values:
            with tempfile.TemporaryDirectory() as folder:
                row = measure(args.base, Path(folder), **START | {axis: value})
            print(
                f"{axis:>8}{value:4}" + "".join(f"{row[name]:12,.3g}" if name != "parameters" else f"{row[name]:12,}" for name in COLUMNS),
                flush=True,
            )
            rows.append({"axis": axis, "value": value} | row)
    if args.out:
        Path(args.out).write_text(json.dumps(dict(base=args.base, start=START, rows=rows), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
