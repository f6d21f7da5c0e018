"""The paper's Table 2 and Figure 4: a Transformer trained from scratch to translate, with LaProp, LaMAdam and others.

    python examples/translation.py --demo                              # numbers in words, made by rule; no network
    python examples/translation.py --data DIR                          # IWSLT'14 German-English as in the paper
    python examples/translation.py --optim laprop --match lamadam      # LaProp-eta': the step size of LaMAdam
    python examples/translation.py --report                            # table and figure of the runs so far
    accelerate launch examples/translation.py --preset wmt16 --device-tokens 8192

DIR holds two files of lines for each split, plain or gzipped: `train*.de` and `train*.en`, `val*.de` and `val*.en`,
`test*.de` and `test*.en`. On the Hub: columns of the languages' names, or a column `translation`.
"""

import argparse
import contextlib
import functools
import gzip
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import MarianConfig, MarianMTModel

import runs
from glue_mva import UsageError
from numbers_in_words import english, german
from options import Contents, Preset, digest, hub_error, option, require
from runs import Run

PAD, EOS, UNKNOWN = 0, 1, 2
IGNORED = -100
"""Label of the positions after a sentence's end, as in transformers."""
LONGEST = 256
"""Longer sentences, in subwords, are left out of the training data."""


@dataclass(frozen=True, kw_only=True)
class TranslationPreset(Preset):
    metric: str = "BLEU"
    unit: str = "target tokens"
    baseline: str = "laprop"
    source: str = option("language to translate from", "de")
    target: str = option("language to translate into", "en")
    config: str = ""
    """Configuration of a Hub data set that has several."""
    revision: str = "main"
    vocabulary: int = option("subwords, of both languages together", 10_000)
    layers: int = option("layers of the encoder, and of the decoder", 6)
    width: int = option("width of the model", 512)
    heads: int = option("attention heads", 4)
    feed_forward: int = option("width of the feed-forward layers", 1024)
    dropout: float = option("dropout", 0.3)
    label_smoothing: float = option("label smoothing", 0.1)
    batch_tokens: int = option("tokens in an update, padding included, over all devices", 4096)
    device_tokens: int = option("tokens that a device takes at once; an update takes several turns", 0)
    updates: int = option("updates of a run", 60_000)
    schedule: str = option("of the learning rate", "tri-stage", ("tri-stage", "inverse-sqrt"))
    evaluations: int = option("how often a run is scored on the validation sentences, by greedy search", 10)
    beams: int = option("beams of the search that gives the final scores", 5)
    remarks: tuple[str, ...] = (
        "The table's BLEU is from beam search, the figure's from greedy search.",
        "The authors' script scores the checkpoint with the best validation BLEU; here the last weights are scored.",
    )


BEST = {"adam": (5e-4, 1e-2), "laprop": (5e-4, 1e-2), "madam": (1.5e-3, 1e-2), "lamadam": (1.5e-3, 1e-2)}
PRESETS = {
    "iwslt14": TranslationPreset(
        title="IWSLT'14 German-English, Transformer",
        data="bbaaaa/iwslt14-de-en",
        revision="refs/convert/parquet",
        rows=160_239,
        best=BEST,
        paper={"laprop": (35.98, 0.06), "lamadam": (36.09, 0.04)},
    ),
    "multi30k": TranslationPreset(
        title="Multi30k German-English, Transformer-Tiny",
        data="bentrevett/multi30k",
        vocabulary=4000,
        layers=4,
        width=128,
        feed_forward=256,
        dropout=0.1,
        batch_tokens=1024,
        updates=4000,
        best=BEST,
        paper={},
    ),
    "wmt16": TranslationPreset(
        title="WMT'16 English-German, Transformer (large)",
        data="wmt/wmt16",
        config="de-en",
        source="en",
        target="de",
        vocabulary=32_000,
        width=1024,
        heads=16,
        feed_forward=4096,
        batch_tokens=480_000,
        device_tokens=8192,
        updates=32_000,
        schedule="inverse-sqrt",
        beta2=(0.95, 0.98),
        best={"laprop": (1e-3, 0.0), "lamadam": (1.5e-3, 0.0)},
        paper={"laprop": (27.02, None), "lamadam": (27.11, None)},
    ),
    "demo": TranslationPreset(
        title="Numbers in words, German-English (a check that all works, not a benchmark)",
        data="demo",
        vocabulary=160,
        layers=2,
        width=128,
        feed_forward=256,
        dropout=0.1,
        batch_tokens=1024,
        updates=240,
        evaluations=4,
        beams=2,
        seeds=(1, 2),
        best={"laprop": BEST["laprop"], "lamadam": BEST["lamadam"]},
        paper={},
    ),
}
"""Section 5.2 and Appendix E. The paper has no Adam or MAdam here: they start from LaProp's and LaMAdam's values.
Multi30k's model has the shape that Wu et al. (2021, arXiv 2105.14462) found best for it; a run is seven epochs, which
nothing overfits, so dropout is lower than theirs."""


