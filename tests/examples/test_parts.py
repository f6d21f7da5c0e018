"""Parts of the examples: schedules, the subword vocabulary, and the presets that no small machine runs in full."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from glue_mva import UsageError
from tests.examples.conftest import EXAMPLES
from tests.examples.material import write_images
from tests.processes import script

SENTENCES = [
    'A man, who isn\'t old, says: "Hello!" (twice).',
    "Zwei gut-gelaunte Hunde; 3.5 km weit?! „Ja“ ...",
    "(Start) and end: a/b, 50% & more - even -- dashes'",
]


def test_punctuation_marks_are_subwords_of_their_own_and_sentences_come_back(examples: SimpleNamespace) -> None:
    translation = examples.translation
    tokenizer = translation.train_tokenizer(translation.new_tokenizer(), SENTENCES * 50, 400)
    for sentence in SENTENCES:
        assert tokenizer.decode(tokenizer.encode(sentence).ids) == sentence
    marks = set(".,:;!?\"'()-/%&„“")
    assert [word for word in tokenizer.get_vocab() if marks & set(word) and len(word) > 1 and word[0] != "<"] == []


def test_schedules_at_a_few_updates(examples: SimpleNamespace) -> None:
    images, translation = examples.image_classification, examples.translation
    cosine = images.PRESETS["cifar10"]
    at = {0: 1e-2, 50: (1e-2 + 2e-6) / 2, 100: 2e-6, 25: 2e-6 + (1e-2 - 2e-6) * (1 + 0.5**0.5) / 2}
    for update, expected in at.items():
        assert images.learning_rate(cosine, 1e-2, update, 100) == pytest.approx(expected)
    steps = [images.learning_rate(images.PRESETS["imagenet"], 1.0, update, 90) for update in (0, 29, 30, 59, 60, 89)]
    assert steps == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    tri, inverse = translation.PRESETS["iwslt14"], translation.PRESETS["wmt16"]
    at = {0: 0.01, 2_000: 0.505, 4_000: 1, 36_000: 1, 48_000: 0.1, 60_000: 0.01}
    for update, expected in at.items():
        assert translation.learning_rate(tri, 1.0, update, 60_000) == pytest.approx(expected)
    at = {0: 1 / 4_000, 1_999: 0.5, 3_999: 1, 15_999: 0.5, 31_999: 8**-0.5}
    for update, expected in at.items():
        assert translation.learning_rate(inverse, 1.0, update, 32_000) == pytest.approx(expected)


def test_the_imagenet_preset_runs_two_updates_on_images_of_any_size(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_images(tmp_path / "data", split, 8, height=40, width=56)
    words = ["--preset", "imagenet", "--data", tmp_path / "data", "--out", tmp_path / "out", "--optim", "madam"]
    words += ["--seeds", "1", "--width", "16", "--batch-size", "4", "--epochs", "1"]
    done = script(EXAMPLES / "image_classification.py", *words)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out" / "records").glob("*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "ok" and record["curves"]["update"] == [1, 2]
    assert record["rows"] == {"train": 8, "test": 8} and record["scores"].keys() == {"test"}


def test_the_wmt_preset_runs_two_updates_of_several_turns(examples: SimpleNamespace, tmp_path: Path) -> None:
    for split, n in {"train": 40, "val": 4, "test": 4}.items():
        for language, words in {"en": examples.translation.english, "de": examples.translation.german}.items():
            (tmp_path / f"{split}.{language}").write_text("".join(f"{words(k * 7)}.\n" for k in range(n)), "utf-8")
    words = ["--preset", "wmt16", "--data", tmp_path, "--out", tmp_path / "out", "--optim", "lamadam", "--seeds", "1"]
    words += ["--layers", "1", "--width", "16", "--heads", "2", "--feed-forward", "16", "--vocabulary", "80"]
    words += ["--updates", "2", "--batch-tokens", "128", "--device-tokens", "64", "--beams", "2", "--evaluations", "1"]
    done = script(EXAMPLES / "translation.py", *words)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out" / "records").glob("*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "ok" and record["curves"]["update"] == [1, 2]
    assert record["rows"] == {"train": 40, "validation": 4, "test": 4}
    assert record["signature"].startswith("nrefs:1|") and "tok:13a" in record["signature"]
    assert record["execution"]["speed_unit"] == "target tokens per second"


@pytest.mark.parametrize(("preset", "least"), [("demo", 8), ("imagenet", 16)])
def test_a_width_at_which_torch_crashes_is_refused(preset: str, least: int, tmp_path: Path) -> None:
    words = ["--preset", preset, "--width", least - 1, "--out", tmp_path]
    done = script(EXAMPLES / "image_classification.py", *words)
    assert done.returncode == 2 and f"--width {least - 1}: take {least} or more" in done.stderr


def test_sentences_of_other_systems_and_damaged_files(examples: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "train.de").write_bytes("eins\r\nzw\u00f6lf\r\n".encode())
    assert examples.translation.read_lines(tmp_path, "train", "de") == ["eins", "zw\u00f6lf"]
    (tmp_path / "val.de").write_bytes(b"zw\xf6lf\n")
    (tmp_path / "test.de.gz").write_bytes(gzip.compress(b"eins\n" * 1000)[:-9])
    for split in ("val", "test"):
        with pytest.raises(UsageError, match=rf"{split}\.de.* cannot be read: "):
            examples.translation.read_lines(tmp_path, split, "de")
