"""Strict, frozen sections of params.yaml, and errors that say where and how to mend.

Each room owns its own section (a subclass of `Section` beside the code that reads it); here are only the mechanics,
and the one section that every stage reads: `Run`.
"""

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.error import MarkedYAMLError

S = TypeVar("S", bound=BaseModel)
_LONG = 1000  # characters of a message


class Section(BaseModel):
    """A frozen, keyword-only, complete part of the parameters. Unknown keys and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Run(Section):
    """How everything runs. Each of these changes floating-point sums, so each is a parameter."""

    mode: Literal["exact", "fast"]
    """exact: deterministic algorithms, the same bytes on every rebuild. fast: autotuning and the quickest kernels."""
    device: Literal["cpu", "cuda"]
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of activations and products on a GPU. Weights, their averages, sums and losses stay float32 either way."""
    threads: int = Field(ge=1)
    """CPU threads of one process."""
    instructions: Literal["avx2", "native"]
    """avx2: cap the CPU's instruction set (4-12 % slower), one of the reasons why CPUs give different bytes. Those of
    two makes, such as Intel's and AMD's, do so even with the same cap: libraries block their sums by caches too."""

    @model_validator(mode="after")
    def _half_on_a_gpu(self) -> "Run":
        if self.precision == "bfloat16" and self.device == "cpu":
            raise ValueError("precision: bfloat16 is for device: cuda; a CPU is slower with it")
        return self


def load(path: Path | str = "params.yaml") -> dict[str, Any]:
    """The parameters as plain Python values, numbers read as DVC reads them (YAML 1.2: 1e-4 is a number)."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(
            f"{path}: not found in {Path.cwd()}; go to the project's folder, or start there from one of presets/*.yaml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    try:
        values = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{path}{line}: not valid YAML: {shown(str(error.problem))}") from None
    except RecursionError:
        raise ValueError(f"{path}: not valid YAML: lists or tables lie in one another too deeply") from None
    except (YAMLError, ValueError) as error:  # ruamel's own for a number or a date that is none
        raise ValueError(f"{path}: not valid YAML: {shown(str(error))}") from None
    if not isinstance(values, dict):
        raise ValueError(
            f"{path}: expected a table of sections, found {'nothing' if values is None else reprlib.repr(values)[:40]}"
        )
    return values


def lookup(values: Mapping[str, Any], place: str, *, file: str = "params.yaml") -> Any:
    """The value at the dotted `place`, or a ValueError of one line with the nearest name that is there."""
    node: Any = values
    walked: list[str] = []
    for key in place.split("."):
        if not isinstance(node, Mapping) or key not in node:
            known = list(node) if isinstance(node, Mapping) else []
            where = ".".join(walked) or "the top level"
            raise ValueError(_placed(file, where, f"no entry '{key}'{_nearest(key, known)}"))
        node = node[key]
        walked.append(key)
    return node


def section(values: Mapping[str, Any], cls: type[S], place: str, *, file: str = "params.yaml") -> S:
    """The section at the dotted `place`, checked against `cls`.

    >>> section(load(), Diffusion, "diffusion.text-f4")

    Raises ValueError with one line, e.g.
    `params.yaml: diffusion.text-f4.unet: unknown key 'widht', did you mean 'width'?`
    """
    return check(lookup(values, place, file=file), cls, place, file=file)


def check(values: Any, cls: type[S], place: str, *, file: str = "params.yaml") -> S:
    """`values` as a `cls`, or a ValueError of one line that names `file` and the place in it."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise ValueError(_one_line(error, cls, values, place, file)) from None
    except OverflowError as error:  # of a validator that reckons with what it was given
        raise ValueError(_placed(file, place, f"a number is too large ({error})")) from None
    except UnicodeEncodeError as error:
        raise ValueError(_placed(file, place, f"the text {error.object!a:.60} is not Unicode")) from None


def nested(values: Any, cls: type[S]) -> S:
    """For validators whose class depends on another key: errors are relative to the place that pydantic adds itself."""
    return values if isinstance(values, cls) else check(values, cls, "", file="")


def _one_line(error: ValidationError, cls: type[BaseModel], values: Any, place: str, file: str) -> str:
    # The first unknown key explains most of what follows it (a missing key is often the same one, misspelt).
    details = error.errors()
    first = next((d for d in details if d["type"] == "extra_forbidden"), details[0])
    keys = [str(key) for key in _in_file(first["loc"], values)]
    if first["type"] == "extra_forbidden":
        parent, key = ".".join([place, *keys[:-1]]), keys[-1]
        present = _at(values, keys[:-1])
        siblings = [k for k in _fields_at(cls, first["loc"][:-1]) if k not in present]
        return _placed(file, parent, f"unknown key '{key}'{_nearest(key, siblings)}")
    where = ".".join([place, *keys])
    if first["type"] == "missing":
        return _placed(file, where, "missing")
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    found = first.get("input")
    shown = "" if isinstance(found, Mapping | Sequence) and not isinstance(found, str) else f", found {found!r}"
    return _placed(file, where, f"{message}{shown}")


def _placed(file: str, where: str, message: str) -> str:
    return shown(": ".join(part for part in (file, where.strip("."), message) if part))


def shown(text: str) -> str:
    r"""`text` as a message can quote it: on one line, what cannot be printed escaped, of very much its two ends.

    >>> shown("two\nlines and a bell\x07")
    'two lines and a bell\\x07'
    """
    if len(text) > _LONG:
        text = f"{text[: _LONG // 2]} ... {text[-_LONG // 4 :]}"
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in line)


def _in_file(loc: tuple[int | str, ...], values: Any) -> list[int | str]:
    """`loc` without the tags that pydantic inserts for the members of a union, which are not in the file."""
    keys: list[int | str] = []
    node = values
    for position, key in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(node, Mapping):
            if key in node:
                node = node[key]
            elif not last:
                continue
        elif isinstance(node, Sequence) and not isinstance(node, str) and isinstance(key, int):
            node = node[key] if key < len(node) else None
        else:
            continue
        keys.append(key)
    return keys


def _at(values: Any, keys: Sequence[str]) -> list[str]:
    node = values
    for key in keys:
        node = node[int(key)] if isinstance(node, list) else node[key]
    return [str(key) for key in node] if isinstance(node, Mapping) else []


def _fields_at(cls: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the keys that the section at `loc` below `cls` knows; every member of a union counts."""
    classes = _sections(cls)
    for key in loc:
        inner = [c.model_fields[str(key)].annotation for c in classes if key in c.model_fields]
        if inner:
            classes = [c for annotation in inner for c in _sections(annotation)]
    return sorted({name for c in classes for name in c.model_fields})


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        return _sections(annotation.model_fields["root"].annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [c for argument in getattr(annotation, "__args__", ()) for c in _sections(argument)]


def _nearest(key: str, known: Sequence[Any]) -> str:
    near = difflib.get_close_matches(key, [str(k) for k in known], n=1, cutoff=0.6)
    if near:
        return f", did you mean '{near[0]}'?"
    return f" (there is: {', '.join(str(k) for k in known)})" if known else ""
