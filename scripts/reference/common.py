"""The inputs of a run, generated from names alone: test/methods/parity.ts makes the same values."""

import base64
import json
import math
from pathlib import Path

import torch

from generator import Generator

FIXTURES = Path(__file__).resolve().parents[2] / "test" / "fixtures"
STEPS = 12

# In double precision the fixtures are the same on every machine.
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def values(name, shape):
    generator = Generator(name)
    return torch.tensor([generator.value() for _ in range(math.prod(shape))]).reshape(shape)


def unit_rows(name, shape):
    """Rows of length 1, rounded to float32."""
    rows = values(name, shape)
    return (rows / rows.norm(dim=1, keepdim=True)).float().double()


def initial(name, shape):
    """The value of a state tensor at the start."""
    last = name.split(".")[-1]
    if last in ("queue", "bank") or name == "prototypes.weight":
        return unit_rows(name, shape)
    if last in ("queue0", "queue1", "Z", "centre"):
        return torch.zeros(shape)
    value = values(name, shape)
    if len(shape) > 1:
        fan_in = math.prod(shape[1:])
        return value * 2.0 ** math.floor(math.log2(6 / fan_in) / 2 + 0.5)  # halves up, as JavaScript rounds
    return value / 4 + (1 if last in ("weight", "running_var") else 0)


def fill(module):
    """Gives every tensor of a module its initial value."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(initial(name, tuple(tensor.shape)))


def view(name, images, size):
    """A view [n, 3, size, size] of images: their colour and coarse pattern, and noise of its own."""
    noise = values(name, (len(images), 3, size, size))
    cell = [4 * y // size for y in range(size)]
    rows = []
    for i in images:
        colour = values(f"colour{i}", (3, 1, 1))
        coarse = values(f"pattern{i}", (3, 4, 4))[:, cell][:, :, cell]
        rows.append(colour / 4 + coarse / 2)
    return torch.stack(rows) + noise / 4


def batch(step, count, images):
    """The images of a step: each once in an epoch."""
    epoch, at = divmod(step * count, images)
    return Generator(f"order{epoch}").shuffled(range(images))[at : at + count]


def others(step, own, count, images):
    """Images outside of the batch, whose rows of a bank are scored."""
    free = [i for i in range(images) if i not in own]
    return Generator(f"others{step}").shuffled(free)[:count]


def along(step, first, last):
    """From `first` to `last` over the steps."""
    return first + (last - first) * step / (STEPS - 1)


def rounded(x):
    """Numbers, or rows of them, to 7 significant digits."""
    if isinstance(x, list):
        return [rounded(v) for v in x]
    number = float(f"{x:.7g}")
    return int(number) if number == int(number) else number


def packed(x):
    """float32, little-endian, in base64."""
    return base64.b64encode(x.detach().float().numpy().astype("<f4").tobytes()).decode()


def write(name, fixture):
    FIXTURES.mkdir(exist_ok=True)
    path = FIXTURES / f"{name}.json"
    path.write_text(json.dumps(fixture, separators=(",", ":")) + "\n")
    return path
