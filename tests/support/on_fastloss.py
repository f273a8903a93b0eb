"""A plugin of pytest: the tests that were collected call fastloss.special in place of scipy.special.

Its last line is JSON: the calls of each function, how many of them were of complex numbers, long double or
other arrays than fastloss computes with, and how many went to SciPy.
"""

import collections
import json

import numpy as np

from fastloss import special

CALLS, FOREIGN, ASKED = (collections.Counter() for _ in range(3))


class Counted:
    """A function, or ufunc, whose calls are counted."""

    def __init__(self, name, function):
        self.__name__, self.function = name, function

    def __getattr__(self, name):
        return getattr(self.function, name)

    def __call__(self, *args, **keywords):
        CALLS[self.__name__] += 1
        arrays = [np.asarray(a) for a in (*args, keywords.get("b")) if a is not None]
        FOREIGN[self.__name__] += any(a.dtype.char in "gFDG" for a in arrays)
        return self.function(*args, **keywords)


def pytest_collection_finish(session):
    true = special._theirs

    def asked(name):
        ASKED[name] += 1
        return true(name)

    special._theirs = asked
    for name in special._OF_SCIPY:
        setattr(special, name, Counted(name, getattr(special, name)))
    special.patch()


def pytest_sessionfinish(session):
    print("\n" + json.dumps({"calls": CALLS, "foreign": FOREIGN, "asked": ASKED}))
