"""Which place of a feature map torchvision's FCOS gives to which box, test/fixtures/fcos-targets.json."""

from types import SimpleNamespace

import torch

from common import write
from generator import Generator

# PyPI's torchvision may be built for another PyTorch than is installed. Only its Python code is needed, which asks for these.
library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchvision.models.detection._utils import BoxLinearCoder  # noqa: E402
from torchvision.models.detection.fcos import FCOS  # noqa: E402

RADIUS = 1.5


def boxes_of(name, count, size):
    """Edges are odd multiples of 1/64, which no place's distance to them can make a whole number; the second is the first."""
    generator = Generator(name)
    boxes = []
    while len(boxes) < count:
        spans = []
        for _ in range(2):
            low, high = sorted(generator.next() % (32 * size) for _ in range(2))
            spans.append(((2 * low + 1) / 64, (2 * high + 1) / 64))
        (left, right), (top, bottom) = spans
        if min(right - left, bottom - top) >= 3:
            boxes.append([left, top, right, bottom])
    return boxes[:1] * 2 + boxes[1:-1]


def case(name, count, size, strides):
    sides = [-(-size // stride) for stride in strides]
    anchors = []
    for side, stride in zip(sides, strides):
        start = torch.arange(side) * float(stride)
        y, x = torch.meshgrid(start, start, indexing="ij")
        anchors.append(torch.stack([x, y, x + stride, y + stride], dim=2).reshape(-1, 4))
    places = [side**2 for side in sides]
    anchors = torch.cat(anchors)
    boxes = torch.tensor(boxes_of(name, count, size)).reshape(-1, 4)
    head = SimpleNamespace(compute_loss=lambda targets, outputs, anchors, matched: matched[0])
    detector = SimpleNamespace(center_sampling_radius=RADIUS, head=head)
    matched = FCOS.compute_loss(detector, [{"boxes": boxes}], {}, [anchors], places)
    found = (matched >= 0).nonzero()[:, 0]
    coder = BoxLinearCoder(normalize_by_size=True)
    distances = coder.encode(anchors[found], boxes[matched[found]]) if len(found) else torch.zeros(0, 4)
    return {
        "size": size,
        "levels": [
            {
                "side": side,
                "stride": stride,
                "from": 4 * stride if i else 0,
                "to": 8 * stride if i + 1 < len(strides) else None,
            }
            for i, (side, stride) in enumerate(zip(sides, strides))
        ],
        "boxes": boxes.tolist(),
        "places": found.tolist(),
        "matched": matched[found].tolist(),
        "distances": distances.tolist(),
    }


cases = [
    case("none", 0, 64, [8, 16, 32]),
    case("one", 2, 64, [8, 16, 32]),
    case("some", 12, 64, [4, 8, 16, 32, 64]),
    case("many", 60, 128, [8, 16, 32, 64, 128]),
]
assert all(len(c["places"]) > 3 for c in cases[1:]), [len(c["places"]) for c in cases]
print(write("fcos-targets", {"radius": RADIUS, "cases": cases}))
