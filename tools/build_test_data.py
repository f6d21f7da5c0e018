"""Build the GLUE files of the tests: every task in its official layout, with sentences written by rule.

    python tools/build_test_data.py [FOLDER]     # default: tests/data/glue

The sentences say nothing and come from no corpus. What decides a label can be read from single words, so that a tiny
model learns it in seconds: only in WNLI, as officially, does the answer depend on both sentences at once. Layouts are
the official ones, with what is odd in them: no header in CoLA's train and dev files, a byte-order mark in MRPC's, other
columns in test files, quotation marks that are only characters, a space before SST-2's tabs.
"""

import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

OUT = Path(__file__).parents[1] / "tests" / "data" / "glue"
ROWS = {"train": 192, "dev": 64, "test": 24}
FEWER = {"MNLI": {"train": 96, "dev_matched": 32, "dev_mismatched": 28, "test_matched": 20, "test_mismatched": 16},
         "WNLI": {"train": 96, "dev": 32, "test": 16}, "AX": {"diagnostic": 24}}  # fmt: skip

NAMES = ["Anna", "Boris", "Carla", "David", "Elena", "Felix", "Greta", "Hugo", "Irène", "Jonas"]
THINGS = ["lamp", "letter", "map", "chair", "bottle", "basket", "drum", "mirror", "ladder", "clock"]
PLACES = ["garden", "market", "harbour", "library", "station", "café", "school", "museum"]
DAYS = ["Monday", "Tuesday", "Thursday", "Friday", "Sunday"]
VERBS = [
    *(("take", "took", "taked"), ("see", "saw", "seed"), ("break", "broke", "breaked"), ("find", "found", "finded")),
    *(("buy", "bought", "buyed"), ("draw", "drew", "drawed"), ("hide", "hid", "hided"), ("sell", "sold", "selled")),
]
GOOD = ["charming", "funny", "moving", "clever", "graceful", "tender", "witty", "rich"]
BAD = ["dull", "clumsy", "tedious", "hollow", "noisy", "stale", "sloppy", "bland"]
PURSUITS = ["learn to swim", "rent a boat", "find a doctor", "bake bread", "sell old books", "repair a bicycle"]
NLI3 = ["entailment", "neutral", "contradiction"]
NLI2 = ["entailment", "not_entailment"]

Draw = Callable[[Sequence], str]
Example = tuple[str, ...]
"""The texts of a row and, last, its label as the file has it."""


def scene(draw: Draw) -> dict[str, str]:
    """Who did what with which thing, where and when."""
    base, past, wrong = draw(VERBS)
    name, other = draw(NAMES[:5]), draw(NAMES[5:])
    return {"name": name, "other": other, "base": base, "past": past, "wrong": wrong, "thing": draw(THINGS),
            "place": draw(PLACES), "day": draw(DAYS)}  # fmt: skip


def cola(draw: Draw, kind: int) -> Example:
    s = scene(draw)
    return f"{s['name']} {s['past'] if kind else s['wrong']} the {s['thing']} in the {s['place']}.", str(kind)


def sst2(draw: Draw, kind: int) -> Example:
    words = GOOD if kind else BAD
    subject, adverb = draw(["the film", "the story", "its cast", "the music"]), draw(["always", "often", "really"])
    return f"{subject} is {adverb} {draw(words)} and {draw(words)} . ", str(kind)  # officially a space before the tab


def mrpc(draw: Draw, kind: int) -> Example:
    s = scene(draw)
    first = f'{s["name"]} said {s["other"]} {s["past"]} " the {s["thing"]} " in the {s["place"]} .'
    if kind:
        return first, f"{s['other']} {s['past']} the {s['thing']} in the {s['place']} , said {s['name']} .", "1"
    return first, f"{s['other']} denied on {s['day']} that there was any {s['thing']} .", "0"


