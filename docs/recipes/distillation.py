"""Distillation: a small student learns from a teacher's logits, and from few labels, by `kl_div_with_logits`.

A teacher that sees features and their squares has learned from 3,000 labels. The student sees the features
alone; it gets the teacher's logits of all samples and 40 labels. One call gives the loss, (1 - alpha) T**2 KL
+ alpha CE, and its gradient for the student's logits; what is left is a product with the features.
"""

import numpy as np

import fastloss

TEMPERATURE, ALPHA, STEPS, RATE = 3.0, 0.1, 300, 0.5
SAMPLES, LABELLED, FEATURES, CLASSES = 3000, 40, 12, 4


def fitted(features, gradient):
    """Weights after gradient descent; `gradient` is that by the logits."""
    weights = np.zeros((features.shape[1], CLASSES), np.float32)
    for _ in range(STEPS):
        weights -= RATE * (features.T @ gradient(features @ weights))
    return weights


def main():
    """Train a teacher, a student with it, and one without; print what share each gets right."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2 * SAMPLES, FEATURES)).astype(np.float32)
    truth = rng.standard_normal((FEATURES, CLASSES))
    labels = ((x + 0.3 * x**2) @ truth + rng.gumbel(size=(2 * SAMPLES, CLASSES))).argmax(1)
    train, few, test = np.s_[:SAMPLES], np.s_[:LABELLED], np.s_[SAMPLES:]

    hard = fastloss.CrossEntropyLoss()
    rich = np.hstack([x, x**2 - 1])
    teacher = rich @ fitted(rich[train], lambda logits: hard.value_and_grad(logits, labels[train])[1])

    # Samples without a label have no part in cross-entropy: they are a call of their own.
    options = {"temperature": TEMPERATURE, "reduction": "sum"}
    with_labels = fastloss.KLDivWithLogitsLoss(alpha=ALPHA, **options)
    without = fastloss.KLDivWithLogitsLoss(**options)

    def distilled(logits):
        known = with_labels.value_and_grad(logits[few], teacher[few], labels[few])[1]
        rest = without.value_and_grad(logits[LABELLED:], teacher[LABELLED:SAMPLES])[1]
        return np.vstack([known, rest]) / SAMPLES

    student = x[test] @ fitted(x[train], distilled)
    alone = x[test] @ fitted(x[few], lambda logits: hard.value_and_grad(logits, labels[few])[1])
    for name, logits in (("teacher", teacher[test]), ("student", student), ("without teacher", alone)):
        print(f"{name}: {(logits.argmax(1) == labels[test]).mean():.1%}")
    divergence = fastloss.kl_div_with_logits(student, teacher[test])
    print(f"divergence of the student from the teacher: {divergence:.4f}")


if __name__ == "__main__":
    main()
