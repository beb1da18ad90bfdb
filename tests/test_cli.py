"Wrong input exits with 2 and one line that names it; help needs no torch."

import re
import os
import subprocess
import sys
from dataclasses import is_dataclass

import command
import pytest

from defect_lora.cli import COMMANDS, _parse
from defect_lora.data.cables import render_cable, write_cables
from defect_lora.training.config import OLD_NAMES, TrainConfig, format_phases


def run(*argv, path=None):
    "Exit code, standard output and standard error of the command; with a path, Python looks there first."
    if path is None:
        return command.run(*argv, env={"HF_HUB_OFFLINE": "1"})
    places = os.pathsep.join(filter(None, [str(path or ""), os.environ.get("PYTHONPATH", "")]))
    env = {**os.environ, "PYTHONPATH": places, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-m", "defect_lora.cli", *map(str, argv)], capture_output=True, text=True, env=env, timeout=300)
    return done.returncode, done.stdout, done.stderr


def refused(*argv, path=None):
    "The one line of a command that exits with 2."
    code, out, err = run(*argv, path=path)
    assert code == 2, (code, out, err)
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1 and "Traceback" not in err, err
    return lines[0]


def folder_per_class(root, names, count=2):
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(count):
            render_cable("good", i, 64)[0].save(root / name / f"{i}.png")
    return root


def train(data, out, **more):
    small = {"base": "tiny", "recipe": "tuned", "size": 64, "epochs": 1, "per-class": 2}
    flags = [f"--{key}={value}" for key, value in {**small, **more}.items()]
    return ["train", "--data", data, "--out", out, *flags]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_cables(folder / "data", per_class=2, size=64)
    code, out, err = run(*train(folder / "data", folder / "run"))
    assert code == 0, err
    assert str(folder / "run") in out and "stand-in" not in err  # of rendered cables it is none
    return folder


def test_missing_folder(tmp_path):
    assert "nowhere" in refused(*train(tmp_path / "nowhere", tmp_path / "run"))


def test_empty_class(tmp_path):
    data = folder_per_class(tmp_path / "data", ["crack", "good"])
    (data / "scratch").mkdir()
    assert "scratch" in refused(*train(data, tmp_path / "run"))


def test_text_named_png(tmp_path):
    data = folder_per_class(tmp_path / "data", ["crack", "good"])
    (data / "crack" / "0.png").write_text("not an image")
    assert "0.png" in refused(*train(data, tmp_path / "run"))


def test_every_bad_file_is_listed(tmp_path):
    data = folder_per_class(tmp_path / "data", ["crack", "good"])
    (data / "crack" / "0.png").write_text("not an image")
    (data / "good" / "1.png").write_bytes(b"")
    line = refused(*train(data, tmp_path / "run"))
    assert "0.png" in line and "1.png" in line


def test_unknown_base(tmp_path):
    data = folder_per_class(tmp_path / "data", ["crack", "good"])
    line = refused(*train(data, tmp_path / "run", base="sd99"))
    assert "sd99" in line and "tiny" in line


def test_torchvision_that_does_not_fit(tmp_path):
    stub = tmp_path / "stub" / "torchvision"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    data = folder_per_class(tmp_path / "data", ["crack", "good"])
    for words in (train(data, tmp_path / "run"), ["evaluate", "--real", data, "--fake", data, "--out", tmp_path / "report"]):
        line = refused(*words, path=tmp_path / "stub")
        assert "torchvision" in line and "nms" in line and "pip install" in line


def test_unknown_class_in_generate(trained, tmp_path):
    line = refused("generate", "--run", trained / "run", "--out", tmp_path / "out", "--classes", "good,rusty")
    assert "rusty" in line and "bent_wire" in line


def test_generate_without_a_model(tmp_path):
    assert "nowhere" in refused("generate", "--run", tmp_path / "nowhere", "--out", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("generate", "--run", tmp_path / "empty", "--out", tmp_path / "out")


def test_run_of_another_configuration(trained):
    line = refused(*train(trained / "data", trained / "run", rank=2))
    assert f"rank: 2 instead of {TrainConfig.from_recipe('tuned', base='tiny').rank}" in line


def test_wrong_values(tmp_path):
    data = folder_per_class(tmp_path / "data", ["crack", "good"])
    assert "--batch-size" in refused(*train(data, tmp_path / "run"), "--batch-size", "0")
    assert "--rank" in refused(*train(data, tmp_path / "run"), "--rank", "many")
    assert "recipe" in refused("train", "--data", data, "--out", tmp_path / "run", "--recipe", "none")


def test_out_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    data = folder_per_class(tmp_path / "data", ["crack", "good"])
    assert "file" in refused("data", "--out", tmp_path / "file")
    assert "file" in refused(*train(data, tmp_path / "file"))


@pytest.mark.parametrize("argv", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_needs_no_torch(argv):
    probe = f"import sys; from defect_lora.cli import main; code = main({argv!r}); assert 'torch' not in sys.modules; sys.exit(code)"
    said = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, encoding="utf-8").stdout
    assert not re.findall(r"│ (--[\w-]+(?: \S+)?) +│\n(?!│ {8,}\S)", said)  # no flag stands without a word on it


def test_training_again_goes_on(trained):
    "A finished run is not trained twice."
    before = (trained / "run" / "metrics.jsonl").read_text()
    code, out, err = run(*train(trained / "data", trained / "run"))
    assert code == 0 and (trained / "run" / "metrics.jsonl").read_text() == before


FLAGS = {  # each command's, as scripts may use them; a flag may get a new spelling beside it, and none goes
    "demo": "--out --epochs --per-class --num-inference-steps --tries --seed",
    "data": "--out --per-class --seed --size",
    "train": "--data --out --category --per-class --base --size --fit --flip --no-flip --rank --alpha --dropout --targets --tokens "
    "--condition-dropout --embedding-lr-scale --weight-decay --max-grad-norm --warmup-steps --decay-from --mask-weight "
    "--snr-gamma --batch-size --accumulation --gradient-checkpointing --no-gradient-checkpointing --fit-memory --no-fit-memory "
    "--mixed-precision --sample-every --samples-per-class --evaluate-every --evaluate-per-class --unseen-per-class --patience "
    "--num-inference-steps --guidance-scale --start --save-every --keep-checkpoints --mirror --tracker --seed --phases "
    "--epochs --recipe --init-embedding",
    "generate": "--run --out --per-class --classes --seed --num-inference-steps --guidance-scale --fast --batch-size --shard-size "
    "--tries --pairs --good --real --category --layout",
    "evaluate": "--real --fake --category --out --features --usefulness --segmenter --curate --run",
    "help-me": "--data --out --category --masks --good --layout --base --epochs --per-class --trainings --size --steps --seed --dry-run",
    "export": "--fake --out --layout --category --good",
    "publish": "--run --repo --report --generated --data-licence --public --look",
}
SWITCHES = ["--fast", "--pairs", "--segmenter", "--curate", "--public", "--dry-run"]
PAIRED = ["--flip", "--gradient-checkpointing", "--fit-memory"]  # these have a --no- beside them
WORDS = {
    "--fit": "crop",
    "--init-embedding": "words",
    "--targets": "all",
    "--mixed-precision": "bf16",
    "--start": "mean",
    "--recipe": "tuned",
    "--features": "clip",
    "--phases": "a:3:1e-4:all",
}
REQUIRED = {
    "train": ["--data", "x", "--out", "y"],
    "generate": ["--run", "x", "--out", "y"],
    "evaluate": ["--real", "x", "--fake", "x", "--out", "y"],
}


def word(command, flag):
    "A value that a flag takes."
    return {"generate": "mvtec", "export": "coco", "help-me": "yolo"}[command] if flag == "--layout" else WORDS.get(flag, "8")


def values(part):
    "What a command was told, its groups laid out flat."
    inside = {name: vars(value) if is_dataclass(value) else {name: value} for name, value in vars(part).items()}
    return {name: value for group in inside.values() for name, value in group.items()}


def field(flag):
    name = flag.removeprefix("--no-").removeprefix("--").replace("-", "_")
    return OLD_NAMES.get(name, name)


@pytest.mark.parametrize("command", FLAGS)
def test_every_flag_is_still_read(command):
    flags = [flag for flag in FLAGS[command].split() if not flag.startswith("--no-")]
    bare = [flag for flag in flags if flag in (*SWITCHES, *PAIRED)]
    given = {flag: word(command, flag) for flag in flags if flag not in bare}
    for argv in ([part for pair in given.items() for part in pair], ["=".join(pair) for pair in given.items()]):
        told = values(_parse([command, *argv, *bare]))
        for flag, text in given.items():
            value = told[field(flag)]
            assert (format_phases(value) == "a:3:0.0001:all") if flag == "--phases" else value in (text, 8), flag
        assert all(told[field(flag)] is True for flag in bare)
    told = values(_parse([command, *argv, *(flag for flag in FLAGS[command].split() if flag.startswith("--no-"))]))
    assert all(told[field(flag)] is False for flag in bare)


NONE = {"train": "--category --per-class --size --snr-gamma --mirror --tracker", "generate": "--shard-size", "evaluate": "--usefulness"}


@pytest.mark.parametrize("command,flags", NONE.items())
def test_none_is_a_value(command, flags):
    told = values(_parse([command, *REQUIRED[command], *(part for flag in flags.split() for part in (flag, "none"))]))
    assert all(told[field(flag)] is None for flag in flags.split())


def test_flags_are_not_abbreviated():
    assert "--ran" in refused("train", "--data", "x", "--out", "y", "--ran", "3")
    assert "--seg" in refused("evaluate", "--real", "x", "--fake", "x", "--out", "y", "--seg")


def test_export_needs_no_torch(tmp_path):
    folder_per_class(tmp_path / "fake", ["good"])
    argv = ["export", "--fake", str(tmp_path / "fake"), "--out", str(tmp_path / "out")]
    probe = f"import sys; from defect_lora.cli import main; code = main({argv!r}); assert 'torch' not in sys.modules; sys.exit(code)"
    subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True)
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2
