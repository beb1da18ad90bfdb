#!/usr/bin/env bash
# Every test of the project, in the environment that is active; with --fast what tells most in minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

echo "== modules equal notebooks, and notebooks are clean"
mkdir "$copy/defect_lora"
cp -r nbs pyproject.toml settings.ini "$copy"
cp defect_lora/__init__.py "$copy/defect_lora"
(cd "$copy" && nbdev-export && nbdev-clean)
diff -r -x __pycache__ -x tiny defect_lora "$copy/defect_lora" || { echo "run nbdev-export and commit both"; exit 1; }
diff -rq -x .ipynb_checkpoints nbs "$copy/nbs" || { echo "run nbdev-clean and commit"; exit 1; }

echo "== ruff"
ruff check .
ruff format --check nbs tests benchmarks docs

export DEFECT_LORA_SMALL=1
# two processes with two threads each would wait for one another
export OMP_NUM_THREADS=1
if [ "${1:-}" = --fast ]; then
    echo "== notebooks of data, model and evaluation"
    for folder in data model evaluation; do nbdev-test "nbs/$folder" --n-workers 2 --timing; done
    echo "== pytest"
    python -m pytest tests/test_house.py tests/test_readme.py tests/test_docs.py tests/test_package.py tests/test_cli.py --durations 10
    exit
fi

echo "== notebooks run"
nbdev-test nbs --skip-folder-re '^[_.]|^tutorials' --n-workers 2 --timing  # the tutorials run in tests/test_colab.py

echo "== pytest"
unset DEFECT_LORA_SMALL
# a file's trainings are shared, so it stays with one process; the order is that of tests/conftest.py
python -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder --durations 25
