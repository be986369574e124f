"""A frozen encoder on images normalised beforehand."""

import argparse

import common
import torch
import torch._inductor.config
from encoders import encoder_named
from safetensors.torch import load_file


def normalised(images):
    """uint8 [n, h, w, 3] -> float32 [n, 3, h, w]."""
    mean = torch.tensor([0.485, 0.456, 0.406])
    std = torch.tensor([0.229, 0.224, 0.225])
    return ((images / 255 - mean) / std).permute(0, 3, 1, 2)


def pattern(size):
    """An image that the other side makes too, uint8 [1, size, size, 3]."""
    y, x, c = torch.meshgrid(torch.arange(size), torch.arange(size), torch.arange(3), indexing="ij")
    return ((7 * y + 13 * x + 101 * c) % 256).to(torch.uint8)[None]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--variant", choices=["eager", "compiled", "frozen"], default="eager")
    args = parser.parse_args()

    common.use_threads(args.threads)
    model, _, convolutions = encoder_named(args.encoder, args.size)
    missing, unknown = model.load_state_dict(load_file(args.weights), strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    assert not missing and not unknown, f"expected the same weights; missing {missing}, unknown {unknown}"
    layout = torch.channels_last if convolutions else torch.contiguous_format
    model = model.to(memory_format=layout).eval()
    # Frozen: weights are constants, batch normalisation is folded into them.
    torch._inductor.config.freezing = args.variant == "frozen"
    encode = model if args.variant == "eager" else torch.compile(model)
    batch = normalised(torch.randint(0, 256, (args.batch, args.size, args.size, 3), dtype=torch.uint8))
    batch = batch.contiguous(memory_format=layout)

    @torch.inference_mode()
    def work():
        encode(batch)

    @torch.inference_mode()
    def features():
        image = normalised(pattern(args.size)).expand(args.batch, -1, -1, -1).contiguous(memory_format=layout)
        return {"features": encode(image)[0].tolist()}

    common.serve(work, args.batch, features=features)


if __name__ == "__main__":
    main()
