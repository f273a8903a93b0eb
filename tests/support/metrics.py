"""scikit-learn's metrics computed by fastloss's.

As a plugin of pytest (-p tests.support.metrics) it puts them into scikit-learn and its scorers before its
tests are imported.
"""

import functools

import sklearn.metrics
from sklearn.metrics import _classification, _scorer

import fastloss

NAMES = ("log_loss", "brier_score_loss", "d2_log_loss_score")
calls = dict.fromkeys(NAMES, 0)


def counted(name):
    own = getattr(fastloss.metrics, name)

    @functools.wraps(own)
    def metric(*args, **kwargs):
        calls[name] += 1
        return own(*args, **kwargs)

    return metric


def pytest_configure():
    for name in NAMES:
        theirs, own = getattr(_classification, name), counted(name)
        own._skl_parameter_constraints = {**theirs._skl_parameter_constraints, "from_logits": ["boolean"]}
        for module in (_classification, sklearn.metrics, _scorer):
            setattr(module, name, own)
        for scorer in _scorer._SCORERS.values():
            if scorer._score_func is theirs:
                scorer._score_func = own


def pytest_terminal_summary(terminalreporter):
    for name, number in calls.items():
        terminalreporter.write_line(f"calls of {name}: {number}")
