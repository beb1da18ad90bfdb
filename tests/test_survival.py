"A run that is killed at random instants, inside saves too, ends as the one that was never killed."

import subprocess
import sys
from pathlib import Path


def test_killed_runs_are_the_same_run():
    script = Path(__file__).parents[1] / "benchmarks" / "survival.py"
    done = subprocess.run([sys.executable, script, "--kills", "12"], capture_output=True, text=True, timeout=1500)
    assert done.stdout.strip().endswith("12 kills, 0 different"), done.stdout + done.stderr[-3000:]
