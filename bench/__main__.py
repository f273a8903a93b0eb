"""`python -m bench VERB`: one of the measurements. Only the module of the verb is imported."""

from __future__ import annotations

import argparse
import importlib
import sys

VERBS = {
    "compare": "Times of fastloss beside other libraries and the limits of the machine.",
    "pictures": "Nothing: draws the ratios in results.md again.",
    "accuracy": "Distances to the true value, beside other libraries.",
    "exhaustive": "The error of all float32 numbers through sigmoids, losses and the kernels' exp and log.",
    "blocks": "Times of kernels that are built with other block sizes and thresholds.",
    "small": "Microseconds of small calls: every loss with every option, as an object and as a function.",
    "instructions": "Instructions for each element, counted by callgrind, beside those that are recorded.",
    "checks": "What it costs to look at targets: calls with and without.",
    "boosting": "Iterations of LightGBM and XGBoost with fastloss, built-in and NumPy objectives.",
    "distillation": "Temperature and distillation, beside the plain loss and PyTorch's usual form.",
    "neighbours": "Times of a loss between matrix products, whose threads want the same processors.",
    "linear": "Times of linear cross-entropy beside its matrix products, PyTorch and scikit-learn.",
    "partial": "Times of classes in several arrays, and in two processes beside PyTorch's loss_parallel.",
    "train": "Two PyTorch models trained with either loss: steps, memory and how far the curves are apart.",
    "scikit": "Times beside scikit-learn: its losses, temperature scaling, logistic regression.",
    "jax": "Times of jitted losses beside those of optax.",
    "compiled": "Times of calls from C and from Numba's code, by address.",
    "special": "Times beside scipy.special: calls, and models of scikit-learn, hmmlearn and gensim.",
    "metrics": "Times and memory of fastloss.metrics beside scikit-learn's.",
    "recipes": "Times of docs/recipes beside the same losses in eager PyTorch.",
    "layouts": "Times of a class axis elsewhere in memory, such as channels-last, beside the plain layout.",
    "torch": "Times and memory of loss and backward pass in eager PyTorch code.",
}


def main() -> int:
    """Parse the command line and run the verb."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure fastloss.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs, each with its own --help")
    verb = sys.argv[1] if sys.argv[1:] and sys.argv[1] in VERBS else None
    for name, sentence in VERBS.items():
        options = verbs.add_parser(name, help=sentence, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == verb:
            try:
                module = importlib.import_module(f"bench.{name}")
            except ModuleNotFoundError as missing:
                parser.exit(2, f"{name} needs {missing.name}, which is not installed\n")
            options.description = module.__doc__
            module.add_options(options)
    given = parser.parse_args()
    if verb is None:
        parser.print_help()
        return 0
    return int(module.main(given) or 0)


if __name__ == "__main__":
    sys.exit(main())
