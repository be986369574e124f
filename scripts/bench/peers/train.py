"""SimCLR as a plain lightly script: a folder of images in, weights out. Says "step" after the first step."""

import argparse
import sys

# lightly imports timm where it finds it; a plain script has none, and starts sooner.
sys.modules["timm"] = None

import common  # first: it makes torchvision load
import torch
from encoders import encoder_named
from lightly.data import LightlyDataset
from lightly.transforms import SimCLRTransform
from methods import SimCLR, optimizer_of
from torch.utils.data import DataLoader, Subset


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()

    common.use_threads(args.threads)
    small = args.size <= 64
    transform = SimCLRTransform(
        args.size, cj_strength=0.5 if small else 1, gaussian_blur=0 if small else 0.5
    )
    dataset = LightlyDataset(args.data, transform)
    every = max(1, len(dataset) // args.limit)
    dataset = Subset(dataset, range(0, len(dataset), every)[: args.limit])
    loader = DataLoader(
        dataset, batch_size=args.batch, shuffle=True, drop_last=True, num_workers=args.threads
    )

    encoder, features, convolutions = encoder_named(args.encoder, args.size)
    layout = torch.channels_last if convolutions else torch.contiguous_format
    model = SimCLR(encoder, features, args.size).to(memory_format=layout)
    optimizer = optimizer_of("sgd", model.parameters())

    done = 0
    while done < args.steps:
        for views, _, _ in loader:
            optimizer.zero_grad(set_to_none=True)
            loss = model([view.to(memory_format=layout) for view in views])
            loss.backward()
            optimizer.step()
            done += 1
            if done == 1:
                common.say(step=1, loss=loss.item())
            if done == args.steps:
                break
    torch.save(model.state_dict(), args.out)


if __name__ == "__main__":
    main()
