#!/usr/bin/env bash
# Every test of the project, in the environment that is active.
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

echo "== notebooks run"
DEFECT_LORA_SMALL=1 nbdev-test nbs --skip-folder-re '^[_.]|^tutorials' --n-workers 2 --timing  # the tutorials run in tests/test_colab.py

echo "== pytest"
python -m pytest tests
