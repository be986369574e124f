"""Losses and their gradients with respect to embeddings, as fixtures of test/methods/losses-reference.test.ts.

Each in plain PyTorch from its paper; where lightly has a class for it, that class must agree.
"""

import sys
import types
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F

from common import rounded, unit_rows, values, write

N, D = 6, 5


# Losses need little of what lightly's packages import: these stand for the packages, and their modules are found.
for package in ("loss", "models", "models.modules"):
    stub = types.ModuleType(f"lightly.{package}")
    stub.__path__ = [str(Path(find_spec("lightly").origin).parent.joinpath(*package.split(".")))]
    sys.modules[stub.__name__] = stub
sys.modules["torchvision.ops"] = types.SimpleNamespace(StochasticDepth=None)


def lightly(module, name):
    return getattr(import_module(f"lightly.loss.{module}"), name)


def unit(x):
    return F.normalize(x, dim=1)


def nt_xent(temperature):
    def loss(a, b):
        z = unit(torch.cat([a, b]))
        logits = (z @ z.T / temperature).masked_fill(torch.eye(2 * N, dtype=torch.bool), -torch.inf)
        return F.cross_entropy(logits, torch.arange(2 * N).roll(N))

    return loss, lightly("ntx_ent_loss", "NTXentLoss")(temperature)


def info_nce(temperature):
    def loss(queries, positives, negatives):
        q, k = unit(queries), unit(positives)
        logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ negatives.T], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(N, dtype=torch.long))

    def second(queries, positives, negatives):
        theirs = lightly("ntx_ent_loss", "NTXentLoss")(temperature, memory_bank_size=(len(negatives), D))
        theirs.memory_bank.bank = negatives.detach().clone()
        return theirs(queries, positives)

    return loss, second


def swav(queued, temperature=0.1, epsilon=0.05):
    @torch.no_grad()
    def sinkhorn(scores):
        q = torch.exp(scores / epsilon).T
        for _ in range(3):
            q /= q.sum(dim=1, keepdim=True)
            q /= q.sum(dim=0, keepdim=True)
        return q.T

    def scores(views, prototypes):
        return [unit(view) @ prototypes.T for view in views]

    def loss(a, b, small, prototypes, queue0, queue1):
        own = scores([a, b, small], prototypes)
        past = scores([queue0, queue1], prototypes)
        total = 0
        for i in range(2):
            codes = sinkhorn(torch.cat([own[i], past[i]]) if queued else own[i])[:N]
            rest = [own[v] for v in range(3) if v != i]
            total -= sum((codes * F.log_softmax(s / temperature, dim=1)).sum(dim=1).mean() for s in rest) / 2
        return total / 2

    def second(a, b, small, prototypes, queue0, queue1):
        past = scores([queue0, queue1], prototypes) if queued else None
        theirs = lightly("swav_loss", "SwaVLoss")(temperature, 3, epsilon)
        return theirs(scores([a, b], prototypes), scores([small], prototypes), past)

    return loss, second


def barlow_twins(a, b):
    a, b = ((z - z.mean(dim=0)) / (z.var(dim=0, unbiased=False) + 1e-5).sqrt() for z in (a, b))
    correlation = a.T @ b / N
    on = (correlation.diagonal() - 1).square().sum()
    off = correlation.square().sum() - correlation.diagonal().square().sum()
    return on + 0.005 * off


def vicreg(a, b):
    def spread(z):
        covariance = torch.cov(z.T)
        off = covariance.square().sum() - covariance.diagonal().square().sum()
        return F.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean(), off / D

    (va, ca), (vb, cb) = spread(a), spread(b)
    return 25 * F.mse_loss(a, b) + 25 * (va + vb) / 2 + ca + cb


def cosine(p0, p1, t0, t1):
    return -(F.cosine_similarity(p0, t1.detach()).mean() + F.cosine_similarity(p1, t0.detach()).mean()) / 2