# ------------------------------------------------------------------------------------------------------------- the data


Pairs = tuple[list[str], list[str]]
"""Source and target sentences, of equal number."""


def read_lines(folder: Path, split: str, language: str) -> list[str]:
    """The sentences of one split in one language.

    Raises:
        UsageError: no such file, several, or one that is damaged or not in UTF-8.
    """
    found = sorted(p for p in folder.glob(f"{split}*") if p.name.removesuffix(".gz").endswith(f".{language}"))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise UsageError(f"--data {folder}: one file {split}*.{language} or {split}*.{language}.gz is needed; "
                         f"found {names}")  # fmt: skip
    opener = gzip.open if found[0].suffix == ".gz" else open
    try:
        with opener(found[0], "rt", encoding="utf-8", newline="\n") as stream:
            return [line.rstrip("\r\n") for line in stream]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"{found[0]} cannot be read: {error}") from None


def read_pairs(preset: TranslationPreset) -> dict[str, Pairs]:
    """`train`, `validation` and `test`.

    Raises:
        UsageError: data that cannot be read, or whose two sides differ in length.
    """
    languages = preset.source, preset.target
    if preset.data == "demo":
        numbers = np.random.default_rng(0).permutation(10_000).tolist()
        parts = {"train": numbers[:4000], "validation": numbers[4000:4200], "test": numbers[4200:4400]}
        words = {"de": german, "en": english}
        return {name: tuple([words[la](n) for n in part] for la in languages) for name, part in parts.items()}
    if (folder := Path(preset.data)).is_dir():
        prefixes = {"train": "train", "validation": "val", "test": "test"}
        pairs = {name: tuple(read_lines(folder, p, la) for la in languages) for name, p in prefixes.items()}
    else:
        try:
            loaded = datasets.load_dataset(preset.data, preset.config or None, revision=preset.revision)
            rows = {name: loaded[name] for name in ("train", "validation", "test")}
        except Exception as error:  # no network, no such name, no access: each has a class of its own
            raise hub_error(preset.data, error) from None
        if "translation" in rows["train"].column_names:
            rows = {name: part.flatten().rename_columns({f"translation.{la}": la for la in languages})
                    for name, part in rows.items()}  # fmt: skip
        pairs = {name: tuple(list(part[la]) for la in languages) for name, part in rows.items()}
    for name, (source, target) in pairs.items():
        if len(source) != len(target) or not source:
            raise UsageError(f"--data {preset.data}: {name} has {len(source)} {languages[0]} and {len(target)} "
                             f"{languages[1]} sentences")  # fmt: skip
    return pairs


