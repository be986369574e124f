"""Twelve training steps of methods in plain PyTorch, from their papers: the fixtures of test/methods/parity.test.ts.

State has the names that ort-pretrain gives it, initial values and views come from names (common.py).
"""

import sys

import torch
import torch.nn.functional as F
from torch import nn

from common import STEPS, Generator, along, batch, fill, others, packed, rounded, unit_rows, view, write


def smooth(x):
    """ReLU without its corner: of so many values one would lie within rounding of it, where the gradient jumps."""
    return (x + (x * x + 0.01).sqrt()) / 2


class Encoder(nn.Module):
    """[n, 3, s, s] -> [n, 16]"""

    def __init__(self, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = norm(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.bn2 = norm(16)

    def forward(self, x):
        x = smooth(self.bn1(self.conv1(x)))
        return smooth(self.bn2(self.conv2(x))).mean(dim=(2, 3))


class Method(nn.Module):
    """One method's run: what it is fed, its networks, its loss."""

    batch, images = 8, 24
    sizes = (8, 8)
    # Linear from the first step to the last, or 0 until a step and 1 from there.
    scalars = {}
    # Names of parameters whose learning rate has a schedule of its own begin with one of these.
    constant_rate = ()
    optimizer = "sgd"

    def loss(self, views, scalars, step):
        raise NotImplementedError

    def begin(self):
        """What precedes the first step."""

    def after(self, step):
        """What follows the optimizer's step."""


def ema(average, online, decay):
    with torch.no_grad():
        for a, p in zip(average.parameters(), online.parameters(), strict=True):
            a.mul_(decay).add_(p, alpha=1 - decay)


class SimCLR(Method):
    """Chen et al. 2020, algorithm 1."""

    batch, images = 16, 32
    scalars = {"lr": (0.15, 0.05), "weightDecay": (0.01, 0.02), "temperature": (0.5, 0.4)}

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.projector = nn.Sequential(
            nn.Linear(16, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8, bias=False)
        )

    def loss(self, views, scalars, step):
        z = F.normalize(self.projector(self.encoder(torch.cat(views))))
        n = len(z) // 2
        logits = z @ z.T / scalars["temperature"]
        logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
        return F.cross_entropy(logits, torch.arange(2 * n).roll(n))


class SimCLRAdamW(SimCLR):
    scalars = {**SimCLR.scalars, "lr": (0.01, 0.005), "weightDecay": (0.1, 0.2)}
    optimizer = "adamw"


class SplitBatchNorm(nn.BatchNorm2d):
    """Each part by itself, as on a device of its own; running statistics are the mean of the parts'."""

    parts = 2

    def forward(self, x):
        y, means, variances = torch.empty_like(x), [], []
        for i in range(self.parts):
            mean, variance = self.running_mean.clone(), self.running_var.clone()
            y[i :: self.parts] = F.batch_norm(
                x[i :: self.parts], mean, variance, self.weight, self.bias, True, self.momentum, self.eps
            )
            means.append(mean)
            variances.append(variance)
        self.running_mean.copy_(torch.stack(means).mean(dim=0))
        self.running_var.copy_(torch.stack(variances).mean(dim=0))
        return y


class MoCo(Method):
    """He et al. 2019 in the order of the authors' code, the average first, with the head of Chen et al. 2020."""

    batch, images = 16, 32
    scalars = {
        "lr": (0.01, 0.005),
        "weightDecay": (0.01, 0.02),
        "temperature": (0.2, 0.25),
        "momentum": (0.5, 0.9),
    }

    def __init__(self):
        super().__init__()
        self.encoder, self.projector = self.networks()
        # Values of their own: that the first step averages can then be seen.
        self.average = nn.ModuleDict(zip(("encoder", "projector"), self.networks(), strict=True))
        self.register_buffer("queue", torch.zeros(32, 8))

    @staticmethod
    def networks():
        return Encoder(SplitBatchNorm), nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8))

    def query(self, view):
        return F.normalize(self.projector(self.encoder(view)))

    @torch.no_grad()
    def key(self, view, order):
        """Shuffled among the parts, and back."""
        order = torch.tensor(Generator(order).shuffled(range(self.batch)))
        shuffled = F.normalize(self.average["projector"](self.average["encoder"](view[order])))
        k = torch.empty_like(shuffled)
        k[order] = shuffled
        return k

    def contrast(self, q, k, temperature):
        positive = (q * k).sum(dim=1, keepdim=True)
        logits = torch.cat([positive, q @ self.queue.T], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))

    def loss(self, views, scalars, step):
        for name, average in self.average.items():
            ema(average, getattr(self, name), scalars["momentum"])
        q = self.query(views[0])
        k = self.key(views[1], f"shuffle.{step}")
        loss = self.contrast(q, k, scalars["temperature"])
        self.enqueue(k)
        return loss

    def enqueue(self, *keys):
        self.queue = torch.cat([*keys, self.queue])[: len(self.queue)]


