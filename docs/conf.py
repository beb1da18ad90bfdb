"""The documentation site: the notebooks as they are committed, none is run.

`sphinx-build -W -c docs nbs OUT` builds it without a network.
"""

import json
import re
from configparser import ConfigParser
from pathlib import Path

settings = ConfigParser(delimiters=["="])
settings.read(Path(__file__).parents[1] / "settings.ini", encoding="utf-8")

project = settings["DEFAULT"]["pip_name"]
author = settings["DEFAULT"]["author"]
release = settings["DEFAULT"]["version"]
extensions = ["myst_nb"]
exclude_patterns = ["**/.ipynb_checkpoints", "studies/results", "studies/tiny_base"]
html_theme = "furo"
html_title = project
nb_execution_mode = "off"
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_url_schemes = ("http", "https", "mailto")
suppress_warnings = ["myst.header", "mystnb.mime_priority"]
DIRECTIVE = re.compile(r"^#\|.*\n?", re.MULTILINE)


def without_directives(app, name, source):
    "A notebook as a reader wants it: hidden cells and nbdev's directives are left out."
    if not app.env.doc2path(name).suffix == ".ipynb":
        return
    notebook = json.loads(source[0])
    notebook["cells"] = [shown(cell) for cell in notebook["cells"] if not is_hidden("".join(cell["source"]))]
    source[0] = json.dumps(notebook)


def is_hidden(text):
    "nbdev's word for a cell that only machines need, and cells of directives alone."
    return text.startswith("#| hide") or not DIRECTIVE.sub("", text).strip()


def shown(cell):
    "A cell without its directives."
    return cell | {"source": DIRECTIVE.sub("", "".join(cell["source"])).strip("\n")}


def setup(app):
    app.connect("source-read", without_directives)
