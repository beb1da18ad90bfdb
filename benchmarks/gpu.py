"""What a real GPU takes, ready for whoever has one: `python benchmarks/gpu.py [--memory GIB] [--parts ...] [--out FILE]`.

- cases: what tests/fake_t4 simulates (training, generating, painting, features at Stable Diffusion 1.5's geometry), with real kernels;
- run: a whole training by the recipe `tuned`, with its samples and evaluations;
- latents: how far generated latents in half precision lie from single precision's;
- speed: `speed.py` at 512 px.

Weights are random. Memory is capped to what a T4 has. The figures, with the device's name, go to `results/gpu_NAME.json`.
`--rehearse` does the same, small, on whatever is here: it shows that everything runs, and its figures mean nothing.
"""

import argparse
import gc
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "fake_t4")]
import cases  # noqa: E402
import speed  # noqa: E402


class Device:
    "Counts as the simulated T4 does: peak memory, and seconds in place of operations."

    def reset(self):
        "Count anew from here."
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        speed.reset_peak()
        self.forget_work()

    def forget_work(self):
        "Count seconds anew, and the peak on."
        self.wait()
        self.start = time.perf_counter()

    def wait(self):
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def row(self, times=1):
        "What has been counted since."
        self.wait()
        return dict(seconds=round(times * (time.perf_counter() - self.start), 3), peak_gib=round(speed.peak_memory(), 2))


def run_cases(args, folder):
    "Rows of each case."
    cases.PIECES, cases.DEVICE = None, speed.device_name()
    if args.rehearse:
        cases.SIZE, cases.UNET, cases.VAE = 64, speed.SMALL_UNET, speed.SMALL_VAE
    found = {}
    for name in args.only:
        speed.limit_memory(args.memory)  # a case may have asked for less
        found[name] = cases.measure(Device(), name)
        print(name, json.dumps(found[name]), flush=True)
    return found


def run_tuned(args, folder):
    "Minutes and memory of a whole run."
    from defect_lora import TrainConfig, Trainer

    small = dict(epochs=1, size=64, num_inference_steps=2, evaluate_every=0) if args.rehearse else {}
    config = TrainConfig.from_recipe("tuned", data=str(folder / "data"), base=str(folder), per_class=4, held_out_per_class=0, **small)
    device = Device()
    device.reset()
    trainer = Trainer(config, folder / "run")
    said = trainer.preflight()
    trainer.fit()
    return device.row() | dict(steps=trainer.step, images=len(trainer.data), said=said, best=trainer.best())


def run_latents(args, folder):
    "The largest and the mean difference between latents in half and single precision, as shares of their spread."
    size, steps = (64, 2) if args.rehearse else (512, 20)
    half, single = (speed.generating(folder, size, 1, "ours", steps, dtype)(1).float().cpu() for dtype in (torch.float16, torch.float32))
    difference = (half - single).abs() / single.std()
    return dict(steps=steps, largest=difference.max().item(), mean=difference.mean().item())


def run_speed(args, folder):
    "What `speed.py` writes."
    small = "--geometry tiny --size 64 --batch 2 --repeat 1 --steps 3 --rounds 0" if args.rehearse else "--size 512"
    command = [sys.executable, speed.__file__, *small.split(), f"--memory={args.memory}", f"--out={folder / 'speed.json'}"]
    subprocess.run(command, check=True)
    return json.loads((folder / "speed.json").read_text())


PARTS = {"cases": run_cases, "run": run_tuned, "latents": run_latents, "speed": run_speed}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", type=float, default=14.4, help="GiB of the GPU that may be taken")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--only", nargs="*", choices=cases.CASES, default=list(cases.CASES), help="of the cases")
    parser.add_argument("--rehearse", action="store_true", help="small, and without a GPU")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    if not (args.rehearse or torch.cuda.is_available()):
        raise SystemExit("there is no GPU; --rehearse tries everything small without one")
    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    out = args.out or HERE / "results" / f"gpu_{re.sub(r'[^a-z0-9]+', '_', name.lower())}.json"
    found = dict(device=name, rehearsal=args.rehearse, memory=args.memory, torch=torch.__version__)
    with tempfile.TemporaryDirectory() as folder:
        speed.limit_memory(args.memory)
        speed.prepare(Path(folder), "tiny" if args.rehearse else "sd15")
        for part in args.parts:
            found[part] = PARTS[part](args, Path(folder))
            out.write_text(json.dumps(found, indent=1) + "\n")  # what there is stays, should a later part fail
    print(out)


if __name__ == "__main__":
    main()
