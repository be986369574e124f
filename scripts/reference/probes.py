"""What NumPy and scikit-learn say of features that test/probe/reference.ts makes too: test/fixtures/probes.json."""

import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from generator import Generator

FIXTURE = Path(__file__).resolve().parents[2] / "test" / "fixtures" / "probes.json"


def values(name, shape):
    generator = Generator(name)
    flat = np.array([generator.value() for _ in range(int(np.prod(shape)))])
    return flat.reshape(shape)


def falling(name, n, d):
    """Off centre, with a spectrum that falls."""
    return (values(name, (n, d)) / (1 + np.arange(d) / 4) + 0.25).astype(np.float32).astype(np.float64)


def views(name, images, count, d):
    own = values(name, (images, 1, d)) / (1 + np.arange(d) / 4)
    return (own + 0.25 * values(f"{name} views", (images, count, d))).astype(np.float32).astype(np.float64)


def exp_entropy(spectrum):
    shares = spectrum / spectrum.sum() + 1e-7
    return float(np.exp(-(shares * np.log(shares)).sum()))


def rank_me(z):
    return exp_entropy(np.linalg.svd(z, compute_uv=False))


def alpha_req(z):
    spectrum = np.linalg.eigvalsh(np.cov(z.T))[::-1]
    ranks = np.arange(11, min(100, len(spectrum)) + 1)
    # polyfit's weights are those of the residuals, before they are squared.
    slope, _ = np.polyfit(np.log(ranks), np.log(spectrum[ranks - 1]), 1, w=1 / np.sqrt(ranks))
    return float(-slope)


def unit(z):
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def uniformity(z):
    x = unit(z)
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    return float(np.log(np.exp(-2 * squared)[~np.eye(len(x), dtype=bool)].mean()))


def alignment(z):
    x = unit(z)
    a, b = np.triu_indices(z.shape[1], 1)
    return float(((x[:, a] - x[:, b]) ** 2).sum(-1).mean())


def lidar(z):
    means = z.mean(1)
    between = np.cov(means.T, bias=True)
    off = (z - means[:, None]).reshape(-1, z.shape[-1])
    within = off.T @ off / len(off) + 1e-4 * np.eye(z.shape[-1])
    values_w, vectors_w = np.linalg.eigh(within)
    root = vectors_w @ np.diag(values_w**-0.5) @ vectors_w.T
    return exp_entropy(np.abs(np.linalg.eigvalsh(root @ between @ root)))


def classes(name, n, d, count):
    """Features about a centre for each class, in class order 0, 1, 2, ..., 0, 1, ..."""
    labels = np.arange(n) % count
    noise = values(name, (n, d, 4)).sum(-1)
    return values("centres", (count, d))[labels] + noise.astype(np.float64), labels


def logistic():
    (train, labels), (test, wanted) = (classes(name, n, 16, 8) for name, n in (("train", 1500), ("test", 4000)))
    train, test = (rows.astype(np.float32).astype(np.float64) for rows in (train, test))
    scaler = StandardScaler().fit(train)
    classifier = LogisticRegression(max_iter=5000, tol=1e-8).fit(scaler.transform(train), labels)
    return 100 * float((classifier.predict(scaler.transform(test)) == wanted).mean())


def main():
    tall, wide, paired = falling("tall", 300, 40), falling("wide", 20, 40), views("paired", 60, 4, 16)
    found = {
        "rankme": {"tall": rank_me(tall), "wide": rank_me(wide)},
        "alpha": alpha_req(tall),
        "uniformity": uniformity(tall),
        "alignment": alignment(paired),
        "lidar": lidar(paired),
        "logistic": logistic(),
    }
    FIXTURE.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
