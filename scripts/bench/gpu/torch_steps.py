"""PyTorch's training steps on a GPU, their views made there too: a JSON line for each row of the list given.

python torch_steps.py '[{"method": "simclr", "encoder": "resnet18", "size": 32, "batch": 256, "optimizer": "sgd"}]'
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peers"))
sys.modules["pytorch_lightning"] = None  # lightly takes seconds to import it where it is

import common  # first: it makes torchvision load
import torch
import torch.nn.functional as F
from encoders import encoder_named
from methods import METHODS, optimizer_of

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WARM = 5  # steps before those that are measured
MOST = 200

MEAN = torch.tensor([0.485, 0.456, 0.406], device=DEVICE).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225], device=DEVICE).view(1, 3, 1, 1)
LUMA = torch.tensor([0.299, 0.587, 0.114], device=DEVICE).view(1, 3, 1, 1)
# Rotation of the hue by an angle, in YIQ: gray + cos * chroma + sin * turned.
GRAY = torch.tensor([[0.299, 0.587, 0.114]] * 3, device=DEVICE)
CHROMA = torch.eye(3, device=DEVICE) - GRAY
TURNED = torch.tensor(
    [[0.168, 0.330, -0.497], [-0.328, 0.035, 0.292], [1.250, -1.050, -0.203]], device=DEVICE
)


def views_of(images, count, size, scale):
    """SimCLR's, `count` of each image [n, h, w, 3]: [count * n, 3, size, size]. No antialiasing, which ours has."""
    x = images.permute(0, 3, 1, 2).float().div(255).repeat(count, 1, 1, 1)
    n = len(x)

    def uniform(low, high):
        return torch.empty(n, device=x.device).uniform_(low, high)

    def chance(p):
        return (uniform(0, 1) < p).float()

    area, ratio = uniform(*scale), uniform(-0.2877, 0.2877).exp()
    w, h = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    left, top = uniform(-1, 1) * (1 - w), uniform(-1, 1) * (1 - h)
    flip, zero = 1 - 2 * chance(0.5), torch.zeros_like(w)
    box = torch.stack([w * flip, zero, left, zero, h, top], 1).view(n, 2, 3)
    grid = F.affine_grid(box, (n, 3, size, size), align_corners=False)
    x = F.grid_sample(x, grid, align_corners=False)

    jittered = chance(0.8)

    def factor(strength):
        return (1 + jittered * uniform(-strength, strength)).view(n, 1, 1, 1)

    x = (x * factor(0.4)).clamp(0, 1)
    mean = (x * LUMA).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    x = (mean + factor(0.4) * (x - mean)).clamp(0, 1)
    gray = (x * LUMA).sum(1, keepdim=True)
    x = (gray + factor(0.4) * (x - gray)).clamp(0, 1)
    angle = (jittered * uniform(-0.1, 0.1) * 2 * torch.pi).view(n, 1, 1)
    turn = GRAY + angle.cos() * CHROMA + angle.sin() * TURNED  # [n, 3, 3]
    x = torch.bmm(turn, x.flatten(2)).view_as(x).clamp(0, 1)
    x = torch.where(chance(0.2).view(n, 1, 1, 1) > 0, (x * LUMA).sum(1, keepdim=True), x)
    if size > 64:
        x = blurred(x, torch.where(chance(0.5) > 0, uniform(0.1, 2), 1e-3))
    return (x - MEAN) / STD


def blurred(x, sigma):
    """Gaussian blur by a matrix product along each axis, as ours; sigma [n]."""
    size = x.shape[-1]
    at = torch.arange(size, device=x.device)
    distance = (at[:, None] - at[None, :]).abs()
    weights = torch.exp(-(distance**2) / (2 * sigma.view(-1, 1, 1) ** 2)) * (distance <= size // 20)
    weights = (weights / weights.sum(2, keepdim=True)).unsqueeze(1)  # [n, 1, s, s]
    return weights @ x @ weights.transpose(2, 3)


def memory_used():
    """Of the whole device, MiB; None without nvidia-smi."""
    try:
        asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        return float(subprocess.run(asked, capture_output=True, check=True, timeout=10).stdout.split()[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def opened(method, encoder, size, batch, optimizer, compiled, autocast):
    """A step, to be called over and over, that returns the loss."""
    torch.manual_seed(0)
    module, features, convolutions = encoder_named(encoder, size)
    layout = torch.channels_last if convolutions else torch.contiguous_format
    model = METHODS[method](module, features, size).to(DEVICE, memory_format=layout).train()
    trained = optimizer_of(optimizer, [p for p in model.parameters() if p.requires_grad])
    sizes = METHODS[method].sizes(size)
    side = size if size <= 64 else round(size * 8 / 7)
    images = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8)
    if DEVICE == "cuda":
        images = images.pin_memory()

    def loss_of():
        on_device = images.to(DEVICE, non_blocking=True)
        views = []
        for one in sorted(set(sizes), reverse=True):
            scale = (0.08, 1) if one == size else (0.05, 0.14)
            made = views_of(on_device, sizes.count(one), one, scale).to(memory_format=layout)
            views.extend(made.chunk(sizes.count(one)))
        with torch.autocast(DEVICE, torch.bfloat16, enabled=autocast == "bf16"):
            return model(views)

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def step():
        model.before_step()
        trained.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        trained.step()
        return loss.item()

    return step


def measured(row, seconds, compiled, autocast):
    before = memory_used()
    step = opened(**row, compiled=compiled, autocast=autocast)
    for _ in range(WARM):
        step()
    times = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < MOST):
        started = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - started)
    after = memory_used()
    median = sorted(times)[len(times) // 2]
    return {
        "ms": 1000 * median,
        "imagesPerSecond": row["batch"] * len(times) / sum(times),
        "memoryMb": None if before is None or after is None else after - before,
        "loss": loss if math.isfinite(loss) else str(loss),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=json.loads)
    parser.add_argument("--seconds", type=float, default=3, help="of each row, once it is warm")
    parser.add_argument("--compiled", action="store_true", help="by torch.compile")
    parser.add_argument("--autocast", choices=["bf16"], help="what of the model is computed in it, as PyTorch has it")
    args = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    way = " ".join(["torch", *(["compiled"] if args.compiled else []), *([args.autocast] if args.autocast else [])])
    for row in args.rows:
        asked = {key: row[key] for key in ("method", "encoder", "size", "batch", "optimizer")}
        about = {"kind": "speed", "side": way, **asked, "device": DEVICE}
        try:
            common.say(**about, **measured(asked, args.seconds, args.compiled, args.autocast))
        except Exception as error:  # the next row may run all the same
            common.say(**about, error=f"{type(error).__name__}: {error}"[:300])
        if DEVICE == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
