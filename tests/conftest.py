"The benchmarks are tested, and what they build is used by other tests. The longest files come first, so that two processes end together."

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
LONGEST = ["test_colab", "test_fake_t4", "test_distributed", "test_benchmarks", "test_survival"]  # each process takes two at first


def pytest_collection_modifyitems(items):
    "Files that take longest first; a file's own tests stay in their order."
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
