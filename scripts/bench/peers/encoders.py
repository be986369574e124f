"""The same encoders: torchvision's and timm's where they have them, with the stem that small images want."""

import common  # first: it makes torchvision load
import torch.nn.functional as F
import torchvision
from torch import nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without weights (option A of He et al. 2015)."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride
        self.new = width - inputs

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self.stride > 1:
            before = self.new // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new - before))
        return F.relu(y + x, inplace=True)


class ResNet20(nn.Module):
    """Of He et al. 2015, section 4.2."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(BasicBlock(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(BasicBlock(16, 32, 2), BasicBlock(32, 32, 1), BasicBlock(32, 32, 1))
        self.layer3 = nn.Sequential(BasicBlock(32, 64, 2), BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return x.mean(dim=(2, 3))


def resnet(name, size):
    model = getattr(torchvision.models, name)()
    features = model.fc.in_features
    model.fc = nn.Identity()
    if size <= 64:
        model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        model.maxpool = nn.Identity()
    return model, features


def vit(name, size):
    import timm  # here, for a script that takes another encoder starts sooner without it

    patch = 16 if size >= 160 else 8 if size >= 64 else 4
    model = timm.create_model(
        f"{name.replace('-', '_')}_patch16_224", img_size=size, patch_size=patch, num_classes=0
    )
    return model, model.num_features


def encoder_named(name, size):
    """Module from images [n, 3, size, size] to features [n, d], d, and whether it is made of convolutions."""
    if name.startswith("vit"):
        return *vit(name, size), False
    if name == "resnet20":
        return ResNet20(), 64, True
    return *resnet(name, size), True
