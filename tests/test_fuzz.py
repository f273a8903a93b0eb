"""The calls that tests/support/fuzz.py makes of bytes: its corpus, and a few of hypothesis's own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import fuzz


@pytest.mark.parametrize("line", fuzz.CORPUS.read_text().splitlines())
def test_corpus(line):
    fuzz.one(bytes.fromhex(line))


@settings(derandomize=True, deadline=None, max_examples=1000, database=None)
@given(st.binary(max_size=400))
def test_drawn(data):
    fuzz.one(data)


def test_a_disagreement_is_found(monkeypatch):
    """Of a value, of an output that is written before an error, and of an error that names nothing."""
    call = bytes.fromhex("00")
    fuzz.one(call)
    true = fuzz.fastloss.reference.cross_entropy
    monkeypatch.setattr(fuzz.fastloss.reference, "cross_entropy", lambda *a, **k: (2.0, true(*a, **k)[1]))
    with pytest.raises(fuzz.fastloss.CheckError):
        fuzz.one(call)
    monkeypatch.undo()
    monkeypatch.setattr(fuzz, "NAMED", fuzz.re.compile("nothing"))
    lines = [
        line for line in fuzz.CORPUS.read_text().splitlines() if outcome(bytes.fromhex(line)) == "unnamed"
    ]
    assert len(lines) > 20


def outcome(data):
    try:
        fuzz.one(data)
    except AssertionError:
        return "unnamed"
    return "fine"
