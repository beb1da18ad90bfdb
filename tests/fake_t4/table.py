"""What Stable Diffusion 1.5 takes on a simulated T4, at 512 px: `python tests/fake_t4/launch.py table.py`."""

import argparse
import gc
import json
import logging
import multiprocessing
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

warnings.filterwarnings("ignore")
import torch  # noqa: E402

torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 1  # who asks the runtime must not fork
from cases import CASES, measure  # noqa: E402
from device import simulated_t4  # noqa: E402

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "t4_simulated.json"
NOTE = "Simulated: shapes, types and places are the program's own, no kernel ran and no time was measured. Minutes are reckoned."
TFLOPS = 11.0  # what a T4 reaches in half precision


def _flop(row):
    return sum(row["tflop"].values())


def reckon(cases, steps=20):
    "Minutes at that speed, from what the cases counted."
    small, decode = cases["generate 8"]["two steps"], cases["generate 8"]["decode"]
    image = {"decode": _flop(decode) / 8, "step": _flop(small) / 2 / 8}
    minutes = {"90 images": 90 * (steps * image["step"] + image["decode"]) / TFLOPS / 60}
    remembered = _flop(cases["generate 8"]["two steps, one remembered"]) / 2 / 8
    minutes["90 images, cache interval 2"] = 90 * (steps * remembered + image["decode"]) / TFLOPS / 60
    tuned, samples = cases["tuned"]["all adapters"], cases["validate tuned"]["samples"]
    minutes["tuned, training"] = _flop(tuned) / 16 * samples["training_passes"] / TFLOPS / 60
    shown = 9 * (4 + 8)  # images of the quickstart: a sample of each class at four times, then eight of each to judge
    minutes["quickstart"] = minutes["tuned, training"] + shown * (steps * image["step"] + image["decode"]) / TFLOPS / 60
    document = cases["document"]["all adapters"]
    minutes["document, training"] = _flop(document) / 16 * samples["training_passes"] / TFLOPS / 60
    minutes["document, samples"] = 1080 * (50 * image["step"] + image["decode"]) / TFLOPS / 60
    minutes["tuned, samples"] = _flop(samples) / samples["images"] * samples["whole_run"] / TFLOPS / 60
    return {name: round(value, 1) for name, value in minutes.items()}


def run(name):
    "A case on a T4 of its own."
    for library in ("defect_lora", "diffusers", "torch"):
        logging.getLogger(library).setLevel(logging.ERROR)
    assert torch.cuda.get_device_name(0) == "Tesla T4", "run it with launch.py"
    gc.freeze()  # what is imported is never garbage
    start = time.time()
    with simulated_t4() as t4:
        rows = measure(t4, name)
    gc.collect()
    print(f"{name}: {time.time() - start:.0f} s {json.dumps(rows)}", flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES), help="make these rows anew; the others stay")
    args = parser.parse_args()
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:  # what is imported is there
        cases = dict(zip(args.only, pool.map(run, args.only)))
    known = json.loads(args.out.read_text()) if args.out.exists() else {}
    now = {name: rows for name, rows in (known.get("now", {}) | cases).items() if name in CASES}
    found = dict(note=NOTE, tflops=TFLOPS, torch=torch.__version__, before=known.get("before", {}), now=now)
    found["minutes"] = reckon(now) if set(now) == set(CASES) else {}
    args.out.write_text(json.dumps(found, indent=1) + "\n")