def new_tokenizer() -> Tokenizer:
    """A byte-pair vocabulary yet to be learned, in which punctuation marks are subwords of their own."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def train_tokenizer(tokenizer: Tokenizer, sentences: Sequence[str], size: int) -> Tokenizer:
    """Learns the vocabulary, of both languages together."""
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(sentences, trainer, length=len(sentences))
    return tokenizer


class Corpus:
    """Sentence pairs as subwords."""

    def __init__(self, preset: TranslationPreset, accelerator: Accelerator, folder: Path) -> None:
        pairs = read_pairs(preset)
        both = [*pairs["train"][0], *pairs["train"][1]]
        untrained = new_tokenizer()
        made_of = [untrained.to_str(), str(preset.vocabulary), *both]
        path = folder / f"tokenizer-{digest(text.encode() for text in made_of)}.json"
        with accelerator.main_process_first():
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                scratch = path.with_suffix(f".{os.getpid()}")
                train_tokenizer(untrained, both, preset.vocabulary).save(str(scratch))
                scratch.replace(path)
        self.tokenizer = Tokenizer.from_file(str(path))
        self.preset, self.device = preset, accelerator.device
        encoded = [self.encode(side) for side in pairs["train"]]
        kept = [i for i, pair in enumerate(zip(*encoded, strict=True)) if max(map(len, pair)) <= LONGEST]
        self.source, self.target = ([side[i] for i in kept] for side in encoded)
        self.lengths = np.array([(len(t), len(s)) for s, t in zip(self.source, self.target, strict=True)])
        self.held = {name: pairs[name] for name in ("validation", "test")}
        read = digest(sentence.encode() for sides in pairs.values() for side in sides for sentence in [*side, ""])
        rows = {name: len(sides[0]) for name, sides in pairs.items()}
        self.contents = Contents(read, rows | {"train": len(kept)})

    def encode(self, sentences: Sequence[str]) -> list[np.ndarray]:
        return [np.array([*e.ids, EOS], dtype=np.int32) for e in self.tokenizer.encode_batch_fast(list(sentences))]

    def pad(self, rows: Sequence[np.ndarray], value: int) -> Tensor:
        """Sentences as one tensor (B, longest)."""
        return nn.utils.rnn.pad_sequence(
            [torch.from_numpy(row.astype(np.int64)) for row in rows], batch_first=True, padding_value=value
        ).to(self.device)

    def cut(self, tokens: int, at_least: int) -> list[slice]:
        """Where the sentences, sorted from long to short, are cut into turns of up to `tokens` tokens, padding
        included. The same for every order of sentences of equal length. Turns of fewer than `at_least` sentences, one
        for each process, are left out."""
        turns, begin, longest = [], 0, 0
        ordered = self.lengths[np.lexsort((-self.lengths[:, 1], -self.lengths[:, 0]))].max(axis=1).tolist()
        for i, length in enumerate(ordered):
            longest = max(longest, length)
            if longest * (i + 1 - begin) > tokens and i > begin:
                turns.append(slice(begin, i))
                begin, longest = i, length
        turns.append(slice(begin, len(ordered)))
        return [turn for turn in turns if turn.stop - turn.start >= at_least]

    def batches(self, seed: int, start: int, processes: int) -> Iterator[list[np.ndarray]]:
        """The turns (each an array of sentence indices) of every update from `start` on, for ever: sentences of about
        the same length together, the turns of an epoch in random order. A function of seed and update alone."""
        at_once = self.preset.device_tokens * processes or self.preset.batch_tokens
        together = max(1, self.preset.batch_tokens // at_once)
        turns = self.cut(min(at_once, self.preset.batch_tokens), processes)
        per_epoch = -(-len(turns) // together)
        for epoch in range(start // per_epoch, sys.maxsize):
            draw = np.random.default_rng((seed, epoch))
            ordered = np.lexsort((draw.permutation(len(self.lengths)), -self.lengths[:, 1], -self.lengths[:, 0]))
            shuffled = draw.permutation(len(turns))
            for k in range(start % per_epoch, per_epoch):
                yield [ordered[turns[i]] for i in shuffled[k * together : (k + 1) * together]]
            start = 0


# --------------------------------------------------------------------------------------------------------- the training


def build_model(preset: TranslationPreset, vocabulary: int, device: torch.device) -> MarianMTModel:
    """transformers' Marian with random weights: sinusoidal positions, layer norm after each block, one embedding for
    both languages and the output, as in the original Transformer.

    On a CPU torch's fused attention is slow in bfloat16: the plain one is a third faster on sentences of this length.
    """
    config = MarianConfig(
        vocab_size=vocabulary, d_model=preset.width, max_position_embeddings=4 * LONGEST,
        encoder_layers=preset.layers, decoder_layers=preset.layers,
        encoder_attention_heads=preset.heads, decoder_attention_heads=preset.heads,
        encoder_ffn_dim=preset.feed_forward, decoder_ffn_dim=preset.feed_forward,
        dropout=preset.dropout, activation_function="relu", scale_embedding=True, init_std=preset.width**-0.5,
        pad_token_id=PAD, eos_token_id=EOS, forced_eos_token_id=None, decoder_start_token_id=PAD,
    )  # fmt: skip
    config._attn_implementation = "eager" if device.type == "cpu" else "sdpa"
    model = MarianMTModel(config)
    model.generation_config.suppress_tokens = [PAD, UNKNOWN]
    return model


def learning_rate(preset: TranslationPreset, lr: float, update: int, total: int) -> float:
    """The learning rate of an update, counted from 0: the paper's stages (4k, 32k and 24k updates of 60k; 4k of 32k) as
    shares of the total."""
    if preset.schedule == "inverse-sqrt":
        done = 8 * (update + 1) / total
        return lr * min(done, done**-0.5)
    done = 60 * update / total
    if done < 4:
        return lr * (0.01 + 0.99 * done / 4)
    return lr * 0.01 ** (max(0.0, done - 36) / 24)


def loss_of(run: Run, corpus: Corpus, rows: np.ndarray) -> Tensor:
    """Sum over the target's subwords of the cross entropy with label smoothing."""
    source = corpus.pad([corpus.source[i] for i in rows], PAD)
    labels = corpus.pad([corpus.target[i] for i in rows], IGNORED)
    shifted = nn.functional.pad(labels[:, :-1].clamp(min=PAD), (1, 0), value=PAD)  # the decoder starts from PAD
    with run.autocast():
        logits = run.model(input_ids=source, attention_mask=source != PAD, decoder_input_ids=shifted).logits
    smoothing = corpus.preset.label_smoothing
    logits, labels = logits.flatten(0, 1).float(), labels.flatten()
    return nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing)


