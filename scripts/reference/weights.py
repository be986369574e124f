"""Weights of timm and torchvision for our encoders, and ours for timm's, with the features that PyTorch gives.

Usage: weights.py DIR, then `npx tsx scripts/reference/weights.ts DIR`, which compares and writes ours, then weights.py DIR
--back, which loads these in timm and compares. Without DIR: test/fixtures/weights.json, of weights that are made from names.
"""

import json
import sys
from pathlib import Path

import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-4


def small_stem(model):
    """A ResNet of timm or torchvision for images of up to 64 px."""
    model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = torch.nn.Identity()
    return model


def vit(name, size):
    patch = 16 if size >= 160 else 8 if size >= 64 else 4
    return lambda **more: timm.create_model(f"{name}_patch16_224", img_size=size, patch_size=patch, **more)


def torchvision_vit(size, patch, heads, width):
    return torchvision.models.VisionTransformer(
        image_size=size, patch_size=patch, num_layers=12, num_heads=heads, hidden_dim=width, mlp_dim=4 * width
    )


# Ours: timm's, for `size` pixels.
TIMM = {
    ("resnet18", 224): lambda **more: timm.create_model("resnet18", **more),
    ("resnet34", 224): lambda **more: timm.create_model("resnet34", **more),
    ("resnet50", 224): lambda **more: timm.create_model("resnet50", **more),
    ("resnet18", 32): lambda **more: small_stem(timm.create_model("resnet18", **more)),
    ("resnet50", 32): lambda **more: small_stem(timm.create_model("resnet50", **more)),
    ("vit-tiny", 224): vit("vit_tiny", 224),
    ("vit-small", 224): vit("vit_small", 224),
    ("vit-base", 224): vit("vit_base", 224),
    ("vit-tiny", 32): vit("vit_tiny", 32),
    ("vit-tiny", 96): vit("vit_tiny", 96),
}

# File: ours, pixels, model, what stands before its names.
CASES = {
    "torchvision-resnet18": ("resnet18", 224, torchvision.models.resnet18, "module."),
    "torchvision-resnet34": ("resnet34", 224, torchvision.models.resnet34, ""),
    "torchvision-resnet50": ("resnet50", 224, torchvision.models.resnet50, "backbone."),
    "torchvision-vit-base": ("vit-base", 224, torchvision.models.vit_b_16, "module."),
    **{
        f"timm-{name}-{size}": (name, size, model, prefix)
        for ((name, size), model), prefix in zip(TIMM.items(), ["", "model.", "encoder.", "module.backbone."] * 3)
    },
}


def headless(model):
    """The model without its classifier: what it gives are features."""
    for head in ("fc", "head", "heads"):
        if hasattr(model, head):
            setattr(model, head, torch.nn.Identity())
    return model


def features(model, x):
    with torch.no_grad():
        return headless(model).eval()(x)


def write_files(folder):
    from encoders import normalised, pictures, settled

    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    for name, (encoder, size, make, prefix) in CASES.items():
        torch.manual_seed(0)
        model = settled(make())
        save_file({prefix + key: value for key, value in model.state_dict().items()}, folder / f"{name}.safetensors")
        images, centre = pictures(size)
        (folder / f"{name}.images").write_bytes(images.numpy().tobytes())
        wanted = features(model, normalised(centre, "imagenet"))
        (folder / f"{name}.features").write_bytes(wanted.numpy().astype("<f4").tobytes())
        (folder / f"{name}.json").write_text(
            json.dumps({"encoder": encoder, "size": size, "shape": list(images.shape)})
        )
        print(name, tuple(wanted.shape), flush=True)


def read_back(folder):
    from encoders import MEANS, normalised

    worst = 0.0
    for (name, size), make in TIMM.items():
        ours = folder / f"timm-{name}-{size}-ours"
        model = make(num_classes=0)
        model.load_state_dict(load_file(ours / "encoder.safetensors"), strict=True)
        shape = json.loads((folder / f"timm-{name}-{size}.json").read_text())["shape"]
        images = torch.frombuffer(bytearray((folder / f"timm-{name}-{size}.images").read_bytes()), dtype=torch.uint8)
        start = (shape[1] - size) // 2
        centre = images.view(shape)[:, start : start + size, start : start + size]
        found = features(model, normalised(centre, "imagenet"))
        wanted = torch.frombuffer(bytearray((ours / "features").read_bytes()), dtype=torch.float32).view_as(found)
        off = ((found - wanted).norm(dim=1) / wanted.norm(dim=1)).max().item()
        worst = max(worst, off)
        print(f"{name} at {size} px in timm: {off:.1e} off", flush=True)
    sys.exit(0 if worst <= TOLERANCE else 1)


def fixtures():
    import common

    cases = {
        "resnet18": ("resnet18", 96, torchvision.models.resnet18()),
        "vit-tiny": ("vit-tiny", 64, vit("vit_tiny", 64)()),
        "vit-tiny of torchvision": ("vit-tiny", 64, torchvision_vit(64, 8, 3, 192)),
    }
    made = {}
    with torch.no_grad():
        for name, (encoder, size, model) in cases.items():
            common.fill(model)
            tensors = shapes(model)
            model = model.double()
            wanted = features(model, common.view("weights", [0, 1], size))
            made[name] = {"encoder": encoder, "size": size, "tensors": tensors, "features": common.packed(wanted)}
    named = [("resnet18", 32), ("resnet50", 224), ("vit-tiny", 32)]
    timms = {f"{name} {size}": shapes(TIMM[name, size](num_classes=0)) for name, size in named}
    print(common.write("weights", {"cases": made, "timm": timms}))


def shapes(model):
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


if __name__ == "__main__":
    if len(sys.argv) == 1:
        fixtures()
    elif "--back" in sys.argv:
        read_back(Path(sys.argv[1]))
    else:
        write_files(Path(sys.argv[1]))
