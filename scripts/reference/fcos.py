"""torchvision's feature pyramid and FCOS head on maps of odd sizes, their losses, and the gradients of these with respect to
the maps, as a fixture of test/methods/fcos-reference.test.ts.

Each place has a target of its own: torchvision is told of as many boxes as there are places, and which is whose.
"""

import torch
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from common import fill, packed, rounded, values, write

N, CLASSES, CHANNELS, CONVS = 2, 3, 64, 2
MAPS = [(6, 11), (8, 6), (12, 3)]  # channels and sides of the encoder's


def anchors_of(levels):
    """A box of a stride's size around each place."""
    boxes = []
    for i, level in enumerate(levels):
        stride = 8 * 2**i
        at = (torch.arange(level.shape[-1]) + 0.5) * stride
        y, x = torch.meshgrid(at, at, indexing="ij")
        centres = torch.stack([x, y], dim=-1).reshape(-1, 2)
        boxes.append(torch.cat([centres - stride / 2, centres + stride / 2], dim=1))
    return torch.cat(boxes)


def targets_of(case, anchors, positives):
    """Classes [n, places], -1 where there is none, and boxes [n, places, 4]."""
    drawn = values(f"{case}.classes", (N, len(anchors)))
    classes = torch.where(drawn < -0.5 if positives else drawn < -2, ((drawn + 1) * 6).long(), -1)
    distances = 0.25 + 2 * (values(f"{case}.distances", (N, len(anchors), 4)) + 1)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    strides = anchors[:, 2:] - anchors[:, :2]
    boxes = torch.cat([centres - distances[..., :2] * strides, centres + distances[..., 2:] * strides], dim=-1)
    return classes, boxes


def main():
    pyramid = FeaturePyramidNetwork([c for c, _ in MAPS], CHANNELS, LastLevelP6P7(CHANNELS, CHANNELS))
    head = FCOSHead(CHANNELS, 1, CLASSES, CONVS)
    with torch.no_grad():
        fill(pyramid)
        fill(head)
    maps = {
        f"map{i}": values(f"map{i}", (N, channels, side, side)).requires_grad_()
        for i, (channels, side) in enumerate(MAPS)
    }
    levels = list(pyramid(maps).values())
    predicted = head(levels)
    anchors = anchors_of(levels)
    fixture = {"predicted": {name: packed(x) for name, x in predicted.items()}, "losses": {}}
    for case, positives in (("objects", True), ("none", False)):
        classes, boxes = targets_of(case, anchors, positives)
        targets = [{"labels": c.clamp(min=0), "boxes": b} for c, b in zip(classes, boxes, strict=True)]
        own = torch.arange(len(anchors))
        matched = [torch.where(c < 0, -1, own) for c in classes]
        losses = head.compute_loss(targets, predicted, [anchors] * N, matched)
        gradients = torch.autograd.grad(sum(losses.values()), list(maps.values()), retain_graph=True)
        fixture["losses"][case] = {
            "values": {name: rounded(loss.item()) for name, loss in losses.items()},
            "gradients": [packed(g) for g in gradients],
        }
        print(case, int((classes >= 0).sum()), fixture["losses"][case]["values"])
    write("fcos", fixture)


if __name__ == "__main__":
    main()