@torch.no_grad()
def bleu(run: Run, corpus: Corpus, split: str, beams: int) -> tuple[float, str]:
    """sacrebleu's BLEU on sentences as they are written (13a), and its signature; every process translates a share."""
    from sacrebleu import BLEU

    a, (source, target) = run.accelerator, corpus.held[split]
    model = a.unwrap_model(run.model).eval()
    mine = list(range(a.process_index, len(source), a.num_processes))
    encoded = dict(zip(mine, corpus.encode([source[i] for i in mine]), strict=True))
    mine.sort(key=lambda i: len(encoded[i]))
    translated: list[tuple[int, str]] = []
    for k in range(0, len(mine), 100):
        part = mine[k : k + 100]
        ids = corpus.pad([encoded[i][-4 * LONGEST :] for i in part], PAD)
        longest = min(2 * ids.shape[1] + 10, 4 * LONGEST - 1)
        out = model.generate(input_ids=ids, attention_mask=ids != PAD, num_beams=beams, do_sample=False,
                             max_new_tokens=longest)  # fmt: skip
        translated += zip(part, corpus.tokenizer.decode_batch(out.tolist()), strict=True)
    model.train()
    texts = [text for _, text in sorted(gather_object(translated))]
    metric = BLEU()
    return metric.corpus_score(texts, [target]).score, metric.get_signature().format()


def train(run: Run, corpus: Corpus) -> None:
    preset, seed, lr = corpus.preset, run.settings["seed"], run.settings["lr"]
    set_seed(seed)
    model = build_model(preset, corpus.tokenizer.get_vocab_size(), corpus.device)
    model, optimizer = run.start(model, preset.updates, lambda i: learning_rate(preset, lr, i, preset.updates))
    a, every = run.accelerator, max(1, preset.updates // preset.evaluations)
    batches = corpus.batches(seed, run.progress.update, a.num_processes)
    model.train()
    for update in run.updates():
        turns = next(batches)
        tokens = sum(int(corpus.lengths[rows, 0].sum()) for rows in turns)
        total = torch.zeros((), device=a.device)
        for k, rows in enumerate(turns):
            last = k + 1 == len(turns)
            with contextlib.nullcontext() if last else a.no_sync(model):
                loss = loss_of(run, corpus, rows[a.process_index :: a.num_processes]) * a.num_processes / tokens
                a.backward(loss)
            total += loss.detach()
        optimizer.step()
        optimizer.zero_grad()
        run.log(total, tokens)
        if (update + 1) % every == 0:
            run.evaluated("validation", bleu(run, corpus, "validation", beams=1)[0])
    scored = {split: bleu(run, corpus, split, preset.beams) for split in ("validation", "test")}
    run.finish({split: score for split, (score, _) in scored.items()}, signature=scored["test"][1])


def run_all(args: argparse.Namespace, preset: TranslationPreset, accelerator: Accelerator) -> None:
    if preset.width % preset.heads:
        raise UsageError(f"--width {preset.width} is not a multiple of --heads {preset.heads}")
    require("sacrebleu")
    corpus = Corpus(preset, accelerator, args.out)
    runs.search(args, preset, accelerator, corpus.contents, functools.partial(train, corpus=corpus))


def main(argv: Sequence[str] | None = None) -> int:
    return runs.main(__doc__, PRESETS, run_all, argv)


if __name__ == "__main__":
    sys.exit(main())