def dino(temperature=0.1, teacher_temperature=0.04):
    def loss(s0, s1, s2, t0, t1, centre):
        students = [F.log_softmax(s / temperature, dim=1) for s in (s0, s1, s2)]
        teachers = [F.softmax((t - centre).detach() / teacher_temperature, dim=1) for t in (t0, t1)]
        terms = [
            -(t * s).sum(dim=1).mean() for i, t in enumerate(teachers) for v, s in enumerate(students) if i != v
        ]
        return sum(terms) / len(terms)

    def second(s0, s1, s2, t0, t1, centre):
        theirs = lightly("dino_loss", "DINOLoss")(D, teacher_temp=teacher_temperature, student_temp=temperature)
        theirs.center = centre.detach()[None]
        return theirs([t0.detach(), t1.detach()], [s0, s1, s2])

    return loss, second


def bank(kind, temperature=0.2, images=40):
    """Positives are the batch's rows of a bank, negatives other rows."""

    def loss(embeddings, own, others):
        v = unit(embeddings)
        scores = torch.cat([(v * own).sum(dim=1, keepdim=True), v @ others.T], dim=1) / temperature
        if kind == "infonce":
            return F.cross_entropy(scores, torch.zeros(N, dtype=torch.long))
        if kind == "softmax":  # PIRL's equations 4 and 5
            h = F.softmax(scores, dim=1)
        else:  # Wu et al. 2018, equations 4 to 8, with Z from this batch
            z = scores.exp().mean().detach() * images
            p = scores.exp() / z
            h = p / (p + len(others) / images)
        return -(h[:, 0].log() + (1 - h[:, 1:]).log().sum(dim=1)).mean()

    return loss, None


def drawn(case, name):
    """What a case's input holds."""
    rows = {"negatives": 7, "others": 7, "prototypes": 4, "queue0": 8, "queue1": 8, "centre": 1}.get(name, N)
    if name in ("negatives", "own", "others", "prototypes", "queue0", "queue1"):
        return unit_rows(f"{case}.{name}", (rows, D))
    return values(f"{case}.{name}", (rows, D)) * 1.5


# The inputs before the bar are those whose gradients are compared.
CASES = {
    "nt-xent": ("a b |", *nt_xent(0.5)),
    "nt-xent, cold": ("a b |", *nt_xent(0.07)),
    "info-nce": ("queries positives | negatives", *info_nce(0.2)),
    "swav": ("a b small prototypes | queue0 queue1", *swav(False)),
    "swav, queue": ("a b small prototypes | queue0 queue1", *swav(True)),
    "barlow-twins": ("a b |", barlow_twins, lightly("barlow_twins_loss", "BarlowTwinsLoss")(0.005)),
    "vicreg": ("a b |", vicreg, lightly("vicreg_loss", "VICRegLoss")()),
    "cosine": ("p0 p1 | t0 t1", cosine, None),
    "dino": ("s0 s1 s2 | t0 t1 centre", *dino()),
    "bank, infonce": ("embeddings | own others", *bank("infonce")),
    "bank, softmax": ("embeddings | own others", *bank("softmax")),
    "bank, nce": ("embeddings | own others", *bank("nce")),
}


def lightly_cosine(p0, p1, t0, t1):
    theirs = lightly("negative_cosine_similarity", "NegativeCosineSimilarity")()
    return (theirs(p0, t1.detach()) + theirs(p1, t0.detach())) / 2


def derived(loss, inputs, by):
    value = loss(**inputs)
    return value, torch.autograd.grad(value, [inputs[name] for name in by])


def main():
    fixture = {}
    for case, (names, loss, second) in CASES.items():
        if case == "cosine":
            second = lightly_cosine
        by, rest = (part.split() for part in names.split("|"))
        inputs = {name: drawn(case, name).requires_grad_() for name in by + rest}
        value, gradients = derived(loss, inputs, by)
        if second:
            positional = second if not isinstance(second, torch.nn.Module) else lambda **x: second(*x.values())
            theirs, their_gradients = derived(positional, inputs, by)
            torch.testing.assert_close(theirs.reshape(()), value, rtol=1e-6, atol=1e-8)
            torch.testing.assert_close(their_gradients, gradients, rtol=1e-5, atol=1e-8)
        fixture[case] = {
            "loss": rounded(value.item()),
            "gradients": {name: rounded(g.flatten().tolist()) for name, g in zip(by, gradients, strict=True)},
        }
        print(f"{case}: {value.item():.6f}", "as lightly's" if second else "")
    write("losses", fixture)


if __name__ == "__main__":
    main()
