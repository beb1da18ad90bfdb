"The benchmarks are tested, and what they build is used by other tests."

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
