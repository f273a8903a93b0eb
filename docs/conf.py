"""The documentation site: `.ci/docs` builds it.

Its sources are the Markdown files of the repository where they are, so that a text has one place and links
lead on as in a checkout. The reference comes from the docstrings, scripts are pages, pictures are drawn now.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_site")]

from numpydoc import numpydoc  # noqa: E402

import fastloss  # noqa: E402

project = "fastloss"
author = copyright = "the fastloss developers"
version = release = fastloss.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "formulas",
    "scripts",
]
root_doc = "README"
include_patterns = ["*.md", "bench/README.md", "bench/results.md", "docs/**"]
exclude_patterns = ["build", ".*", "docs/_site", "docs/conf.py"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".py": "script"}
default_role = "py:obj"
nitpicky = False

autosummary_ignore_module_all = False
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
templates_path = [str(HERE / "_site" / "templates")]  # autosummary reads from the sources' folder

myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

html_theme = "furo"
html_title = "fastloss"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
linkcheck_anchors = True

RECIPES = """
```{toctree}
:hidden:
:glob:
*
```
"""
CONTENTS = """
```{toctree}
:hidden:
:caption: Where you come from
docs/numpy
docs/torch
docs/scikit-learn
docs/vocabularies
docs/teaching
```
```{toctree}
:hidden:
:caption: What and why
docs/theory
docs/usage
docs/edges
docs/reference/index
docs/recipes/README
```
```{toctree}
:hidden:
:caption: In depth
docs/boosting
docs/calibration
docs/scale
docs/compiled
docs/runtime
docs/reproducibility
docs/bounds
docs/accuracy
docs/speed
All tables <bench/results>
bench/README
```
```{toctree}
:hidden:
:caption: Taking part
docs/architecture
docs/adding-a-loss
CONTRIBUTING
SECURITY
CHANGELOG
```
"""


def with_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """The README is the first page, what a site has besides stands here; links to pages show their titles."""
    source[0] = re.sub(r"\[[\w./-]+\.md\]\((?=[\w./-]+\.md)", "[](", source[0])
    source[0] += {root_doc: CONTENTS, "docs/recipes/README": RECIPES}.get(name, "")


def complete(app: Sphinx, name: str, source: list[str]) -> None:
    """The reference has all public names."""
    if name != "docs/reference/index":
        return
    for module in (fastloss, fastloss.special):
        names = {f"~{module.__name__}.{name}" for name in module.__all__ if callable(getattr(module, name))}
        for missing in sorted(names - set(source[0].split())):
            logging.getLogger(__name__).warning("not in the reference: %s", missing)


def first_page(app: Sphinx, exception: Exception | None) -> None:
    """The README's page under the name that a server looks for."""
    page = Path(app.outdir) / f"{root_doc}.html"
    if page.exists():
        shutil.copy(page, page.with_name("index.html"))


def highlighted(app: Sphinx, tree: nodes.document) -> None:
    """Code that is only indented is Python where it can be read as such."""
    for block in tree.findall(nodes.literal_block):
        if block.get("language") in (None, "none"):
            block["language"] = "default"


def short_navigation(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Beside a page what is near it; all of the reference would take two thirds of the time."""
    if whole := context.get("toctree"):
        context["toctree"] = lambda **options: whole(**options | {"collapse": True, "maxdepth": 2})


def skip(app: Sphinx, what: str, name: str, member: Any, skips: bool, options: Any) -> bool | None:
    """Members that a class has from PyTorch, scikit-learn or Python are theirs."""
    member = getattr(member, "fget", member)
    return True if not str(getattr(member, "__module__", "")).startswith("fastloss") else None


def signature_of_function(app: Sphinx, what: str, *rest: Any) -> Any:
    """numpydoc's, but of ufuncs, which are data to Sphinx and have none."""
    return None if what == "data" else numpydoc.mangle_signature(app, what, *rest)


def setup(app: Sphinx) -> dict[str, Any]:
    for listener in app.events.listeners["autodoc-process-signature"]:
        app.disconnect(listener.id)
    app.connect("autodoc-process-signature", signature_of_function)
    app.connect("autodoc-skip-member", skip)
    app.connect("html-page-context", short_navigation, priority=400)  # furo has 500
    app.connect("source-read", with_contents)
    app.connect("source-read", complete)
    app.connect("doctree-read", highlighted)
    app.connect("build-finished", first_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
