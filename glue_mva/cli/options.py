"""What several commands share: options, options made from the fields of a config class (name, type, choices and help
text are the field's), and the command as it was typed."""

import functools
import inspect
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from glue_mva.config.base import Config
from glue_mva.config.run import toml_or_text

Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any key, as TOML: --set optim_args.eps=1e-8; may be repeated."),
]
RowName = Annotated[str | None, typer.Option(help="Only runs of this row of the table, such as lamadam.")]
SweepFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="The sweep's file, or its name: says which runs searched and which are final. By "
                 "default the one that the sweep left in RUNS."),
]  # fmt: skip
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Only runs whose config has this value; may be given several times."),
]


def with_fields(
    model: type[Config],
    names: Iterable[str] | None = None,
    *,
    into: str = "given",
    helps: Mapping[str, str] | None = None,
    defaults: Mapping[str, str] | None = None,
    hidden: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for every field of a config class.

    The command gets what was given as a dictionary, field -> value, not yet checked. That is the class's business, so
    that a bad value is told in the same words wherever it comes from. Tables have no option.

    Args:
        names: fields, in place of all.
        into: the command's parameter that gets the dictionary.
        helps: field -> help text, in place of its docstring.
        defaults: field -> what stands for its value where nothing is given.
        hidden: leave the options out of the command's help.
    """
    chosen = [name for name in (names or model.model_fields) if not _is_table(model.model_fields[name])]
    parameters = [_parameter(n, model.model_fields[n], (helps or {}).get(n), (defaults or {}).get(n), hidden)
                  for n in chosen]  # fmt: skip

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        before = inspect.signature(command, eval_str=True)
        own = [p for name, p in before.parameters.items() if name != into]

        @functools.wraps(command)
        def with_options(**values: Any) -> None:
            found = {name: values.pop(name) for name in chosen}
            given = {name: _value(model.model_fields[name], v) for name, v in found.items() if v is not None}
            command(**values, **{into: given})

        with_options.__signature__ = before.replace(parameters=own + parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {p.name: p.annotation for p in own + parameters}
        return with_options

    return decorate


def _parameter(name: str, info: FieldInfo, text: str | None, default: str | None, hidden: bool) -> inspect.Parameter:
    said = " ".join((text or info.description or "").split())
    if default is not None:
        said += f" [default: {default}]"
    flag = "--" + name.replace("_", "-")
    if info.annotation is bool or bool in get_args(info.annotation):
        annotation: Any = Annotated[bool | None, typer.Option(f"{flag}/--no-{flag[2:]}", help=said, hidden=hidden)]
    else:
        option = typer.Option(flag, metavar=_metavar(info.annotation), help=said, hidden=hidden)
        annotation = Annotated[str | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _types(annotation: Any) -> list[Any]:
    """The types that a field takes, unions and annotations taken apart; choices as their words."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _types(get_args(annotation)[0])
    if origin is Literal:
        return list(get_args(annotation))
    if origin is list or origin is dict:
        return [origin]
    parts = get_args(annotation)
    return [found for part in parts for found in _types(part)] if parts else [annotation]


def _is_table(info: FieldInfo) -> bool:
    """Whether a field takes a table, or a list of them."""
    return dict in _types(info.annotation) or any(get_origin(part) is dict for part in get_args(info.annotation))


def _metavar(annotation: Any) -> str:
    names = {str: "TEXT", int: "INTEGER", float: "FLOAT", list: "A,B,..."}
    return "|".join(names.get(found, str(found)) for found in _types(annotation) if found is not type(None))


def _value(info: FieldInfo, text: Any) -> Any:
    """What a field's option says: TOML where the field takes anything but words."""
    types = _types(info.annotation)
    if not isinstance(text, str) or str in types:
        return text
    if list in types:
        return [toml_or_text(word) for word in text.split(",") if word.strip()]
    return toml_or_text(text)


def typed_command() -> str:
    """The command line of this process, to be repeated, or to stand on a page that it made."""
    return shlex.join(["glue-mva", *sys.argv[1:]])