class MoCoSymmetric(MoCo):
    """Both views query; keys enter the queue after both halves."""

    batch, images = 8, 24

    def loss(self, views, scalars, step):
        for name, average in self.average.items():
            ema(average, getattr(self, name), scalars["momentum"])
        q = [self.query(view) for view in views]
        k = [self.key(views[1], f"shuffle.{step}"), self.key(views[0], f"shuffle2.{step}")]
        losses = [self.contrast(q[i], k[i], scalars["temperature"]) for i in range(2)]
        self.enqueue(*k)
        return sum(losses) / 2


class SwAV(Method):
    """Caron et al. 2020, listing A.1, with multi-crop, a queue for each large crop, and frozen prototypes at first."""

    sizes = (12, 12, 8, 8)
    scalars = {
        "lr": (0.15, 0.05),
        "weightDecay": (0.01, 0.02),
        "temperature": (0.1, 0.15),
        "epsilon": (0.05, 0.08),
        "queue": 2,
        "prototypesTrain": 3,
    }

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.projector = nn.Sequential(
            nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8)
        )
        self.prototypes = nn.Linear(8, 12, bias=False)
        self.register_buffer("queue0", torch.zeros(16, 8))
        self.register_buffer("queue1", torch.zeros(16, 8))

    def loss(self, views, scalars, step):
        with torch.no_grad():
            self.prototypes.weight.copy_(F.normalize(self.prototypes.weight))
            # No gradient, hence neither decay nor momentum.
            self.prototypes.weight.requires_grad_(scalars["prototypesTrain"] > 0)
        n = len(views[0])
        features = torch.cat([self.encoder(torch.cat(views[:2])), self.encoder(torch.cat(views[2:]))])
        z = F.normalize(self.projector(features))
        scores = self.prototypes(z)
        logs = [F.log_softmax(s / scalars["temperature"], dim=1) for s in scores.chunk(len(views))]
        loss = 0
        for i in range(2):
            codes = self.codes(i, z.detach()[i * n : (i + 1) * n], scores.detach()[i * n : (i + 1) * n], scalars)
            others = [log for v, log in enumerate(logs) if v != i]
            loss -= sum((codes * log).sum(dim=1).mean() for log in others) / len(others)
        return loss / 2

    @torch.no_grad()
    def codes(self, i, z, scores, scalars):
        n, name = len(z), f"queue{i}"
        if scalars["queue"]:
            queue = getattr(self, name)
            if not torch.all(queue[-1] == 0):
                scores = torch.cat([self.prototypes(queue), scores])
            setattr(self, name, torch.cat([z, queue])[: len(queue)])
        return self.sinkhorn(scores, scalars["epsilon"])[-n:]

    @staticmethod
    def sinkhorn(scores, epsilon):
        q = torch.exp(scores / epsilon).T
        q /= q.sum()
        prototypes, rows = q.shape
        for _ in range(3):
            q /= q.sum(dim=1, keepdim=True) * prototypes
            q /= q.sum(dim=0, keepdim=True) * rows
        return (q * rows).T


class BarlowTwins(Method):
    """Zbontar et al. 2021, algorithm 1."""

    batch, images = 16, 32
    scalars = {"lr": (0.03, 0.005), "weightDecay": (0.01, 0.02)}

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.projector = nn.Sequential(
            nn.Linear(16, 12, bias=False), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 12, bias=False)
        )

    def loss(self, views, scalars, step):
        a, b = (self.projector(self.encoder(view)) for view in views)
        a, b = (F.batch_norm(z, None, None, training=True) for z in (a, b))
        correlation = a.T @ b / len(a)
        diagonal = correlation.diagonal()
        on = (diagonal - 1).square().sum()
        off = correlation.square().sum() - diagonal.square().sum()
        return on + 0.05 * off


class TargetNetwork:
    """A target that starts as the online network and moves after the optimizer."""

    def begin(self):
        for name, target in self.average.items():
            ema(target, getattr(self, name), 0)

    def after(self, step):
        # ort-pretrain moves the target as the next step begins, by that step's decay.
        if step + 1 < STEPS:
            for name, target in self.average.items():
                ema(target, getattr(self, name), along(step + 1, *self.scalars["momentum"]))


