"""What is said and drawn of speed is what bench/results.md says."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = "cross_entropy 16,384×1,000"


@pytest.fixture(scope="module")
def pictures():
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "bench" / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pictures(pictures, tmp_path):
    shutil.copy(ROOT / "bench" / "results.md", tmp_path)
    pictures.draw(tmp_path)
    drawn = sorted(tmp_path.glob("*.svg"))
    assert [path.name for path in drawn] == ["gradient.svg", "headline.svg", "value.svg"]
    for path in drawn:
        kept = (ROOT / "bench" / path.name).read_text(encoding="utf-8")
        assert kept == path.read_text(encoding="utf-8"), f"{path.name}: python -m bench pictures"
        assert len(kept.encode()) < 30_000


def test_numbers_in_the_readme(pictures):
    results = (ROOT / "bench" / "results.md").read_text(encoding="utf-8")
    milliseconds = float(re.search(rf"^\| {ROW} \| ([\d.]+) \| ([\d.]+) \|", results, re.MULTILINE)[2])
    ratios = pictures.ratios(results, pictures.GRADIENT)[ROW]
    said = (
        f"{milliseconds:.1f} ms on two cores; PyTorch takes {ratios['PyTorch']:.3g} times as long, "
        f"JAX {ratios['JAX']:.3g} times"
    )
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8")[:1000]
    assert said in first_screen
