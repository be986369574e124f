"""SimCLR, MoCo, SwAV, BYOL and DINO as lightly's examples have them: its heads, its losses, our sizes; and fine-tuning.

Each is a module from views, a list of [n, 3, s, s], to the loss; `before_step` does what precedes a step.
"""

import copy

import common  # first: it makes torchvision load
import torch
from lightly.loss import DINOLoss, NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from lightly.models import utils
from lightly.models.modules import heads
from torch import nn


class SimCLR(nn.Module):
    sizes = staticmethod(lambda size: [size, size])

    def __init__(self, encoder, features, size):
        super().__init__()
        self.encoder = encoder
        self.projector = heads.SimCLRProjectionHead(features, features, 128)
        self.criterion = NTXentLoss(0.5 if size <= 64 else 0.1)

    def before_step(self):
        pass

    def forward(self, views):
        z = self.projector(self.encoder(torch.cat(views)))  # [2n, 128]
        return self.criterion(*z.chunk(2))


class MoCo(nn.Module):
    sizes = staticmethod(lambda size: [size, size])
    momentum = 0.99

    def __init__(self, encoder, features, size):
        super().__init__()
        self.encoder = encoder
        self.projector = heads.MoCoProjectionHead(features, features, 128)
        self.key_encoder = copy.deepcopy(encoder)
        self.key_projector = copy.deepcopy(self.projector)
        utils.deactivate_requires_grad(self.key_encoder)
        utils.deactivate_requires_grad(self.key_projector)
        self.criterion = NTXentLoss(0.1, memory_bank_size=(4096, 128))

    def before_step(self):
        utils.update_momentum(self.encoder, self.key_encoder, self.momentum)
        utils.update_momentum(self.projector, self.key_projector, self.momentum)

    def forward(self, views):
        query = self.projector(self.encoder(views[0]))  # [n, 128]
        with torch.no_grad():
            shuffled, order = utils.batch_shuffle(views[1])
            key = utils.batch_unshuffle(self.key_projector(self.key_encoder(shuffled)), order)  # [n, 128]
        return self.criterion(query, key)


class SwaV(nn.Module):
    """Two large crops and four small ones."""

    sizes = staticmethod(lambda size: [size] * 2 + [round(size * 96 / 224)] * 4)

    def __init__(self, encoder, features, size):
        super().__init__()
        self.encoder = encoder
        self.projector = heads.SwaVProjectionHead(features, 512, 128)
        self.prototypes = heads.SwaVPrototypes(128, 512)
        self.criterion = SwaVLoss()

    def before_step(self):
        self.prototypes.normalize()

    def forward(self, views):
        # All crops of a size in one batch, as the authors have it: faster than lightly's example, crop by crop.
        h = torch.cat([self.encoder(torch.cat(views[:2])), self.encoder(torch.cat(views[2:]))])
        scores = self.prototypes(nn.functional.normalize(self.projector(h), dim=1))  # [6n, 512]
        scores = scores.chunk(len(views))
        return self.criterion(scores[:2], scores[2:])


class BYOL(nn.Module):
    sizes = staticmethod(lambda size: [size, size])
    momentum = 0.99

    def __init__(self, encoder, features, size):
        super().__init__()
        self.encoder = encoder
        self.projector = heads.BYOLProjectionHead(features, 1024, 256)
        self.predictor = heads.BYOLPredictionHead(256, 1024, 256)
        self.target_encoder = copy.deepcopy(encoder)
        self.target_projector = copy.deepcopy(self.projector)
        utils.deactivate_requires_grad(self.target_encoder)
        utils.deactivate_requires_grad(self.target_projector)
        self.criterion = NegativeCosineSimilarity()

    def before_step(self):
        utils.update_momentum(self.encoder, self.target_encoder, self.momentum)
        utils.update_momentum(self.projector, self.target_projector, self.momentum)

    def forward(self, views):
        p0, p1 = (self.predictor(self.projector(self.encoder(view))) for view in views)  # [n, 256] each
        with torch.no_grad():
            t0, t1 = (self.target_projector(self.target_encoder(view)) for view in views)  # [n, 256] each
        return (self.criterion(p0, t1) + self.criterion(p1, t0)) / 2


class DINO(nn.Module):
    """Two large crops."""

    sizes = staticmethod(lambda size: [size, size])
    momentum = 0.99

    def __init__(self, encoder, features, size):
        super().__init__()
        self.encoder = encoder
        self.head = heads.DINOProjectionHead(features, 2048, 256, 2048, batch_norm=True)
        self.teacher_encoder = copy.deepcopy(encoder)
        self.teacher_head = heads.DINOProjectionHead(features, 2048, 256, 2048, batch_norm=True)
        utils.deactivate_requires_grad(self.teacher_encoder)
        utils.deactivate_requires_grad(self.teacher_head)
        self.criterion = DINOLoss(2048)

    def before_step(self):
        utils.update_momentum(self.encoder, self.teacher_encoder, self.momentum)
        utils.update_momentum(self.head, self.teacher_head, self.momentum)

    def forward(self, views):
        x = torch.cat(views)  # [2n, 3, s, s]
        student = self.head(self.encoder(x))  # [2n, 2048]
        with torch.no_grad():
            teacher = self.teacher_head(self.teacher_encoder(x))  # [2n, 2048]
        return self.criterion(list(teacher.chunk(2)), list(student.chunk(2)))


class Finetune(nn.Module):
    """A linear classifier on the features, for ten classes, and all is trained."""

    sizes = staticmethod(lambda size: [size])
    nesterov = True

    def __init__(self, encoder, features, size):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(features, 10)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.1)

    def before_step(self):
        pass

    def forward(self, views):
        logits = self.head(self.encoder(views[0]))  # [n, 10]
        return self.criterion(logits, torch.arange(len(logits)) % 2)


METHODS = {"simclr": SimCLR, "moco": MoCo, "swav": SwaV, "byol": BYOL, "dino": DINO, "finetune": Finetune}


def optimizer_of(name, parameters, nesterov=False):
    """Fused: one pass over the weights."""
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.05, fused=True)
    return torch.optim.SGD(parameters, lr=0.03, momentum=0.9, weight_decay=5e-4, nesterov=nesterov, fused=True)
