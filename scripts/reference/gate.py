"""What SciPy says of pairs of counts, and of the power of the exact McNemar test: test/fixtures/gate.json."""

import json
from pathlib import Path

import numpy as np
from scipy.stats import binom, binomtest

FIXTURE = Path(__file__).resolve().parents[2] / "test" / "fixtures" / "gate.json"


def p_value(lost, won):
    return binomtest(lost, lost + won, 0.5).pvalue


def power(n, changed, drop):
    """Of the two-sided test at 5 %: that so many of n images are lost that it calls them a drop."""
    share = max(changed, drop)
    m = np.arange(n + 1)
    critical = np.where(m == 0, 1, binom.isf(0.025, m, 0.5) + 1)
    shown = binom.sf(critical - 1, m, (1 + drop / share) / 2)
    return float((binom.pmf(m, n, share) * shown).sum())


def least_drop(n, changed):
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if power(n, changed, middle) >= 0.8 else (middle, high)
    return high


PAIRS = [(0, 6), (1, 0), (5, 5), (9, 2), (40, 20), (450, 550), (1500, 1400)]
SETS = [(6, 0.5), (20, 0.3), (100, 0.2), (633, 0), (633, 0.2), (10_000, 0.01), (10_000, 0.1)]
result = {
    "mcnemar": [{"lost": lost, "won": won, "p": p_value(lost, won)} for lost, won in PAIRS],
    "leastDrop": [{"images": n, "changed": share, "drop": least_drop(n, share)} for n, share in SETS],
}
FIXTURE.write_text(json.dumps(result, indent=2) + "\n")
