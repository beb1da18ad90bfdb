"The documentation site builds from the committed notebooks without a network, and no link inside the project leads nowhere."

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "nbs").rglob("*.ipynb"))]
ON_GITHUB = re.compile(r"https://github\.com/defect-lora/defect-lora/(?:blob|tree)/main/([\w./-]+)")
LOCAL = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)")


def prose(path):
    "What a page says beside its code."
    if path.suffix == ".md":
        return re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")


def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", ROOT / "docs", ROOT / "nbs", tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {path.relative_to(tmp_path).with_suffix(".ipynb").as_posix() for path in tmp_path.rglob("*.html")}
    assert {path.relative_to(ROOT / "nbs").as_posix() for path in (ROOT / "nbs").rglob("*.ipynb")} <= pages
    said = (tmp_path / "data" / "01_images.html").read_text(encoding="utf-8")
    assert "open_image" in said and "#| export" not in said and "_images/" in said


@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_links_inside_the_project_lead_somewhere(path):
    text = prose(path)
    dead = [name for name in ON_GITHUB.findall(text) if not (ROOT / name).exists()]
    dead += [name for name in LOCAL.findall(text) if not (path.parent / name).exists()]
    assert not dead
