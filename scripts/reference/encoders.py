"""Models of torchvision and timm with random weights as ONNX files, and the features that PyTorch gives for some images.

Usage: encoders.py DIR, then `npx tsx scripts/reference/encoders.ts DIR`, which compares. Without DIR: the fixtures of
test/api/foreign.test.ts, two models of a few kilobytes.
"""

import json
import sys
from pathlib import Path

import timm
import torch
import torchvision

MEANS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
IMAGES = 5


class Part(torch.nn.Module):
    """A function of a model as a module."""

    def __init__(self, model, forward):
        super().__init__()
        self.model = model
        self.function = forward

    def forward(self, x):
        return self.function(self.model, x)


def settled(model):
    """In evaluation, with running statistics and layer scales far from their first values."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(std=0.1)
        elif name.endswith(("gamma", "cls_token", "reg_token", "pos_embed")):
            tensor.normal_(std=0.5)
    return model.eval()


def pictures(size):
    """Images uint8 [n, side, side, 3], and what an encoder for `size` pixels sees of them, [n, size, size, 3]."""
    side = size if size <= 64 else round(size / 0.875)
    images = torch.randint(0, 256, (IMAGES, side, side, 3), dtype=torch.uint8)
    images = (images.float() * 0.3 + torch.linspace(0, 170, side).view(1, side, 1, 1)).to(torch.uint8)
    start = (side - size) // 2
    return images, images[:, start : start + size, start : start + size]


def normalised(centre, mean):
    """float32 [n, 3, size, size]."""
    m, s = (torch.tensor(v).view(3, 1, 1) for v in MEANS[mean])
    return (centre.permute(0, 3, 1, 2).float() / 255 - m) / s


def features(model, x):
    return model.forward_features(x)


def bytes_of(mean, std):
    """A model that takes bytes [n, h, w, 3] and normalises them itself."""

    def forward(model, x):
        planes = x.permute(0, 3, 1, 2).float() / 255
        return features(model, (planes - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)).mean((2, 3))

    return forward


def patches(prefix):
    return lambda y: y[:, prefix:].mean(1)


def first(y):
    return y[:, 0]


# Name: model, what is exported of it, side of the images it sees, normalisation, what features are of its output, options
# of export, options of ours.
CASES = {
    "resnet18-classifier": (lambda: torchvision.models.resnet18(), None, 224, "imagenet", None, {}, {}),
    "vit-class-token": (
        lambda: timm.create_model("vit_tiny_patch16_224"), features, 224, "half", first, {}, {},
    ),
    "vit-mean-of-patches": (
        lambda: timm.create_model("vit_tiny_patch16_224"), features, 224, "half", patches(1), {"dynamo": False}, {"pool": "mean"},
    ),
    "dinov2-registers": (
        lambda: timm.create_model("vit_small_patch14_reg4_dinov2", img_size=70), features, 70, "imagenet", first, {}, {},
    ),
    "dinov2-registers-mean": (
        lambda: timm.create_model("vit_small_patch14_reg4_dinov2", img_size=70),
        features, 70, "imagenet", patches(5), {}, {"pool": "mean"},
    ),
    "convnext-map": (
        lambda: timm.create_model("convnext_atto"), features, 224, "clip", lambda y: y.mean((2, 3)), {}, {},
    ),
    "swin-map-channels-last": (
        lambda: timm.create_model("swin_tiny_patch4_window7_224"),
        features, 224, "imagenet", lambda y: y.mean((1, 2)), {}, {},
    ),
    "mobilenet-batch-of-1": (
        lambda: torchvision.models.mobilenet_v3_small(), lambda m, x: m.features(x), 96, "none",
        lambda y: y.mean((2, 3)), {"batch": 1}, {},
    ),
    "resnet18-batch-of-4": (
        lambda: timm.create_model("resnet18"), features, 64, "imagenet", lambda y: y.mean((2, 3)), {"batch": 4, "dynamo": False}, {},
    ),
    "resnet18-bytes": (
        lambda: timm.create_model("resnet18"), bytes_of(*MEANS["imagenet"]), 96, "bytes", None, {}, {},
    ),
}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    for name, (make, part, size, mean, of_output, how, ours) in CASES.items():
        torch.manual_seed(0)
        model = settled(make())
        exported = Part(model, part).eval() if part else model
        images, centre = pictures(size)
        x = centre if mean == "bytes" else normalised(centre, mean)
        with torch.no_grad():
            output = exported(x)
            if name == "resnet18-classifier":
                inner = {}
                model.avgpool.register_forward_hook(lambda _, __, y: inner.update(y=y.flatten(1)))
                model(x)
                wanted = inner["y"]
            else:
                wanted = of_output(output) if of_output else output
        batch = how.get("batch")
        options = {"dynamo": how.get("dynamo", True), "input_names": ["images"], "output_names": ["out"], "verbose": False}
        if batch is None:
            if options["dynamo"]:
                options["dynamic_shapes"] = ({0: torch.export.Dim("n")},)
            else:
                options["dynamic_axes"] = {"images": {0: "n"}, "out": {0: "n"}}
        sample = x[: batch or 2]
        torch.onnx.export(exported, (sample,), str(folder / f"{name}.onnx"), **options)
        if name == "resnet18-classifier":
            ours = {"output": inner_name(folder / f"{name}.onnx")}
        (folder / f"{name}.images").write_bytes(images.numpy().tobytes())
        (folder / f"{name}.features").write_bytes(wanted.float().numpy().astype("<f4").tobytes())
        about = {"shape": list(images.shape), "model": {**ours, **({} if mean == "bytes" else {"mean": mean})}}
        (folder / f"{name}.json").write_text(json.dumps(about))
        print(name, tuple(wanted.shape), flush=True)


def inner_name(path):
    """The value that the last layer of a classifier takes."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return next(node for node in graph.node if graph.output[0].name in node.output).input[0]


