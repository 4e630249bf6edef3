"""Sphinx configuration; the build needs no network."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

# a link to the folder would not do: references are resolved by real paths, and would lead out of docs
(HERE / "tutorials").mkdir(exist_ok=True)
for source in [*(HERE.parent / "tutorials").glob("*.ipynb"), HERE.parent / "tutorials" / "index.md"]:
    shutil.copy2(source, HERE / "tutorials")

project = "sjg"
author = "The sjg developers"
copyright = "2026, the sjg developers"
release = installed_version("sjg")
version = ".".join(release.split(".")[:2])

extensions = [
    "benchmark_table",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

templates_path = ["_templates"]
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
# the type is the annotation; "Returns" says what the value means
napoleon_google_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# the notebooks hold their outputs: tutorials/execute.py makes them, a weekly job runs all of them again, a test runs the quickstart
nb_execution_mode = "off"
nb_merge_streams = True

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

nitpicky = True
# every reference to a public name of sjg must resolve; private names appear only as type aliases in signatures, and those of other
# projects are links only where their inventories may be fetched
nitpick_ignore_regex = [(r"py:.*", r"(?!sjg\.).*"), (r"py:class", r"sjg\..*\b_\w+.*")]
if os.environ.get("SJG_DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3/", None),
        "spatialdata": ("https://spatialdata.scverse.org/en/stable/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }

html_theme = "sphinx_book_theme"
html_title = "sjg"
html_theme_options = {"show_toc_level": 2, "home_page_in_toc": False}