def qqp(draw: Draw, kind: int) -> Example:
    what, where = (
        draw(PURSUITS),
        f"{draw(['Oslo', 'Porto', 'Turin', 'Ghent', 'Kraków'])} {draw(['today', 'in winter'])}",
    )
    first = f"{draw(['How do I', 'How can I', 'How would I'])} {what} in {where}?"
    second = draw(["What is the best way", "What is a good way"]) if kind else draw(["Why is it illegal", "Is it rude"])
    return first, f"{second} to {what} in {where}?", str(kind)


def stsb(draw: Draw, kind: int) -> Example:
    s = scene(draw)
    first = f"{s['name']} {s['past']} the {s['thing']} in the {s['place']}."
    second = [
        f"Shares in {draw(['Oslo', 'Porto', 'Turin'])} fell by {draw('23456789')} percent.",
        f"{s['other']} was in the {s['place']}.",
        f"{s['name']} {s['past']} something in the {s['place']}.",
        f"The {s['thing']} in the {s['place']} was what {s['name']} {s['past']}.",
    ][kind]
    return first, second, f"{(0.0, 1.4, 3.0, 4.2)[kind] + 0.2 * int(draw('01234')):.3f}"


def rte(draw: Draw, kind: int) -> Example:
    s = scene(draw)
    first = f"On {s['day']} {s['name']} {s['past']} the {s['thing']} in the {s['place']}, says {s['other']}."
    second = f"Nobody {s['past']} the {s['thing']}." if kind else f"{s['name']} was in the {s['place']}."
    return first, second, NLI2[kind]


def qnli(draw: Draw, kind: int) -> Example:
    s = scene(draw)
    answer = f"{s['name']} {s['past']} the {s['thing']} in the {s['place']}, and {s['other']} knew."
    other = f"The {s['place']} opens at {draw('56789')} on {s['day']}."
    return f"Where did {s['name']} {s['base']} the {s['thing']}?", other if kind else answer, NLI2[kind]


def wnli(draw: Draw, kind: int) -> Example:
    s, size = scene(draw), draw(["large", "small"])
    first = f"{s['name']} could not put the {s['thing']} into the box because it was too {size}."
    right, wrong = ("box", s["thing"]) if size == "small" else (s["thing"], "box")
    return first, f"The {right if kind else wrong} was too {size}.", str(kind)


def mnli(draw: Draw, kind: int) -> Example:
    s = scene(draw)
    second = [
        f"Someone {s['past']} the {s['thing']}.",
        f"{s['name']} {s['past']} the {s['thing']} for the first time.",
        f"{s['name']} did not {s['base']} the {s['thing']}.",
    ][kind]
    return f"{s['name']} {s['past']} the {s['thing']} in the {s['place']}.", second, NLI3[kind]


def unique(make: Callable[[Draw, int], Example], count: int, kinds: Sequence[int], seed: str) -> list[Example]:
    """`count` examples, no two with the same texts, whose kinds go round in turn and are then shuffled."""
    source = random.Random(seed)
    found: dict[tuple[str, ...], Example] = {}
    while len(found) < count:
        example = make(source.choice, kinds[len(found) % len(kinds)])
        found.setdefault(example[:-1], example)
    examples = list(found.values())
    source.shuffle(examples)
    return examples


def binary_parse(sentence: str) -> str:
    """A right-branching tree over the words, in the form of MNLI's parse columns."""
    *words, last = sentence.split()
    return "".join(f"( {word} " for word in words) + last + " )" * len(words)


