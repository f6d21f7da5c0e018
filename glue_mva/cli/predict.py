"""`glue-mva predict`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from glue_mva.errors import UsageError, nearest

if TYPE_CHECKING:
    from glue_mva.inference.classifier import Classifier
    from glue_mva.inference.texts import Texts

BLOCK = 8192
"""Rows that are predicted before any of them is written."""
STDIN = "-"


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model folder, folder of a run made with save_model = "
                                         "true, or Hub name.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Texts: .tsv or .csv with a header, .jsonl, or plain "
                                        "text, one a line or two with a tab between them; - is standard input.")],
    out: Annotated[Path | None, typer.Option(help="Output file; by default standard output.")] = None,
    kind: Annotated[str | None, typer.Option("--format", help="text, tsv, csv or jsonl. [default: by the suffix; "
                                             "text for -]")] = None,
    to: Annotated[str | None, typer.Option(help="tsv, csv or jsonl. [default: by the suffix of --out, else as FILE, "
                                           "and tsv for plain text]")] = None,
    columns: Annotated[str | None, typer.Option(metavar="A[,B]", help="Columns that hold the texts. [default: those "
                                                "of the model's task, else text, sentence, sentence1 and sentence2, "
                                                "...: GLUE's names]")] = None,
    max_length: Annotated[int | None, typer.Option(min=4, help="Tokens at which a text or pair is cut. [default: as in "
                                                   "training, else 512]")] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
) -> None:  # fmt: skip
    """Label sentences or pairs with a fine-tuned classifier; the same rows come out with label and probabilities.

    Any folder of a fine-tuned sequence classifier will do. BERT, RoBERTa, ELECTRA, DistilBERT and ModernBERT models and
    their relatives run without padding.
    """
    from glue_mva.inference.texts import Writer, blocks, format_of, read_table

    content = sys.stdin.buffer.read() if file == STDIN else _read(Path(file))
    source = "standard input" if file == STDIN else file
    given = format_of(file, kind)
    target = _target_format(given, out, to)
    table = read_table(source, content, given)  # before the model is loaded, so that a bad file is told at once
    texts = table.texts(columns.split(",")) if columns is not None else None

    from glue_mva.inference.classifier import Classifier
    from glue_mva.models.precision import Precision
    from glue_mva.training.contexts import quiet_libraries

    with quiet_libraries():
        if precision not in (known := ("auto", *get_args(Precision))):
            raise UsageError(f"unknown precision {precision!r}{nearest(precision, known)}")
        classifier = Classifier(model, precision=cast(Any, precision), max_length=max_length)
        texts = texts or table.texts(trained=classifier.text)
        _check_task(classifier, texts)
        cut = 0
        with _output(out) as stream:
            writer = Writer(stream, target, texts, classifier.labels)
            for block in blocks(texts, BLOCK):
                rows = classifier.tokenize(*(block.column(i) for i in range(len(texts.columns))))
                cut += sum(len(row["input_ids"]) >= classifier.max_length for row in rows)
                writer.write(block.rows, classifier.predict(rows))
                stream.flush()
    if cut:
        print(f"glue-mva: {cut:,} of {len(texts):,} rows are cut at {classifier.max_length} tokens, or just that long",
              file=sys.stderr)  # fmt: skip


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(path)!r}: {getattr(error, 'strerror', None) or error}") from None


def _target_format(given: str, out: Path | None, to: str | None) -> str:
    from glue_mva.inference.texts import SUFFIXES

    known = sorted(set(SUFFIXES.values()))
    if to is not None and to not in known:
        raise UsageError(f"--to {to!r}: it is written as {', '.join(known)}")
    by_suffix = SUFFIXES.get(out.suffix.lower()) if out is not None else None
    return to or by_suffix or ("tsv" if given == "text" else given)


def _check_task(classifier: "Classifier", texts: "Texts") -> None:
    """Refuse pairs for a model of single sentences, and the other way round, where its task is known."""
    if classifier.text and len(classifier.text) != len(texts.columns):
        needs = "pairs" if len(classifier.text) == 2 else "single texts"
        raise UsageError(
            f"the model was trained on {classifier.task}, which has {needs} ({', '.join(classifier.text)}); "
            f"{texts.source} gives {', '.join(texts.columns)}"
        )


@contextmanager
def _output(path: Path | None) -> Iterator[IO[bytes]]:
    """The file that appears once it is whole, or standard output; a reader that closes it early ends the command."""
    from glue_mva.files import atomic_write

    if path is not None:
        try:
            with atomic_write(path) as stream:
                yield stream
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from None
        return
    try:
        yield sys.stdout.buffer
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush at exit