class BYOL(TargetNetwork, Method):
    """Grill et al. 2020, algorithm 1."""

    scalars = {"lr": (0.1, 0.02), "weightDecay": (0.01, 0.02), "momentum": (0.7, 1)}

    def __init__(self):
        super().__init__()
        self.encoder, self.projector = Encoder(), self.head(16, 8)
        self.predictor = self.head(8, 8)
        self.average = nn.ModuleDict({"encoder": Encoder(), "projector": self.head(16, 8)})

    @staticmethod
    def head(size, out):
        return nn.Sequential(
            nn.Linear(size, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, out, bias=False)
        )

    def loss(self, views, scalars, step):
        p = [self.predictor(self.projector(self.encoder(view))) for view in views]
        with torch.no_grad():
            t = [self.average["projector"](self.average["encoder"](view)) for view in views]
        cosines = [F.cosine_similarity(p[0], t[1]), F.cosine_similarity(p[1], t[0])]
        return sum((2 - 2 * cosine).mean() for cosine in cosines)


class SimSiam(Method):
    """Chen and He 2020, algorithm 1."""

    scalars = {"lr": (0.2, 0.05), "lr.constant": (0.2, 0.2), "weightDecay": (0.01, 0.02)}
    constant_rate = ("predictor",)

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.projector = nn.Sequential(
            nn.Linear(16, 12, bias=False),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.Linear(12, 12, bias=False),
            nn.BatchNorm1d(12, affine=False),
        )
        self.predictor = nn.Sequential(
            nn.Linear(12, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 12)
        )

    def loss(self, views, scalars, step):
        z = [self.projector(self.encoder(view)) for view in views]
        p = [self.predictor(x) for x in z]
        return -sum(F.cosine_similarity(p[i], z[1 - i].detach()).mean() for i in range(2)) / 2


class DINOHead(nn.Module):
    def __init__(self):
        super().__init__()
        first = nn.Linear(16, 16, bias=False)
        first.norm = nn.BatchNorm1d(16)
        self.add_module("0", first)
        self.add_module("1", nn.Linear(16, 8))
        self.last = nn.Linear(8, 12, bias=False)

    def forward(self, x):
        first, second = self.get_submodule("0"), self.get_submodule("1")
        x = F.normalize(second(F.gelu(first.norm(first(x)))))
        return F.linear(x, F.normalize(self.last.weight))  # weight norm with g = 1


class DINO(TargetNetwork, Method):
    """Caron et al. 2021, algorithm 1, with multi-crop and a last layer that is frozen at first."""

    sizes = (12, 12, 8, 8)
    scalars = {
        "lr": (0.1, 0.02),
        "weightDecay": (0.01, 0.02),
        "temperature": (0.1, 0.15),
        "teacherTemperature": (0.08, 0.06),
        "momentum": (0.7, 1),
        "lastTrains": 3,
    }

    def __init__(self):
        super().__init__()
        self.encoder, self.head = Encoder(), DINOHead()
        self.average = nn.ModuleDict({"encoder": Encoder(), "head": DINOHead()})
        self.register_buffer("centre", torch.zeros(12))

    def loss(self, views, scalars, step):
        self.head.last.weight.requires_grad_(scalars["lastTrains"] > 0)
        features = torch.cat([self.encoder(torch.cat(views[:2])), self.encoder(torch.cat(views[2:]))])
        students = F.log_softmax(self.head(features) / scalars["temperature"], dim=1).chunk(4)
        with torch.no_grad():
            outputs = self.average["head"](self.average["encoder"](torch.cat(views[:2])))
            targets = F.softmax((outputs - self.centre) / scalars["teacherTemperature"], dim=1).chunk(2)
            self.centre.mul_(0.9).add_(outputs.mean(dim=0), alpha=0.1)
        terms = [
            -(t * s).sum(dim=1).mean()
            for i, t in enumerate(targets)
            for v, s in enumerate(students)
            if v != i
        ]
        return sum(terms) / len(terms)


