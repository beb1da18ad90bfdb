"Each fault of a run, injected into the real command: what the user sees, and what is still there."

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import command
import pytest

from defect_lora.data.cables import write_cables
from defect_lora.training.checkpoints import list_checkpoints
from defect_lora.training.metrics import losses, read_metrics

STEPS = 12
FLAGS = """
    --base=tiny --recipe=document --size=64 --per-class=2 --epochs=6 --batch-size=8 --accumulation=2 --save-every=2
    --sample-every=0 --evaluate-every=0 --warmup-steps=2
""".split()
COMMAND = [sys.executable, "-m", "defect_lora.cli"]
ENV = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A data set, and a run that was trained without a fault."
    folder = tmp_path_factory.mktemp("faults")
    write_cables(folder / "data", per_class=2, size=64)
    code, err = train(folder / "data", folder / "whole")
    assert code == 0, err
    return folder


def begin(data, out, *more):
    "The process of a training that has taken a step."
    words = [*COMMAND, "train", "--data", str(data), "--out", str(out), *FLAGS, *more]
    child = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=ENV)
    wait_for(lambda: losses(read_metrics(out / "metrics.jsonl")))
    return child


def train(data, out, *more, before=()):
    "Exit code and standard error of `defect-lora train`; `before` are the words of a program that starts it."
    if not before:
        code, _, err = command.run("train", "--data", data, "--out", out, *FLAGS, *more, env=ENV)
        assert "Traceback" not in err, err
        return code, err
    done = subprocess.run(
        [*before, *COMMAND, "train", "--data", str(data), "--out", str(out), *FLAGS, *more],
        capture_output=True,
        text=True,
        env=ENV,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def without_last(place, name):
    "A copy of the finished run that has to go on from step 10, with its checkpoint of step 10."
    shutil.copytree(place / "whole", place / name)
    shutil.rmtree(place / name / "checkpoints" / "step_0000012")
    shutil.rmtree(place / name / "model")
    return place / name


def equals_whole(run):
    whole = run.parent / "whole"
    assert losses(read_metrics(run / "metrics.jsonl")) == losses(read_metrics(whole / "metrics.jsonl"))
    return (run / "model" / "class_embedding.safetensors").exists() and last_tensors(run) == last_tensors(whole)


def last_tensors(run):
    from safetensors.torch import load_file

    return {
        name: value.numpy().tobytes() for name, value in load_file(list_checkpoints(run / "checkpoints")[-1] / "model.safetensors").items()
    }


def spoil(path, how):
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2] if how == "truncated" else good[:200] + bytes([good[200] ^ 4]) + good[201:])


@pytest.mark.parametrize("how", ["truncated", "bit-flipped"])
def test_damaged_checkpoint(place, how):
    "It is named, the one before it is used, and the run ends as if nothing had happened."
    run = place / how
    shutil.copytree(place / "whole", run)
    shutil.rmtree(run / "model")
    spoil(run / "checkpoints" / "step_0000012" / "optimizer.safetensors", how)
    code, err = train(place / "data", run)
    assert code == 0 and "step_0000012 is damaged: optimizer.safetensors has changed" in err and "goes on from step 10 of 12" in err
    assert equals_whole(run)


def test_pickle_in_a_checkpoint(place):
    "Refused, and nothing ran."
    run = place / "pickled"
    shutil.copytree(place / "whole", run)
    bomb = run / "checkpoints" / "step_0000012"
    (bomb / "optimizer.pt").write_bytes(pickle.dumps(Bomb(run / "it ran")))
    code, err = train(place / "data", run)
    assert code == 0 and "optimizer.pt does not belong to it" in err and not (run / "it ran").exists()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_swapped_configuration(place):
    run = without_last(place, "swapped")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | dict(rank=4)))
    code, err = train(place / "data", run)
    assert code == 2 and "rank: 8 instead of 4" in err
    code, err = train(place / "data", run, "--rank=4")  # the checkpoint is of another run than its config.json says
    assert code == 2 and "rank: 4 instead of 8" in err and "checkpoint" in err


def test_two_processes_on_one_run(place):
    run = place / "twice"
    first = begin(place / "data", run, "--epochs=300")
    code, err = train(place / "data", run, "--epochs=300")
    assert code == 2 and f"is being trained by process {first.pid}" in err
    first.kill()
    first.wait()
    first.stderr.close()


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt(place, number):
    "A checkpoint of the step at hand, one line, exit code 1; the same command goes on to the same end."
    run = place / f"interrupted_{number}"
    child = begin(place / "data", run)
    child.send_signal(number)
    err = child.communicate(timeout=120)[1]
    steps = len(losses(read_metrics(run / "metrics.jsonl")))
    assert child.returncode == 1 and f"stopped after step {steps} of {STEPS}" in err and "Traceback" not in err, err
    assert list_checkpoints(run / "checkpoints")[-1].name == f"step_{steps:07d}"
    code, err = train(place / "data", run)
    assert code == 0 and f"goes on from step {steps} of {STEPS}" in err and equals_whole(run)


def test_a_second_interrupt_ends_at_once(place):
    run = place / "twice_interrupted"
    child = begin(place / "data", run, "--epochs=300")
    os.kill(child.pid, signal.SIGSTOP)  # both are there before it looks
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGTERM)
    os.kill(child.pid, signal.SIGCONT)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 1 and "Traceback" not in err, err


def test_exploding_loss(place):
    "A learning rate that no training survives: tried twice, then explained; exit code 1, and the checkpoint before it is whole."
    code, err = train(place / "data", place / "exploded", "--phases=all:6:1e8:all")
    assert code == 1 and "failed twice" in err and "a tenth of the lr" in err and "is good" in err, err
    assert list_checkpoints(place / "exploded" / "checkpoints")


def test_lost_backup(place):
    "Said, and training goes on."
    code, err = train(place / "data", place / "mirrored", "--mirror=/proc/nowhere/drive")
    assert code == 0 and "the backup /proc/nowhere/drive cannot be written" in err and "the run itself is in" in err
    assert equals_whole(place / "mirrored")


def small_disk(folder, size, then):
    "A shell that mounts a small file system of its own on a folder and runs what follows; nothing outside sees it."
    return [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size={size} tmpfs "{folder}" && {then} && exec "$@"',
        "sh",
    ]


needs_mounts = pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(small_disk("/mnt", "1m", "true") + ["true"], capture_output=True).returncode != 0,
    reason="this system does not let a test mount a file system of its own",
)


@needs_mounts
def test_full_disk(place):
    "Exit code 2, the path, the free space and what is still there; the checkpoints before it are whole."
    disk = place / "disk"
    disk.mkdir()
    look = f'; code=$?; ls "{disk}/run/checkpoints"; exit $code'
    command = small_disk(disk, "7m", "true")
    command[6] = command[6].replace('exec "$@"', '"$@"') + look
    done = subprocess.run(
        [*command, *COMMAND, "train", "--data", str(place / "data"), "--out", str(disk / "run"), *FLAGS, "--keep-checkpoints=50"],
        capture_output=True,
        text=True,
        env=ENV,
        timeout=300,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "No space left on device" in last and "MiB are free; the last whole checkpoint is step_" in last and str(disk / "run") in last, (
        last
    )
    assert last.split("checkpoint is ")[1].split(")")[0] == done.stdout.split()[-1]


@needs_mounts
def test_read_only_folder(place):
    disk = place / "read_only"
    disk.mkdir()
    before = small_disk(disk, "1m", f'mount -o remount,ro "{disk}"')
    code, err = train(place / "data", disk / "run", before=before)
    assert code == 2 and "cannot be written; choose another folder" in err and str(disk) in err