MNLI = [
    *("index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"),
    *("sentence1_parse", "sentence2_parse", "sentence1", "sentence2"),
]
STSB = [
    *("index", "genre", "filename", "year", "old_index", "source1", "source2"),
    *("sentence1", "sentence2"),
]
MRPC = ["#1 ID", "#2 ID", "#1 String", "#2 String"]
PAIR = ["index", "sentence1", "sentence2"]
HEADERS = {
    "CoLA": {"": ["source", "label", "judgement", "sentence"], "test": ["index", "sentence"]},
    "SST-2": {"": ["sentence", "label"], "test": ["index", "sentence"]},
    "MRPC": {"": ["Quality", *MRPC], "test": ["index", *MRPC]},
    "STS-B": {"": [*STSB, "score"], "test": STSB},
    "QQP": {
        "": ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
        "test": ["id", "question1", "question2"],
    },
    "MNLI": {
        "": [*MNLI, "label1", "gold_label"],
        "dev": [*MNLI, "label1", "label2", "label3", "label4", "label5", "gold_label"],
        "test": MNLI,
    },
    "QNLI": {"": ["index", "question", "sentence", "label"], "test": ["index", "question", "sentence"]},
    "RTE": {"": [*PAIR, "label"], "test": PAIR},
    "WNLI": {"": [*PAIR, "label"], "test": PAIR},
    "AX": {"": PAIR},
}
"""Official folder -> kind of split -> columns; "" where nothing else is given."""


def cells(folder: str, split: str, index: int, texts: Sequence[str], label: str) -> dict[str, str]:
    """Every column of any layout -> what stands in it in this row."""
    first, second = texts[0], texts[-1]
    constants = {"source": "gen1", "filename": "rules", "year": "2026test", "source1": "none", "source2": "none"}
    genres = ["letters", "verbatim"] if split.endswith("mismatched") else ["fiction", "travel"]
    return constants | {
        **dict.fromkeys(("index", "id"), str(index)),
        **dict.fromkeys(("qid1", "#1 ID", "promptID"), str(70000 + 2 * index)),
        **dict.fromkeys(("qid2", "#2 ID", "pairID"), str(70001 + 2 * index)),
        **dict.fromkeys(("label", "score", "Quality", "is_duplicate", "gold_label"), label),
        **{f"label{k}": label for k in range(1, 6)},
        **dict.fromkeys(("sentence1", "question1", "question", "#1 String"), first),
        **dict.fromkeys(("sentence2", "question2", "sentence", "#2 String"), second),
        **{f"sentence{k}_binary_parse": binary_parse(text) for k, text in ((1, first), (2, second))},
        **{f"sentence{k}_parse": f"(ROOT {binary_parse(text)})" for k, text in ((1, first), (2, second))},
        "judgement": "*" if label == "0" else "",
        "genre": "main-captions" if folder == "STS-B" else genres[index % 2],
        "old_index": f"{index:04}",
    }


TASKS: dict[str, tuple[Callable[[Draw, int], Example], list[int]]] = {
    "CoLA": (cola, [1, 1, 0]), "SST-2": (sst2, [0, 1]), "MRPC": (mrpc, [1, 1, 0]), "STS-B": (stsb, [0, 1, 2, 3]),
    "QQP": (qqp, [0, 0, 1]), "MNLI": (mnli, [0, 1, 2]), "QNLI": (qnli, [0, 1]), "RTE": (rte, [0, 1]),
    "WNLI": (wnli, [0, 1]), "AX": (mnli, [0, 1, 2]),
}  # fmt: skip
"""Official folder -> generator of examples, and the kinds whose shares give the classes their frequencies."""


def build(out: Path) -> None:
    """Write every file; the same bytes each time."""
    for folder, (make, kinds) in TASKS.items():
        (out / folder).mkdir(parents=True, exist_ok=True)
        sizes = FEWER.get(folder, ROWS)
        examples = iter(unique(make, sum(sizes.values()), kinds, seed=folder))
        for split, count in sizes.items():
            header = HEADERS[folder].get(split.partition("_")[0], HEADERS[folder][""])
            rows = [] if folder == "CoLA" and split != "test" else [header]
            for index in range(count):
                *texts, label = next(examples)
                values = cells(folder, split, index, texts, label)
                rows.append([values[column] for column in header])
            mark = "\ufeff" if folder == "MRPC" and split != "test" else ""
            text = mark + "".join("\t".join(row) + "\n" for row in rows)
            (out / folder / f"{split}.tsv").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
