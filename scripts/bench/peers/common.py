"""What the programs share: the protocol of questions and answers, and fixes that let packages work together."""

import importlib.metadata
import json
import os
import resource
import sys
import time
import warnings

import torch

warnings.filterwarnings("ignore")

# Standard output carries answers alone; whatever else is printed goes to standard error.
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

# torchvision as PyPI has it is built for CUDA: beside a CPU build of torch its own operators do not load, and it stops
# where it looks for these two. Nothing here calls them: transforms and models are plain Python.
if "+cpu" in torch.__version__ and "+cpu" not in importlib.metadata.version("torchvision"):
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

# Shorter work is repeated for that long, s.
LEAST_SECONDS = 1.0


def say(**answer):
    answers.write(json.dumps(answer) + "\n")


def peak_memory():
    """Of this process, without its workers; bytes."""
    return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def rate_of(work, items):
    """Items a second of `work`, which takes so many at a time."""
    runs = 0
    started = time.perf_counter()
    while True:
        work()
        runs += 1
        seconds = time.perf_counter() - started
        if seconds >= LEAST_SECONDS:
            return {"rate": runs * items / seconds}


def serve(work, items, **asked):
    """Says that it is ready, then answers each line of standard input: "run", "memory", or one of `asked`."""
    known = {"run": lambda: rate_of(work, items), "memory": peak_memory, **asked}
    say(ready=True)
    for line in sys.stdin:
        say(**known[line.strip()]())


def use_threads(count):
    torch.set_num_threads(count)
    assert torch.backends.mkldnn.is_available(), "expected a torch with oneDNN"


def parameters_of(module):
    return {"count": sum(p.numel() for p in module.parameters())}
