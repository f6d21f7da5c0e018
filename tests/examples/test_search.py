"""Which runs a command of the examples plans, and what it refuses before any training."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from glue_mva import UsageError
from tests.examples.material import write_images

CPU = SimpleNamespace(device=torch.device("cpu"), num_processes=1)


@pytest.fixture
def plan(examples: SimpleNamespace, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """The runs that a command line plans in `tmp_path`, on the digits."""

    def planned(*words: str, digest: str = "0", **rows: int) -> list[dict[str, Any]]:
        presets = examples.image_classification.PRESETS
        args, preset = examples.options.read_options("", presets, ["--demo", "--out", str(tmp_path), *words])
        contents = examples.options.Contents(digest, {"train": 1400, "test": 397} | rows)
        return examples.runs.plan(args, preset, CPU, contents)

    return planned


def test_every_optimizer_is_searched_by_one_command_and_seed_by_seed(plan: Callable[..., list[dict[str, Any]]]) -> None:
    runs = plan("--optim", "sgd", "madam", "--lr-times", "0.5", "1", "2", validation=140)
    assert [run["seed"] for run in runs] == [1] * 6 + [2] * 6
    assert [run["lr"] for run in runs[:6]] == [0.1, 0.2, 0.4, 0.004, 0.008, 0.016]
    assert [run["weight_decay"] for run in runs[:6]] == [3e-4] * 3 + [0.05] * 3


@pytest.mark.parametrize("words", [["--lr", "1e-3", "2e-3"], ["--lr-times", "1", "2"], ["--weight-decay", "0", "0.1"]])
def test_nothing_is_chosen_by_test_scores(plan: Callable[..., list[dict[str, Any]]], words: list[str]) -> None:
    with pytest.raises(UsageError, match=r"Adam would have 2 learning rates and decays.* add --hold-out 0\.1$"):
        plan("--optim", "adam", *words)
    assert len(plan("--optim", "adam", *words, validation=140)) == 4
    assert len(plan("--optim", "adam", words[0], words[1])) == 2


def test_nor_by_two_commands(plan: Callable[..., list[dict[str, Any]]], add: Callable[..., None]) -> None:
    add("adam", validation=None)
    with pytest.raises(UsageError, match=r"add --hold-out 0\.1 and another --out"):
        plan("--optim", "adam", "--lr", "2e-3")


def test_a_folder_of_another_experiment_is_refused_before_training(
    plan: Callable[..., list[dict[str, Any]]], add: Callable[..., None]
) -> None:
    add("adam", validation=None)
    assert plan("--optim", "laprop")
    for words, difference in {("--epochs", "5"): r"epochs \(5, 6\)", ("--width", "4"): r"width \(4, 8\)"}.items():
        with pytest.raises(UsageError, match=f"{difference}: take another --out"):
            plan("--optim", "laprop", *words)
    with pytest.raises(UsageError, match=r'data \("0", "1"\)'):
        plan("--optim", "laprop", digest="1")


def test_precision_is_what_was_asked_for_on_every_machine(
    plan: Callable[..., list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for has_it in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has_it=has_it: has_it)
        assert {run["precision"] for run in plan()} == {"fp32"}
    with pytest.raises(UsageError, match="no bfloat16 arithmetic; take fp32, or another machine"):
        plan("--precision", "bf16")


def test_data_are_known_by_what_they_are_and_not_by_where_they_lie(examples: SimpleNamespace, tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        for split in ("train", "test"):
            write_images(tmp_path / folder, split, 12, seed=seed if split == "train" else 7)
    images = examples.image_classification
    found = {}
    for folder in ("a", "b", "c"):
        _, preset = examples.options.read_options(
            "", images.PRESETS, ["--demo", "--data", str(tmp_path / folder), "--batch-size", "4", "--hold-out", "0.25"]
        )
        found[folder] = images.read_data(preset, CPU.device)[2]
        assert not any(str(tmp_path) in str(value) for value in preset.settings().values())
    assert found["a"] == found["b"] and found["a"].digest != found["c"].digest
    assert found["a"].rows == {"train": 9, "validation": 3, "test": 12}


def test_schedules_are_a_choice(examples: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    for script, known in {
        "image_classification": "cosine, *'?step",
        "translation": "tri-stage, *'?inverse-sqrt",
    }.items():
        with pytest.raises(SystemExit):
            examples.options.read_options("", getattr(examples, script).PRESETS, ["--schedule", "linear"])
        assert re.search(known, capsys.readouterr().err.replace("'", ""))


def test_options_that_contradict_each_other_are_refused(examples: SimpleNamespace) -> None:
    def read(*words: str) -> argparse.Namespace:
        return examples.options.read_options("", examples.translation.PRESETS, list(words))[0]

    for words, message in {
        ("--lr", "1e-3", "--lr-times", "1"): "drop one",
        ("--match", "lamadam", "--lr-times", "2"): "drop --lr, --lr-times and --weight-decay",
        ("--lr-times", "0"): "greater than 0",
        ("--seeds", "-1"): r"--seeds -1: it must lie in \[0, 2\^32\)",
        ("--optim", "lamadam", "--match", "lamadam"): "not matched with itself",
    }.items():
        with pytest.raises(UsageError, match=message):
            read(*words)
    assert read("--match", "lamadam").optim == ["adam", "laprop", "madam"]