class PIRL(Method):
    """Misra and van der Maaten 2019, equations 4, 5 and 7, on nine patches."""

    sizes = (12, *[3] * 9)
    scalars = {"lr": (0.1, 0.02), "weightDecay": (0.01, 0.02), "temperature": (0.2, 0.25)}
    negatives, weight, momentum = 12, 0.4, 0.5

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.projector = nn.Sequential(nn.Linear(16, 8))
        self.transformed_heads()
        self.bank = unit_rows("bank", (self.images, 8))

    def transformed_heads(self):
        self.patches = nn.Sequential(nn.Linear(16, 8))
        self.jigsaw = nn.Sequential(nn.Linear(72, 8))

    def transformed(self, views):
        each = self.patches(self.encoder(torch.cat(views)))
        return self.jigsaw(torch.cat(each.chunk(9), dim=1))

    def loss(self, views, scalars, step):
        # In this order running statistics end on those of whole images.
        g = F.normalize(self.transformed(views[1:]))
        f = F.normalize(self.projector(self.encoder(views[0])))
        own = batch(step, self.batch, self.images)
        positives = self.bank[own]
        negatives = self.bank[others(step, own, self.negatives, self.images)]
        tau = scalars["temperature"]
        ofG, ofF = (self.nce((v * positives).sum(dim=1) / tau, v @ negatives.T / tau) for v in (g, f))
        self.bank[own] = F.normalize(self.momentum * positives + (1 - self.momentum) * f.detach())
        return self.weight * ofG + (1 - self.weight) * ofF

    def nce(self, positive, negatives):
        h = torch.softmax(torch.cat([positive[:, None], negatives], dim=1), dim=1)
        return -(h[:, 0].log() + (1 - h[:, 1:]).log().sum(dim=1)).mean()


class PIRLRotation(PIRL):
    """On a rotated image, with the constant partition function of Wu et al. 2018, equations 4 to 8."""

    sizes = (12, 12)

    def __init__(self):
        super().__init__()
        self.register_buffer("Z", torch.zeros(()))

    def transformed_heads(self):
        self.rotation = nn.Sequential(nn.Linear(16, 8))

    def transformed(self, views):
        return self.rotation(self.encoder(views[0]))

    def nce(self, positive, negatives):
        scores = torch.cat([positive[:, None], negatives], dim=1).exp()
        if self.Z == 0:
            self.Z.copy_(scores.detach().mean() * self.images)
        noise = self.negatives / self.images
        p = scores / self.Z
        h = p / (p + noise)
        return -(h[:, 0].log() + (1 - h[:, 1:]).log().sum(dim=1)).mean()


METHODS = {
    "simclr": SimCLR,
    "simclr-adamw": SimCLRAdamW,
    "moco": MoCo,
    "moco-symmetric": MoCoSymmetric,
    "swav": SwAV,
    "barlow-twins": BarlowTwins,
    "byol": BYOL,
    "simsiam": SimSiam,
    "dino": DINO,
    "pirl": PIRL,
    "pirl-rotation": PIRLRotation,
}


# Each with what it keeps for a parameter: our name of it, and PyTorch's.
OPTIMIZERS = {
    "sgd": (lambda groups: torch.optim.SGD(groups, lr=0, momentum=0.9), {"momentum": "momentum_buffer"}),
    "adamw": (lambda groups: torch.optim.AdamW(groups, lr=0), {"moment1": "exp_avg", "moment2": "exp_avg_sq"}),
}


def value(scalar, step):
    return float(step >= scalar) if isinstance(scalar, int) else along(step, *scalar)


def train(method, learns=True):
    """The losses of the steps, and the state after them."""
    model = method()
    fill(model)
    model.begin()
    average = {id(p) for p in model.average.parameters()} if hasattr(model, "average") else set()
    trained = {name: p for name, p in model.named_parameters() if id(p) not in average}
    make, slots = OPTIMIZERS[method.optimizer]
    optimizer = make([{"params": [p]} for p in trained.values()])
    losses = []
    for step in range(STEPS):
        scalars = {name: value(scalar, step) for name, scalar in method.scalars.items()}
        for group, (name, p) in zip(optimizer.param_groups, trained.items(), strict=True):
            lr = scalars["lr.constant" if name.startswith(method.constant_rate) else "lr"]
            group.update(lr=lr * learns, weight_decay=scalars["weightDecay"] if p.ndim > 1 else 0)
        images = batch(step, method.batch, method.images)
        views = [view(f"view{i}.{step}", images, size) for i, size in enumerate(method.sizes)]
        optimizer.zero_grad()
        loss = model.loss(views, scalars, step)
        loss.backward()
        optimizer.step()
        model.after(step)
        losses.append(loss.item())
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    for name, p in trained.items():
        for slot, theirs in slots.items():
            state[f"{slot}.{name}"] = optimizer.state[p][theirs]
    if hasattr(model, "bank"):
        state["bank"] = model.bank
    return losses, state


def main(names):
    for name in names or METHODS:
        losses, state = train(METHODS[name])
        still, _ = train(METHODS[name], learns=False)
        fixture = {
            "losses": rounded(losses),
            # At learning rate 0.
            "withoutLearning": rounded(still),
            "state": {name: packed(tensor) for name, tensor in sorted(state.items())},
        }
        path = write(f"steps-{name}", fixture)
        print(path.name, *(f"{loss:.3f}" for loss in losses))


if __name__ == "__main__":
    main(sys.argv[1:])
