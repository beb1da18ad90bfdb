"The package as it is shipped: metadata, what the wheel holds, and that the wheel works outside the checkout."

import os
import re
import resource
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path

import nbformat
import pytest

import defect_lora

ROOT = Path(__file__).parent.parent
SHIPPED = ("defect_lora", "setup.py", "settings.ini", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")


def read_settings():
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def python(*arguments, **environment):
    "Run this Python outside the checkout; a failure shows what it said."
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=environment.pop("cwd", "/"),
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    "A wheel built from a source archive, in a copy, so that nothing old in the checkout gets in."
    folder = tmp_path_factory.mktemp("build")
    for name in SHIPPED:
        ignore = shutil.ignore_patterns("__pycache__")
        (shutil.copytree(ROOT / name, folder / name, ignore=ignore) if (ROOT / name).is_dir() else shutil.copy(ROOT / name, folder / name))
    python("-m", "build", "--outdir", folder / "dist", folder, cwd=folder)
    return next((folder / "dist").glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    "The wheel unpacked by pip into a folder of its own."
    site = tmp_path_factory.mktemp("site")
    python("-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel)
    return site


def test_settings_agree_with_the_package():
    settings = read_settings()
    assert settings["version"] == defect_lora.__version__
    assert settings["lib_name"] == "defect_lora"
    assert settings["min_python"] == "3.10"


def test_wheel_metadata_is_settings(wheel):
    settings = read_settings()
    with zipfile.ZipFile(wheel) as archive:
        read = lambda name: archive.read(f"defect_lora-{settings['version']}.dist-info/{name}").decode()
        metadata = Parser().parsestr(read("METADATA"))
        assert settings["console_scripts"].replace("=", " = ") in read("entry_points.txt")
    assert metadata["Name"] == settings["pip_name"] and metadata["Version"] == settings["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    required = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(required) == sorted(settings["requirements"].split())


def test_wheel_holds_every_module_and_the_tiny_base(wheel):
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("defect_lora/")}
        tiny = sum(info.file_size for info in archive.infolist() if info.filename.startswith("defect_lora/tiny/"))
    package = ROOT / "defect_lora"
    wanted = {path.relative_to(ROOT).as_posix() for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert shipped == wanted
    assert any(name.startswith("defect_lora/tiny/unet/") for name in shipped)
    assert tiny <= 16 * 1024**2, f"the tiny base takes {tiny:,} bytes"


def test_installed_wheel_draws_data_and_loads_the_tiny_base(installed, tmp_path):
    where = python("-c", "import defect_lora; print(defect_lora.__file__)", PYTHONPATH=str(installed))
    assert where.startswith(str(installed))
    out = tmp_path / "data"
    python(installed / "bin" / "defect-lora", "data", "--out", out, "--per-class", 1, "--size", 64, PYTHONPATH=str(installed))
    assert len(list((out / "DS-MVTec" / "cable" / "image").glob("*/*.png"))) == 9
    code = "from defect_lora.model.base import load_base; print(load_base('tiny').source)"
    assert python("-c", code, PYTHONPATH=str(installed), HF_HUB_OFFLINE="1").startswith(str(installed))


def test_every_name_of_the_face_resolves():
    for name in defect_lora.__all__:
        assert getattr(defect_lora, name).__name__ == name and name in dir(defect_lora)
    assert "Trainer" in defect_lora.__all__ and not [name for name in dir(defect_lora) if name.startswith("nothing")]
    with pytest.raises(AttributeError, match="no attribute 'Trainers'"):
        _ = defect_lora.Trainers


def test_tutorials_import_from_the_face_alone():
    for path in sorted((ROOT / "nbs" / "tutorials").glob("*.ipynb")):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        lines = [line.strip() for cell in cells for line in cell.source.splitlines() if re.match(r"\s*(from|import) defect_lora", line)]
        names = {name.strip() for line in lines for name in line.partition(" import ")[2].split(",")}
        assert lines and all(line.startswith("from defect_lora import ") for line in lines), path.name
        assert names <= set(defect_lora.__all__), path.name
        assert not [cell.source for cell in cells if re.search(r"^\s*(#\|\s*export|def |class )", cell.source, re.M)], path.name


def test_light_modules_do_not_import_torch():
    names = ("defect_lora", "defect_lora.data.images", "defect_lora.data.cables", "defect_lora.cli")
    for name in names:
        python("-c", f"import sys, {name}; assert 'torch' not in sys.modules, {name!r}", PYTHONPATH=str(ROOT))


def seconds(*arguments):
    "Processor time, the best of three runs: a busy machine does not lengthen it."
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        python(*arguments, PYTHONPATH=str(ROOT))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def test_import_and_help_are_quick():
    bare = seconds("-c", "pass")
    assert seconds("-c", "import defect_lora") - bare < 0.3
    assert seconds("-c", "from defect_lora.cli import main; main(['--help'])") < 1


def test_readme_has_two_commands_and_ci_runs_the_second():
    commands = re.findall(r"^```bash\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(commands) == 2
    assert commands[0].strip().endswith("defect-lora demo") and commands[1].strip().endswith("bash tests/run.sh")
    assert all("python3 -m venv" in command and "pip install" in command for command in commands)
    assert "README.md" in (ROOT / ".ci" / "run").read_text()
    assert "run: .ci/run" in (ROOT / ".github" / "workflows" / "test.yml").read_text()
