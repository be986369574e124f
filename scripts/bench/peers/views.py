"""SimCLR's views by torchvision's transforms on Pillow images, with lightly's collate and worker processes."""

import argparse

import common  # first: it makes torchvision load
from lightly.data import LightlyDataset
from lightly.data.multi_view_collate import MultiViewCollate
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset


class InMemory(Dataset):
    """Images that are decoded once."""

    def __init__(self, files, transform):
        self.images = [Image.open(file).convert("RGB") for file in files]
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), 0, ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--strength", type=float, required=True)
    parser.add_argument("--blur", type=float, required=True)
    parser.add_argument("--in-memory", action="store_true")
    args = parser.parse_args()

    transform = SimCLRTransform(args.size, cj_strength=args.strength, gaussian_blur=args.blur)
    dataset = LightlyDataset(args.data, transform)
    every = max(1, len(dataset) // args.limit)
    chosen = range(0, len(dataset), every)[: args.limit]
    if args.in_memory:
        names = dataset.get_filenames()
        dataset = InMemory([f"{args.data}/{names[i]}" for i in chosen], transform)
    else:
        dataset = Subset(dataset, chosen)
    loader = DataLoader(
        dataset,
        batch_size=args.batch,
        shuffle=True,
        drop_last=True,
        num_workers=args.threads,
        persistent_workers=True,
        collate_fn=MultiViewCollate(),
    )

    def epoch():
        for _ in loader:
            pass

    common.serve(epoch, 2 * args.batch * len(loader))


if __name__ == "__main__":
    main()
