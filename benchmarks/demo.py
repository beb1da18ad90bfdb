"""What the README says of the demo: `python benchmarks/demo.py [--out FOLDER]` runs it and keeps its verdict, time and picture.

The figures go to benchmarks/results/demo.json, the picture to nbs/images/demo.jpg.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(out):
    "The demo as a person types it: the figures that are kept."
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "defect_lora.cli", "demo", "--out", out], check=True)
    report = json.loads((Path(out) / "report" / "report.json").read_text(encoding="utf-8"))
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # GiB; Linux counts in KiB
    figures = {key: report[key] for key in ("verdict", "grade", "class_accuracy", "kid", "sharpness")}
    return dict(minutes=round((time.perf_counter() - start) / 60, 1), gigabytes=round(memory, 2), **figures)


def picture(out, rows=2, cell=128):
    "Rows of held-out cables above rows of generated ones, a column for each class."
    from defect_lora.data.images import image_grid, list_images, open_image

    kinds = [Path(out) / "unseen" / "DS-MVTec" / "cable" / "image", Path(out) / "generated"]
    classes = sorted(folder.name for folder in kinds[0].iterdir() if folder.is_dir())
    images = [open_image(list_images(kind / name)[row]) for kind in kinds for row in range(rows) for name in classes]
    titles = ["rendered"] * rows + ["generated"] * rows
    return image_grid(images, len(classes), labels=classes * len(titles), row_labels=titles, cell=cell)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=None, help="a folder to keep; a temporary one by default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = args.out or folder
        figures = run(out)
        (ROOT / "benchmarks" / "results" / "demo.json").write_text(json.dumps(figures, indent=1) + "\n")
        picture(out).save(ROOT / "nbs" / "images" / "demo.jpg", quality=80)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
