"""The paper's Table 1: ResNet-18 on CIFAR-10, CIFAR-100 and ImageNet, with SGD, Adam, LaProp, MAdam and LaMAdam.

    python examples/image_classification.py --demo                     # scikit-learn's digits; no network
    python examples/image_classification.py                            # CIFAR-10 as in the paper
    python examples/image_classification.py --report                   # table and figure of the runs so far
    accelerate launch examples/image_classification.py --preset imagenet --data DIR

A search over multiples of the paper's learning rates, chosen on a tenth of the training images that is held out:

    python examples/image_classification.py --data DIR --epochs 15 --hold-out 0.1 --lr-times 0.5 1 2

DIR holds `train*.parquet` and `test*.parquet` (ImageNet: `validation*.parquet`) as the Hub stores uoft-cs/cifar10,
uoft-cs/cifar100 and ILSVRC/imagenet-1k.
"""

import argparse
import math
import os
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

import runs
from glue_mva import UsageError
from options import Contents, Preset, digest, hub_error, option
from runs import Run

FINAL_LR = 2e-6


@dataclass(frozen=True, kw_only=True)
class ImagePreset(Preset):
    metric: str = "accuracy (%)"
    unit: str = "images"
    baseline: str = "adam"
    amsgrad: bool = True
    epochs: int = option("passes over the training images", 200)
    batch_size: int = option("images in an update, over all devices", 128)
    width: int = option("channels of the first stage", 64)
    hold_out: float = option("share of the training images kept back to choose hyperparameters", 0.0)
    schedule: str = option("cosine, or step: lr times 0.1 every third of the epochs", "cosine", ("cosine", "step"))
    pad: int = 4
    """Random crops are taken from images padded by this much."""
    flip: bool = True
    crop: int = 0
    """Side of the random resized crops of images read from the disk as they are needed; 0: images of one size, kept in
    memory."""
    test_split: str = "test"


CIFAR10_BEST = {"sgd": (2e-1, 3e-4), "adam": (3e-3, 0.2), "laprop": (1e-3, 0.4), "madam": (8e-3, 0.05),
                "lamadam": (6e-3, 0.05)}  # fmt: skip
PRESETS = {
    "cifar10": ImagePreset(
        title="CIFAR-10, ResNet-18",
        data="uoft-cs/cifar10",
        rows=50_000,
        best=CIFAR10_BEST,
        paper={"sgd": (95.44, 0.04), "adam": (95.37, 0.03), "laprop": (95.34, 0.03), "madam": (95.51, 0.09),
               "lamadam": (95.38, 0.11)},
    ),
    "cifar100": ImagePreset(
        title="CIFAR-100, ResNet-18",
        data="uoft-cs/cifar100",
        rows=50_000,
        best={"sgd": (3e-2, 2e-3), "adam": (2e-3, 0.4), "laprop": (5e-4, 1.0), "madam": (4e-3, 0.2),
              "lamadam": (3e-3, 0.2)},
        paper={"sgd": (79.62, 0.07), "adam": (78.77, 0.07), "laprop": (78.36, 0.07), "madam": (79.32, 0.08),
               "lamadam": (79.21, 0.11)},
    ),
    "imagenet": ImagePreset(
        title="ImageNet, ResNet-18",
        data="ILSVRC/imagenet-1k",
        rows=1_281_167,
        epochs=90,
        batch_size=256,
        schedule="step",
        amsgrad=False,
        crop=224,
        test_split="validation",
        baseline="sgd",
        best={"sgd": (0.1, 7e-5), "laprop": (2e-3, 0.03), "madam": (5e-3, 0.012), "lamadam": (6e-3, 0.012)},
        paper={"sgd": (70.18, None), "adam": (66.54, None), "laprop": (70.02, None), "madam": (69.96, None),
               "lamadam": (70.16, None)},
    ),
    "demo": ImagePreset(
        title="Digits, a small ResNet-18 (a check that all works, not a benchmark)",
        data="demo",
        epochs=6, batch_size=64, width=8, seeds=(1, 2), pad=1, flip=False,
        best=CIFAR10_BEST,
        paper={},
    ),
}  # fmt: skip
"""Section 5.1 and Appendix D. ImageNet's Adam is copied from another paper there: a score, and no settings."""


