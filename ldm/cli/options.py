"""Options that several commands share, each group a dataclass; nothing heavy is imported here."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from typer import Argument, Option


class Sampler(StrEnum):
    ddim = "ddim"
    ddpm = "ddpm"
    plms = "plms"
    dpm_solver = "dpm_solver"


class Spacing(StrEnum):
    even = "even"
    released = "released"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Model = Annotated[str, Argument(help="A model's folder, or its name in models/diffusion.", metavar="MODEL")]
Pictures = Annotated[
    list[Path], Argument(help="Pictures, or folders of pictures: each of any size.", metavar="PICTURE...")
]
Overwrite = Annotated[bool, Option("--overwrite", help="Write over pictures that are there.")]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a model is told in words, classes and boxes."""

    prompt: Annotated[list[str] | None, Option(help='A text, any number of times; "" for none.')] = None
    prompts: Annotated[Path | None, Option(help="A file of texts, one a line.")] = None
    label: Annotated[list[str] | None, Option(help='A class by name or number, any number of times; "" for none.')] = (
        None
    )
    layout: Annotated[
        list[Path] | None,
        Option(help='JSON of boxes in parts of the picture: [{"category": "dog", "box": [x, y, width, height]}, ...].'),
    ] = None
    like: Annotated[
        list[Path] | None, Option(help="A picture to vary, for models that are told CLIP's embedding of one.")
    ] = None
    clip_weights: Annotated[
        Path | None, Option(help="The CLIP of such a model, or of --guide-kind clip: a folder of data/weights.")
    ] = None


TILE = 512
Tile = Annotated[int, Option(min=32, help="Encode and decode larger pictures in squares of so many pixels.")]


@dataclass(frozen=True, kw_only=True)
class How:
    """How pictures are drawn."""

    count: Annotated[int, Option(min=1, help="Pictures of each.")] = 1
    batch: Annotated[int, Option(min=1, help="Pictures at once.")] = 4
    seed: Annotated[int, Option(min=0, help="Of the first picture; the next have the next ones.")] = 0
    sampler: Annotated[Sampler, Option(help="How noise is taken away.")] = Sampler.ddim
    steps: Annotated[
        int | None, Option(min=1, help="Of the sampler; not for ddpm, which takes all.  [default: 50]")
    ] = None
    eta: Annotated[
        float | None, Option(min=0, max=1, help="Noise of ddim: 0 none, 1 as much as ddpm.  [default: 0]")
    ] = None
    spacing: Annotated[Spacing, Option(help="Of the steps of ddim and plms; released: as the authors' code.")] = (
        Spacing.even
    )
    guidance: Annotated[
        float | None,
        Option(min=0, help="Scale of classifier-free guidance; 1 is none.  [default: 3 where trained for, else 1]"),
    ] = None
    patches: Annotated[
        int | None, Option(min=1, help="Denoise in squares of so many pixels, where the whole does not fit in memory.")
    ] = None
    overlap: Annotated[int | None, Option(min=0, help="Pixels that squares share.  [default: a quarter]")] = None
    tile: Tile = TILE
    snapshot: Annotated[int | None, Option(min=1, help="The weights kept at this step of training.")] = None
    autoencoder: Annotated[
        str | None, Option(help="Its first stage, a folder or name.  [default: that of its config.json, beside it]")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Where:
    """On what, and to where."""

    out: Annotated[Path, Option(help="The folder that pictures are written to.")] = Path("out")
    overwrite: Overwrite = False
    device: Annotated[Device, Option(help="auto: a GPU where there is one.")] = Device.auto


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """`command` as typer is to see it: a parameter that is one of these dataclasses becomes an option a field."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}
    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            inner = get_type_hints(groups[name], include_extras=True)
            parameters += [
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=inner[field.name]
                )
                for field in fields(groups[name])
            ]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))

    @wraps(command)
    def called(**given: Any) -> None:
        built = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**given, **built)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called
