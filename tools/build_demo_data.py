"""Build the demo data of the package: an excerpt of QNLI as two Parquet files.

    python tools/build_demo_data.py DIR

Takes 2,000 training rows and 800 dev rows, drawn with seed 0 and kept in their order.
"""

import sys
from pathlib import Path

import numpy as np
from datasets import Dataset

from glue_mva.data import tsv
from glue_mva.tasks import DEMO_ROWS, DEMO_TASK, get_task

OUT = Path(__file__).parents[1] / "glue_mva" / "data" / "demo"


def main(glue: Path) -> None:
    task = get_task(DEMO_TASK)
    for split, rows in DEMO_ROWS.items():
        columns = tsv.read_split(task, glue / task.folder / tsv.file_of(task, split))
        chosen = np.sort(np.random.default_rng(0).choice(len(columns["idx"]), rows, replace=False))
        path = OUT / f"{split}.parquet"
        Dataset.from_dict(columns).select(chosen).to_pandas().to_parquet(path, compression="zstd", index=False)
        print(f"{path}: {rows} rows, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
