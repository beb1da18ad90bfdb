"`generate` as one process, as several, and killed in the middle: the same bytes."

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from defect_lora.data.cables import write_cables
from defect_lora.data.files import file_sha256
from defect_lora.data.images import open_image
from test_cli import run, train

COUNT = 2  # images of each of the nine classes
FLAGS = ["--per-class", COUNT, "--num-inference-steps", 2, "--batch-size", 8]  # 18 images: the last batch is smaller


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    "The launcher gives each process one thread; rounding follows from their number, so one process alone gets one as well."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_cables(folder / "data", per_class=2, size=64)
    code, _, err = run(*train(folder / "data", folder / "run", **{"guidance-scale": 3}))
    assert code == 0, err
    return folder / "run"


@pytest.fixture(scope="module")
def alone(trained, tmp_path_factory):
    "What one process generates: loose files and shards."
    folder = tmp_path_factory.mktemp("alone")
    for name, more in (("loose", []), ("shards", ["--shard-size", 5])):
        code, out, err = run("generate", "--run", trained, "--out", folder / name, *FLAGS, *more)
        assert code == 0 and len(out.splitlines()) == 2, err
    return folder


def contents(folder):
    "Every file of a folder, but for what a killed process left half written."
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".tmp"}


def command(trained, out, *more):
    return [sys.executable, "-m", "defect_lora.cli", *map(str, ["generate", "--run", trained, "--out", out, *FLAGS, *more])]


def launch(count, argv, logs):
    "The command as several processes on the CPU: (standard output, standard error) of each."
    launcher = [
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        count,
        "--num_machines",
        1,
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        0,
        "--log_dir",
        logs,
        "--tee",
        3,
    ]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([argv[0], *map(str, launcher), *argv[1:]], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    return [tuple(next(logs.glob(f"*/attempt_0/{rank}/{name}.log")).read_text() for name in ("stdout", "stderr")) for rank in range(count)]


@pytest.mark.parametrize("count, kind", [(2, "shards"), (3, "loose")])
def test_processes_draw_the_same_bytes(trained, alone, tmp_path, count, kind):
    more = ["--shard-size", 5] if kind == "shards" else []
    said = launch(count, command(trained, tmp_path / "out", *more), tmp_path / "logs")
    assert contents(tmp_path / "out") == contents(alone / kind)
    assert len(said[0][0].splitlines()) == 2 and "generate" in said[0][1]
    assert all(out == "" and "generate:" not in err for out, err in said[1:])


def killed(argv, out, pattern):
    "The command, killed as soon as it has written two such files."
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(out.glob(pattern))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return contents(out)


@pytest.mark.parametrize("kind, pattern", [("loose", "*/*.png"), ("shards", "*.tar")])
def test_killed_and_run_again(trained, alone, tmp_path, kind, pattern):
    argv = command(trained, tmp_path / "out", *(["--shard-size", 5] if kind == "shards" else []))
    before, whole = killed(argv, tmp_path / "out", pattern), contents(alone / kind)
    assert 2 <= len(before) < len(whole) and before.items() <= whole.items()
    times = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before}
    subprocess.run(argv, check=True, capture_output=True)
    assert contents(tmp_path / "out") == whole
    assert times == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before}


def test_images_of_another_class_are_made_again(trained, alone, tmp_path):
    "A set that a classifier of the photographs has chosen: whole, made the same when it goes on, and known as chosen."
    code, _, err = run("generate", "--run", trained, "--out", tmp_path / "a", *FLAGS, "--tries", 2)
    assert code == 0, err
    rows, before = [json.loads(line) for line in (tmp_path / "a" / "manifest.jsonl").read_text().splitlines()], contents(tmp_path / "a")
    assert {row["tries"] for row in rows} == {1, 2} and {row["own_class"] for row in rows} == {True, False}
    for row in rows:
        pictures = [(folder / row["file"]) for folder in (alone / "loose", tmp_path / "a")]
        assert (row["tries"] == 1) == (open_image(pictures[0]).tobytes() == open_image(pictures[1]).tobytes())
    known = set(json.loads(before["curation.json"])["real"])
    assert known == {file_sha256(path) for path in (trained.parent / "data").rglob("image/*/*.png")}
    (tmp_path / "a" / rows[3]["file"]).unlink()
    code, _, err = run("generate", "--run", trained, "--out", tmp_path / "a", *FLAGS, "--tries", 2)
    assert code == 0 and contents(tmp_path / "a") == before, err
    assert "most_tries" in run("generate", "--run", trained, "--out", tmp_path / "a", *FLAGS)[2]
    plain = contents(alone / "loose")
    assert run("generate", "--run", trained, "--out", alone / "loose", *FLAGS, "--tries", 2)[0] == 2 and contents(alone / "loose") == plain
    said = run("generate", "--run", trained / "model", "--out", tmp_path / "b", *FLAGS, "--tries", 2)
    assert said[0] == 2 and "leave --tries out" in said[2]
    code, out, err = run("evaluate", "--real", trained.parent / "data", "--fake", tmp_path / "a", "--out", tmp_path / "report")
    said = "18 of 18 real photographs had been used to choose the images; fewer than 5 others"
    notes = (tmp_path / "report" / "report.md").read_text()
    assert code == 0 and said in notes and said in out and "18 of the 18 real images have also chosen" in notes, err
    assert f"as {sum(row['own_class'] and row['tries'] == 1 for row in rows) / 18:.0%}".replace("%", " %") + " were in the first" in notes
