"""The numbers of a classifier of points, written slowly: one point, pair or bin at a time."""

import math


def sigmoid(logit):
    """Return P(visible)."""
    if logit < 0:
        return math.exp(logit) / (1 + math.exp(logit))
    return 1 / (1 + math.exp(-logit))


def loss(logits, labels):
    """Return the mean of -ln of the probability of each label."""
    terms = [
        math.log1p(math.exp(-abs(z))) + max(-z if y else z, 0.0) for z, y in zip(logits, labels, strict=True)
    ]
    return math.fsum(terms) / len(terms)


def counts(logits, labels):
    """Return how many points have each label and prediction, as a dictionary."""
    found = {(label, predicted): 0 for label in (0, 1) for predicted in (0, 1)}
    for z, y in zip(logits, labels, strict=True):
        found[int(y), int(z > 0)] += 1
    return found


def share(part, whole):
    """Return part / whole, NaN without a whole."""
    return part / whole if whole else math.nan


def auroc(logits, labels):
    """Return the share of pairs in order, one pair after the other."""
    pairs = [
        (a, b)
        for a, y in zip(logits, labels, strict=True)
        if y
        for b, x in zip(logits, labels, strict=True)
        if not x
    ]
    return share(math.fsum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs), len(pairs))


def equal_width_edges(m):
    """Return the lower edges of all bins."""
    return [k / m for k in range(m)]


def equal_mass_edges(logits, m):
    """Return the lower edges: 0, then the point with floor(k p / m) others before it."""
    ordered = sorted(sigmoid(z) for z in logits)
    return [0.0, *(ordered[k * len(ordered) // m] for k in range(1, m))]


def ece(logits, labels, edges):
    """Return the calibration error over bins that each start at an edge."""
    gaps = {}
    for z, y in zip(logits, labels, strict=True):
        place = max(k for k, edge in enumerate(edges) if edge <= sigmoid(z))
        gaps.setdefault(place, []).append(sigmoid(z) - y)
    return math.fsum(abs(math.fsum(gap)) for gap in gaps.values()) / len(logits)


def scores(logits, labels, m=15):
    """Return all numbers by name."""
    n = len(logits)
    if not n:
        names = "loss accuracy balanced_accuracy f1 f1_visible auroc brier ece ece_equal_mass"
        return dict.fromkeys(names.split(), math.nan)
    found = counts(logits, labels)
    recall = [share(found[c, c], found[c, 0] + found[c, 1]) for c in (0, 1)]
    f1 = [share(2 * found[c, c], 2 * found[c, c] + found[c, 1 - c] + found[1 - c, c]) for c in (0, 1)]
    return {
        "loss": loss(logits, labels),
        "accuracy": (found[0, 0] + found[1, 1]) / n,
        "balanced_accuracy": sum(recall) / 2,
        "f1": sum(f1) / 2,
        "f1_visible": f1[1],
        "auroc": auroc(logits, labels),
        "brier": math.fsum((sigmoid(z) - y) ** 2 for z, y in zip(logits, labels, strict=True)) / n,
        "ece": ece(logits, labels, equal_width_edges(m)),
        "ece_equal_mass": ece(logits, labels, equal_mass_edges(logits, m)),
    }
