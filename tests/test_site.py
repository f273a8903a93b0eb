"""What the documentation site makes of formulas in docstrings."""

import importlib.util
import inspect
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import fastloss

pytest.importorskip("sphinx")


@pytest.fixture(scope="module")
def formulas():
    path = Path(__file__).parents[1] / "docs" / "_site" / "formulas.py"
    spec = importlib.util.spec_from_file_location("formulas", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "Focal loss: -w_t (1 - p_t)^γ log p_t with p = softmax(x).",
            ["-w_t (1 - p_t)^γ log p_t", "p = softmax(x)"],
        ),
        ("log1p(f) with f = Σ_j p_j (exp(u_j) - 1), where u", ["f = Σ_j p_j (exp(u_j) - 1)"]),
        ("The gradient is -w_t at t and 0 elsewhere.", ["-w_t"]),
        ("a tanh(x / a) takes the place of x", ["a tanh(x / a)"]),
        ("Labels 1 or -1, in [0, 1], of shape (N, C) or (..., C, ...); default: -100", []),
        ("`log_softmax` of a log-probability, as scipy.special.kl_div", []),
        ("the sum of c_j (L - d_j), d_j = x_j - max x", ["c_j (L - d_j)", "d_j = x_j - max x"]),
        ("v = max(var, eps), and (the p_t of others)", ["v = max(var, eps)", "p_t"]),
    ],
)
def test_formulas_in_a_text(formulas, text, found):
    assert [text[i:j] for i, j in formulas.spans(text)] == found


def test_literals_stay(formulas):
    assert formulas.marked("`x_t` is ``p_t - 1``, |x| * 2") == r"`x_t` is ``p_t - 1``, \|x\| \* 2"


def test_mathml(formulas):
    tree = ElementTree.fromstring(formulas.mathml("-Σ_j w_j (1 - p_j)²", "inline"))
    assert "".join(tree.itertext()) == "−∑jwj(1−pj)2"
    assert tree.find(".//{*}msup/{*}mn").text == "2"


@pytest.mark.parametrize("module", [fastloss, fastloss.metrics, fastloss.reference, fastloss.special])
def test_all_docstrings(formulas, module):
    shown = 0
    for name in module.__all__:
        lines = (inspect.getdoc(getattr(module, name)) or "").split("\n")
        formulas.typeset(None, "function", name, None, None, lines)
        for inline, display in re.findall(r":math:`(.*?)`|\.\. math:: (.*)", "\n".join(lines)):
            ElementTree.fromstring(formulas.mathml(inline or display, "inline"))
            shown += 1
    assert shown >= 5
