"""A training step on views made beforehand."""

import argparse

import common
import torch
from encoders import encoder_named
from methods import METHODS, optimizer_of


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--optimizer", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--variant", choices=["eager", "compiled"], default="eager")
    args = parser.parse_args()

    common.use_threads(args.threads)
    torch.manual_seed(0)
    encoder, features, convolutions = encoder_named(args.encoder, args.size)
    method = METHODS[args.method]
    model = method(encoder, features, args.size)
    layout = torch.channels_last if convolutions else torch.contiguous_format
    model = model.to(memory_format=layout).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer_of(args.optimizer, trained, nesterov=getattr(method, "nesterov", False))
    loss_of = torch.compile(model) if args.variant == "compiled" else model
    views = [
        torch.randn(args.batch, 3, side, side).to(memory_format=layout) for side in method.sizes(args.size)
    ]

    def step():
        model.before_step()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(views)
        loss.backward()
        optimizer.step()
        return loss.item()

    common.serve(step, args.batch, parameters=lambda: common.parameters_of(model.encoder))


if __name__ == "__main__":
    main()
