"""The scripts of docs/recipes: they run as they stand, and their assertions hold."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "recipes"
RECIPES = sorted(FOLDER.glob("*.py"))


def packages(path):
    """What a script imports, at any place, beyond Python's own."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            # of fastloss the parts that need a package are named like it: fastloss.torch
            top, _, part = name.partition(".")
            found.add(part.partition(".")[0] if top == "fastloss" and part in ("jax", "torch") else top)
    return found - set(sys.stdlib_module_names) - {"fastloss"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe(path):
    missing = [name for name in packages(path) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"could not import {', '.join(missing)}")
    # Its folder stays out of the path: a recipe may have the name of a package.
    command = [sys.executable, "-P"] if sys.version_info >= (3, 11) else [sys.executable]
    run = subprocess.run(
        [*command, path],
        # their matrix products are so small that the threads of BLAS would wait for each other
        env={**os.environ, "KERAS_BACKEND": "torch", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout, "a recipe shows what it claims"


def test_every_recipe_is_on_the_page():
    page = (FOLDER / "README.md").read_text()
    assert [path.name for path in RECIPES if f"[{path.name}]({path.name})" not in page] == []


def test_packages():
    assert "gunicorn" in packages(FOLDER / "gunicorn_workers.py")
    assert packages(FOLDER / "pytorch.py") == {"torch"}
    assert packages(FOLDER / "focal.py") == {"numpy"}