def bare(path):
    """Takes out of a file where in its sources PyTorch met each node."""
    import onnx

    model = onnx.load(path)
    for part in [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]:
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, path)


def tiny_classifier():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 6, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(6, 4),
    )


def tiny_vit():
    return timm.models.vision_transformer.VisionTransformer(
        img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2, mlp_ratio=2, num_classes=0
    )


def fixtures():
    """The images [3, 8, 8, 3] are the first bytes of i i 2654435761, of 32 bits."""
    folder = Path(__file__).resolve().parents[2] / "test" / "fixtures"
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in MEANS["imagenet"])
    images = torch.tensor([(i * i * 2654435761 & 0xFFFFFFFF) >> 24 for i in range(3 * 8 * 8 * 3)]).view(3, 8, 8, 3)
    x = (images.permute(0, 3, 1, 2).float() / 255 - mean) / std
    torch.manual_seed(0)
    classifier, vit = settled(tiny_classifier()), settled(tiny_vit())
    tokens = Part(vit, features).eval()
    names = {"input_names": ["images"], "output_names": ["out"], "verbose": False}
    paths = [folder / "encoder-classifier.onnx", folder / "encoder-tokens.onnx"]
    shapes = ({0: torch.export.Dim("n")},)
    torch.onnx.export(classifier, (x,), str(paths[0]), dynamic_shapes=shapes, external_data=False, **names)
    axes = {"images": {0: "n"}, "out": {0: "n"}}
    torch.onnx.export(tokens, (x,), str(paths[1]), dynamo=False, dynamic_axes=axes, **names)
    for path in paths:
        bare(path)
    with torch.no_grad():
        y = tokens(x)
        wanted = {"pooled": classifier[:7](x), "class": y[:, 0], "patches": y[:, 1:].mean(1)}
    about = {name: [round(v, 6) for v in value.flatten().tolist()] for name, value in wanted.items()}
    about["inner"] = inner_name(paths[0])
    (folder / "encoders.json").write_text(json.dumps(about) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1])) if len(sys.argv) > 1 else fixtures()