# ------------------------------------------------------------------------------------------------------------ the model


class Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(nn.functional.relu(self.bn1(self.conv1(x)))))
        return nn.functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """torchvision's ResNet-18, weight names and start values included; `small` for images of 32 x 32: a 3 x 3 stem of
    stride 1 and no max pooling."""

    def __init__(self, classes: int, width: int = 64, small: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3 if small else 7, 1 if small else 2, 1 if small else 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        for k in range(4):
            c_in, c_out = width * max(1, 2**k // 2), width * 2**k
            stage = nn.Sequential(Block(c_in, c_out, 2 if k else 1), Block(c_out, c_out, 1))
            self.add_module(f"layer{k + 1}", stage)
        self.fc = nn.Linear(8 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, classes)."""
        x = self.maxpool(nn.functional.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


# ------------------------------------------------------------------------------------------------------------- the data


def order(n: int, batch_size: int, seed: int, start: int) -> Iterator[tuple[int, Tensor]]:
    """Batches of indices from update `start` on, for ever: a function of seed and update alone, so that a resumed run
    sees the images that it would have seen. What is left of an epoch after whole batches is dropped."""
    per_epoch = n // batch_size
    for epoch in range(start // per_epoch, sys.maxsize):
        shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(seed * 100_003 + epoch))
        for k in range(start % per_epoch, per_epoch):
            yield epoch * per_epoch + k, shuffled[k * batch_size : (k + 1) * batch_size]
        start = 0


class InMemory:
    """Images of one size, all in the memory of the device."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, like: "InMemory | None", device: torch.device) -> None:
        """Images (N, H, W, 3) uint8 and labels (N,); normalised by the channels' mean and deviation in `like`, or in
        these images."""
        self.images, self.labels = (torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in (images, labels))
        floats = self.images.float()
        self.mean, self.std = (like.mean, like.std) if like else (floats.mean((0, 1, 2)), floats.std((0, 1, 2)))

    def __len__(self) -> int:
        return len(self.labels)

    def train(self, preset: ImagePreset, seed: int, start: int, share: slice) -> Iterator[tuple[Tensor, Tensor]]:
        for update, batch in order(len(self), preset.batch_size, seed, start):
            draw = torch.Generator().manual_seed(seed * 100_000_007 + update)
            offset = torch.randint(2 * preset.pad + 1, (2, len(batch), 1), generator=draw)[:, share]
            flip = (torch.rand(len(batch), 1, generator=draw)[share] < 0.5) & preset.flip
            yield self.crops(batch[share], offset, flip, preset.pad), self.labels[batch[share].to(self.labels.device)]

    def crops(self, index: Tensor, offset: Tensor, flip: Tensor, pad: int) -> Tensor:
        """Random crops (B, 3, H, W) of the padded images, flipped where `flip` (B, 1); `offset` (2, B, 1)."""
        h, w = self.images.shape[1:3]
        rows, columns = offset[0] + torch.arange(h), offset[1] + torch.arange(w)
        columns = torch.where(flip, columns.flip(1), columns)
        device = self.images.device
        padded = nn.functional.pad(self.images[index.to(device)], (0, 0, pad, pad, pad, pad))
        place = torch.arange(len(index))[:, None, None], rows[:, :, None], columns[:, None, :]
        return self.normalised(padded[tuple(i.to(device) for i in place)])

    def normalised(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, 3, H, W) float32, channels last in memory."""
        return ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)

    def batches(self, size: int, share: slice) -> Iterator[tuple[Tensor, Tensor]]:
        index = torch.arange(len(self))[share].to(self.images.device)
        for part in index.split(size):
            yield self.normalised(self.images[part]), self.labels[part]


class OnDisk(torch.utils.data.Dataset):
    """Images of any size, decoded and cropped by worker processes: ImageNet's usual random resized crop and flip for
    training, and the central 7/8 of the shorter side for testing."""

    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self, rows: datasets.Dataset, crop: int, device: torch.device) -> None:
        self.rows, self.crop, self.device = rows, crop, device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, str | None]) -> tuple[Tensor, int]:
        """The image at an index, cropped by random numbers of the given seed (`None`: as for testing)."""
        index, seed = key
        row = self.rows[index]
        image, draw = row["image"].convert("RGB"), random.Random(seed)
        box = self.random_box(*image.size, draw) if seed else self.central_box(*image.size)
        image = image.resize((self.crop, self.crop), Image.Resampling.BILINEAR, box=box)
        if seed and draw.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = (np.asarray(image, dtype=np.float32) / 255 - self.MEAN) / self.STD
        return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1), row["label"]

    @staticmethod
    def random_box(w: int, h: int, draw: random.Random) -> tuple[float, float, float, float]:
        """8 to 100 % of the area, sides 3:4 to 4:3 (Szegedy et al. 2015); the central square after ten misses."""
        for _ in range(10):
            area, ratio = w * h * draw.uniform(0.08, 1), math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
            width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
            if width <= w and height <= h:
                left, top = draw.uniform(0, w - width), draw.uniform(0, h - height)
                return left, top, left + width, top + height
        return OnDisk.central_box(w, h, 1.0)

    @staticmethod
    def central_box(w: int, h: int, part: float = 224 / 256) -> tuple[float, float, float, float]:
        half = min(w, h) * part / 2
        return w / 2 - half, h / 2 - half, w / 2 + half, h / 2 + half

    def train(self, preset: ImagePreset, seed: int, start: int, share: slice) -> Iterator[tuple[Tensor, Tensor]]:
        batches = order(len(self), preset.batch_size, seed, start)
        return self.load([(i, f"{seed} {update} {i}") for i in batch[share].tolist()] for update, batch in batches)

    def batches(self, size: int, share: slice) -> Iterator[tuple[Tensor, Tensor]]:
        return self.load([(i, None) for i in part.tolist()] for part in torch.arange(len(self))[share].split(size))

    def load(self, keys: Iterator[list[tuple[int, str | None]]]) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in DataLoader(self, batch_sampler=keys, num_workers=min(16, os.cpu_count() or 1)):
            yield images.to(self.device, memory_format=torch.channels_last), labels.to(self.device)


def read_split(preset: ImagePreset, split: str) -> datasets.Dataset:
    """One split of a folder or of the Hub, with columns `image` and `label`.

    Raises:
        UsageError: no such data, or not in the Hub's layout.
    """
    if Path(preset.data).is_dir():
        files = sorted(str(path) for path in Path(preset.data).rglob(f"{split}*.parquet"))
        if not files:
            raise UsageError(f"--data {preset.data}: no {split}*.parquet in this folder")
        rows = datasets.Dataset.from_parquet(files)
    else:
        try:
            rows = datasets.load_dataset(preset.data, split=split)
        except Exception as error:  # no network, no such name, no access: each has a class of its own
            raise hub_error(preset.data, error) from None
    names = {}
    for name, known in {"image": ("image", "img"), "label": ("label", "fine_label")}.items():
        names[name] = next((c for c in known if c in rows.column_names), None)
        if names[name] is None:
            raise UsageError(f"--data {preset.data}: {split} has no column {' or '.join(known)}, only "
                             f"{', '.join(rows.column_names)}")  # fmt: skip
    return (
        rows.select_columns(list(names.values()))
        .rename_columns({v: k for k, v in names.items()})
        .cast_column("image", datasets.Image())
    )


def encoded(part: Any, pixels: bool) -> Iterator[bytes]:
    """What a split holds, for its digest: labels, and with `pixels` the images as they are stored."""
    if isinstance(part, tuple):
        yield from (np.ascontiguousarray(array).tobytes() for array in part)
        return
    yield np.array(part["label"], dtype=np.int64).tobytes()
    if pixels:
        yield from (image["bytes"] or b"" for image in part.cast_column("image", datasets.Image(decode=False))["image"])


def read_data(preset: ImagePreset, device: torch.device) -> tuple[dict[str, Any], int, Contents]:
    """`train`, `test` and, with `hold_out`, `validation`; the number of classes; and what was read.

    Raises:
        UsageError: data that cannot be read, or too few of them.
    """
    if preset.data == "demo":
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = np.repeat((digits.images * 15.9).astype(np.uint8)[..., None], 3, axis=3)
        parts = {"train": (pixels[:1400], digits.target[:1400]), "test": (pixels[1400:], digits.target[1400:])}
        classes, n = 10, 1400
    else:
        parts = {"train": read_split(preset, "train"), "test": read_split(preset, preset.test_split)}
        classes, n = max(parts["train"].unique("label")) + 1, len(parts["train"])
    shuffled = np.random.default_rng(0).permutation(n)
    held = round(preset.hold_out * n)
    if n - held < preset.batch_size:
        raise UsageError(f"hold-out {preset.hold_out:g} leaves {n - held} of {n} training images; "
                         f"a batch needs {preset.batch_size}")  # fmt: skip
    read = digest(piece for part in parts.values() for piece in encoded(part, pixels=not preset.crop))
    data: dict[str, Any] = {}
    for name, (source, index) in {
        "train": ("train", np.sort(shuffled[held:])),
        "validation": ("train", np.sort(shuffled[:held])),
        "test": ("test", None),
    }.items():
        part = parts[source]
        if isinstance(part, datasets.Dataset) and preset.crop:
            data[name] = OnDisk(part if index is None else part.select(index), preset.crop, device)
            continue
        if isinstance(part, datasets.Dataset):
            images = np.stack([np.asarray(image.convert("RGB")) for image in part["image"]])
            part = parts[source] = images, np.array(part["label"])
        images, labels = part if index is None else (part[0][index], part[1][index])
        data[name] = InMemory(images, labels, data.get("train"), device)
    if not held:
        del data["validation"]
    return data, classes, Contents(read, {name: len(part) for name, part in data.items()})


# --------------------------------------------------------------------------------------------------------- the training


def learning_rate(preset: ImagePreset, lr: float, update: int, total: int) -> float:
    """The learning rate of an update, counted from 0."""
    if preset.schedule == "step":
        return lr * 0.1 ** (3 * update // total)
    return FINAL_LR + (lr - FINAL_LR) * (1 + math.cos(math.pi * update / total)) / 2


@torch.no_grad()
def accuracy(run: Run, data: Any, preset: ImagePreset) -> float:
    """Percentage of images that are classified right; every process looks at its share of them."""
    a = run.accelerator
    run.model.eval()
    right = torch.zeros((), device=a.device)
    for images, labels in data.batches(2 * preset.batch_size, slice(a.process_index, None, a.num_processes)):
        with run.autocast():
            right += (run.model(images).argmax(dim=1) == labels).sum()
    run.model.train()
    return 100 * a.reduce(right, "sum").item() / len(data)


def train(run: Run, preset: ImagePreset, data: dict[str, Any], classes: int) -> None:
    a, seed, lr = run.accelerator, run.settings["seed"], run.settings["lr"]
    set_seed(seed)
    model = ResNet18(classes, preset.width, small=not preset.crop).to(memory_format=torch.channels_last)
    per_epoch = len(data["train"]) // preset.batch_size
    total = preset.epochs * per_epoch
    model, optimizer = run.start(model, total, lambda update: learning_rate(preset, lr, update, total))
    share = slice(a.process_index, None, a.num_processes)
    batches = data["train"].train(preset, seed, run.progress.update, share)
    watched = "validation" if "validation" in data else "test"
    for update in run.updates():
        images, labels = next(batches)
        with run.autocast():
            loss = nn.functional.cross_entropy(model(images).float(), labels)
        a.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        run.log(loss, preset.batch_size)
        if (update + 1) % per_epoch == 0:
            run.evaluated(watched, accuracy(run, data[watched], preset))
    run.finish({name: accuracy(run, part, preset) for name, part in data.items() if name != "train"})


def run_all(args: argparse.Namespace, preset: ImagePreset, accelerator: Accelerator) -> None:
    least = 16 if preset.crop else 8
    if preset.width < least:
        raise UsageError(f"--width {preset.width}: take {least} or more; on some CPUs torch's convolutions crash below")
    data, classes, contents = read_data(preset, accelerator.device)
    runs.search(args, preset, accelerator, contents, lambda run: train(run, preset, data, classes))


def main(argv: Sequence[str] | None = None) -> int:
    return runs.main(__doc__, PRESETS, run_all, argv)


if __name__ == "__main__":
    sys.exit(main())
