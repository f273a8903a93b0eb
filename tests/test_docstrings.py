"""Docstrings: numpydoc's rules, every parameter documented, every example true, what is shared filled in."""

import doctest
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastloss

ROOT = Path(__file__).parents[1]


def documented(name):
    """The public functions, classes and their methods of a module, each once, with a full name."""
    module = sys.modules[name]
    found = {}
    for public in module.__all__:
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            found[value] = f"{name}.{public}"
        for kind in inspect.getmro(value) if inspect.isclass(value) else ():
            if kind.__module__.startswith("fastloss"):
                for method, function in vars(kind).items():
                    if inspect.isfunction(function) and (method == "__call__" or method[0] != "_"):
                        found.setdefault(function, f"{name}.{public}.{method}")
    return found


MODULES = {
    "fastloss": "numpy",
    "fastloss.boosting": "numpy",
    "fastloss.dask": "dask.array",
    "fastloss.jax": "jax",
    "fastloss.metrics": "numpy",
    "fastloss.reference": "numpy",
    "fastloss.sklearn": "sklearn",
    "fastloss.special": "scipy",
    "fastloss.torch": "torch",
    "fastloss.torch.parallel": "torch",
}  # and what they need


@pytest.fixture(params=MODULES)
def public(request):
    pytest.importorskip(MODULES[request.param])
    importlib.import_module(request.param)
    return documented(request.param)


def test_numpydoc(public):
    hook = pytest.importorskip("numpydoc.hooks.validate_docstrings")
    validate = pytest.importorskip("numpydoc.validate")
    checks = validate.get_validation_checks(hook.parse_config(ROOT)["checks"])
    assert {"EX01", "PR01", "PR02", "PR03", "RT01"} <= checks
    found = [
        f"{name}: {code} {message}"
        for name in public.values()
        for code, message in validate.validate(name)["errors"]
        if code in checks
    ]
    assert not found, "\n".join(found)


def test_nothing_is_left_to_fill_in(public):
    assert [name for value, name in public.items() if "%(" in value.__doc__] == []


def test_examples(public):
    """Also of what is wrapped, such as context managers, which --doctest-modules leaves out."""
    runner = doctest.DocTestRunner()
    for value, name in public.items():
        test = doctest.DocTestParser().get_doctest(value.__doc__, {}, name, None, None)
        assert test.examples, name
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_package_names_what_it_has():
    names = set(re.findall(r"\w+", fastloss.__doc__))
    assert set(fastloss.__all__) - names == {"CheckError", "__version__"}


def test_reference_has_what_is_public():
    listed = re.findall(r"^   ~fastloss\.(\w+)$", (ROOT / "docs/reference/index.rst").read_text(), re.M)
    public = [name for name in fastloss.__all__ if callable(getattr(fastloss, name))]
    assert sorted(listed) == sorted(public)


def test_function_documents_what_its_class_does():
    for function, kind in fastloss.losses.CLASSES.items():
        text = getattr(fastloss, function).__doc__
        options = kind.__doc__.partition("Parameters\n----------\n")[2].partition("\n\n")[0]
        assert options in text
        assert f"See Also\n--------\n{kind.__name__} : " in text


def test_without_docstrings():
    code = "import fastloss; print(fastloss.cross_entropy.__doc__, fastloss.mse_loss([1.0], [0.0]))"
    run = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "None 1.0\n"
