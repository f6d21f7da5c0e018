"""`Config`: a frozen set of checked fields, and how its problems are told. Imports no torch."""

import math
import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from glue_mva.errors import UsageError, nearest, shortened


class Config(BaseModel):
    """A frozen set of checked fields; bad values raise `UsageError` with every problem in one line."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True,
                              allow_inf_nan=False, protected_namespaces=())  # fmt: skip

    def __init__(self, /, **values: Any) -> None:  # so that a file's key may be called self, and be refused
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UsageError("; ".join(describe(error, type(self)))) from None

    def replace(self, **values: Any) -> Self:
        """A copy with some fields changed, checked again."""
        return type(self)(**{**dict(self), **values})


def describe(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """The problems that pydantic found, as a user wants to read them: key, what is wrong, value."""
    problems: dict[str, list[str]] = {}
    shown: dict[str, str] = {}
    missing: list[str] = []
    for found in error.errors():
        key = ".".join(str(part) for part in found["loc"] if not _is_branch(part))
        if found["type"] == "missing":
            missing.append(key)
            continue
        problems.setdefault(key, [])
        if found["type"] == "extra_forbidden":
            problems[key].append(f"unknown key {key!r}{nearest(key, model.model_fields)}")
        elif found["type"] == "value_error":
            problems[key].append(str(found["ctx"]["error"]))
        else:
            shown[key] = shortened(repr(found["input"]))
            if isinstance(found["input"], str) and is_number(found["input"]):
                shown[key] += ": write the number without quotes"
            problems[key].append(found["msg"][0].lower() + found["msg"][1:])
    said = [f"{key}: {' or '.join(words)}, got {shown[key]}" if key in shown else "; ".join(words)
            for key, words in problems.items()]  # fmt: skip
    return said + ([f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"] if missing else [])


def _is_branch(part: str | int) -> bool:
    """Whether pydantic put this into a problem's place to say which type of several it tried."""
    return isinstance(part, str) and ("[" in part or part.startswith("constrained-") or part in ("float", "int"))


def is_number(text: str) -> bool:
    """Whether a text is a finite number in quotes."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def merged(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Keys of a file with others over them; tables (`run`, `optim_args`) are merged.

    Raises:
        UsageError: a table for a key that has a plain value.
    """
    both = dict(values)
    for key, value in overrides.items():
        before = both.get(key, {})
        if isinstance(value, dict) and not isinstance(before, dict):
            raise UsageError(f"{key} = {before!r} is no table, so {value!r} cannot go over it")
        both[key] = {**before, **value} if isinstance(value, dict) else value
    return both


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        UsageError: no such file, or not TOML; names the file (and the line, where it is not TOML).
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number of 5,000 digits, 1,000 levels deep
        raise UsageError(f"{path}: not a TOML file: {error}") from None
