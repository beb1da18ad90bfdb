"Mistakes that names and folders show are told before torch is imported."

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

SCRIPT = """
import sys
from defect_lora.cli import main
for line in sys.stdin.read().splitlines():
    print(main(line.split()), "torch" in sys.modules, file=sys.stderr)
"""

MISTAKES = {
    "train --data nowhere --out out": "no folder at nowhere",
    "train --data empty --out out --base tiny": "no data set found",
    "train --data plain --out out --base nowhere": "unknown base 'nowhere'",
    "train --data plain --out out --base tiny --rank much": "'much' is not a whole number",
    "generate --run empty --out out": "no trained model there",
    "generate --run begun --out out": "its training has not ended",
    "generate --run user/name --out out --pairs --real plain": "no masks beside the photographs",
    "generate --run user/name --out out --pairs --real plain --good nowhere": "--good is a folder",
    "evaluate --real plain --fake plain --out out --usefulness 2 --segmenter": "no masks; --segmenter needs images with masks",
}


def test_mistakes_are_told_before_torch_is_imported(tmp_path):
    for name in ("good", "bent"):
        (tmp_path / "plain" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "plain" / name / "0.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun/checkpoints").mkdir(parents=True)
    place = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[1]))
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], input="\n".join(MISTAKES), cwd=tmp_path, env=place, capture_output=True, text=True, timeout=120
    )
    lines = run.stderr.splitlines()
    assert len(lines) == 2 * len(MISTAKES), run.stderr
    for command, text, line, code in zip(MISTAKES, MISTAKES.values(), lines[::2], lines[1::2]):
        assert code == "2 False" and text in line, (command, line, code)
    assert not (tmp_path / "out").exists()
