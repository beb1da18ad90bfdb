"The house: rooms stand where their notebooks do, import from above alone, and stay small enough to be read."

import ast
import json
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("data", "model", "evaluation", "training", "generation", "usefulness", "sharing", "widgets", "cli")
LATE = {"usefulness": ("widgets", "cli"), "sharing": ("widgets", "cli")}  # who may import them


def notebooks():
    return sorted(path for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def cells(path):
    "The sources of a notebook's code cells."
    read = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in read if cell["cell_type"] == "code"]


def exported(path, internal=True):
    "The cells that become the module; without `internal` those that it offers to others than its own package."
    return [source for source in cells(path) if re.search(r"^#\|\s*export" + ("i?" if internal else "") + r"\s*$", source, re.MULTILINE)]


def module_of(path):
    "The module that a notebook exports, without the package's name, or None."
    found = (re.search(r"^#\|\s*default_exp\s+(\S+)", source, re.MULTILINE) for source in cells(path))
    return next((match.group(1) for match in found if match), None)


NOTEBOOKS = notebooks()
MODULES = {module_of(path): path for path in NOTEBOOKS if module_of(path)}


def tree(module):
    return ast.parse((ROOT / "defect_lora" / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))


def imported(module):
    "The modules of this package that a module imports anywhere in its code, without the package's name."
    for node in ast.walk(tree(module)):
        if not isinstance(node, ast.ImportFrom):
            continue
        home = module.split(".")[: -node.level] if node.level else []
        parts = [*home, *(node.module or "").split(".")]
        if node.level or parts[0] == "defect_lora":
            name = ".".join(part for part in parts if part and part != "defect_lora")
            inside = [f"{name}.{alias.name}".strip(".") for alias in node.names]
            yield from [one for one in inside if one in MODULES] or ([name] if name in MODULES else [])


def number(module):
    return int(MODULES[module].name.partition("_")[0]) if "." in module else 0


def may_import(module, other):
    "Does the other room stand above this one?"
    mine, theirs = module.split(".")[0], other.split(".")[0]
    if mine == theirs:
        return number(other) < number(module)
    return FOLDERS.index(theirs) < FOLDERS.index(mine) and mine in LATE.get(theirs, FOLDERS)


def public(source):
    "The names that a cell defines for others."
    names = []
    for node in ast.parse(re.sub(r"^[%!].*$", "", source, flags=re.MULTILINE)).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
    return [name for name in names if not name.startswith("_") and name != "log"]


def test_a_module_imports_from_above_alone():
    found = {f"{module} < {other}" for module in MODULES for other in imported(module) if not may_import(module, other)}
    assert not found


def test_every_notebook_mirrors_its_module():
    for module, path in MODULES.items():
        *folder, name = module.split(".")
        assert path.relative_to(ROOT / "nbs").parent.parts == tuple(folder), path
        assert re.fullmatch(rf"(\d\d_)?{name}", path.stem) and (bool(folder) == path.stem[:2].isdigit()), path
        assert module.split(".")[0] in FOLDERS and (ROOT / "defect_lora" / (module.replace(".", "/") + ".py")).exists(), path
    files = {".".join(path.relative_to(ROOT / "defect_lora").with_suffix("").parts) for path in (ROOT / "defect_lora").rglob("[!_]*.py")}
    assert files == set(MODULES)


def test_no_two_notebooks_of_a_folder_share_a_number():
    places = [f"{path.parent.name}/{path.name[:2]}" for path in NOTEBOOKS if path.name[:2].isdigit()]
    assert len(places) == len(set(places)), {place for place in places if places.count(place) > 1}


@pytest.mark.parametrize("folder", ["tutorials", "studies"])
def test_tutorials_and_studies_export_nothing(folder):
    for path in (ROOT / "nbs" / folder).glob("*.ipynb"):
        assert module_of(path) is None and not exported(path), path


def test_classes_and_functions_can_be_read():
    found = []
    for module in MODULES:
        for node in ast.walk(tree(module)):
            limit = 250 if isinstance(node, ast.ClassDef) else 40 if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else None
            if limit and node.end_lineno - node.lineno + 1 > limit:
                found.append(f"{module}.{node.name}")
    assert not found


def test_a_cell_exports_one_public_name():
    sources = ((module, public(source)) for module, path in MODULES.items() for source in exported(path))
    found = [f"{module}: {', '.join(names)}" for module, names in sources if len(names) > 1]
    assert not found


def test_the_library_exports_few_names():
    names = [name for module in MODULES for source in exported(MODULES[module], internal=False) for name in public(source)]
    offered = [name for module in MODULES for name in import_module(f"defect_lora.{module}").__all__]
    assert sorted(names) == sorted(offered) and len(names) < 200


def test_what_begins_with_an_underscore_stays_in_its_module():
    found = []
    for module in MODULES:
        for node in ast.walk(tree(module)):
            inside = isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("defect_lora"))
            found += [f"{module}: {alias.name}" for alias in node.names if alias.name.startswith("_")] if inside else []
    assert found == ["cli: __version__"]
