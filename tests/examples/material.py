"""Images for the examples."""

from pathlib import Path

import datasets
import numpy as np


def write_images(folder: Path, split: str, n: int, height: int = 8, width: int = 8, seed: int = 0) -> None:
    """A Parquet file of random images in three classes, as the Hub stores them."""
    draw = np.random.default_rng(seed)
    images = [draw.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(n)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = datasets.Dataset.from_dict({"image": images, "label": [i % 3 for i in range(n)]}, features=features)
    folder.mkdir(exist_ok=True)
    rows.to_parquet(folder / f"{split}.parquet")
