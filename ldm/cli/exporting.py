"""`ldm export`: our models for others' code."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from ldm.cli.options import Model

EXAMPLES = """Examples:

- `ldm export text-f4 exported`

- `ldm export models/autoencoders/kl-f4 exported-kl-f4 --format diffusers`"""


class Format(StrEnum):
    diffusers = "diffusers"


def export(
    model: Model,
    out: Annotated[Path, Argument(help="The folder to write, which is not there yet.", metavar="OUT")],
    format: Annotated[Format, Option(help="Whose from_pretrained is to read it.")] = Format.diffusers,
    autoencoder: Annotated[
        str | None, Option(help="Its first stage, a folder or name.  [default: that of its config.json, beside it]")
    ] = None,
    raw: Annotated[bool, Option("--raw", help="The last weights of the training instead of their average.")] = False,
) -> None:
    """Write a model, with its first stage, as a folder that diffusers loads.

    MODEL may be a first stage too.
    """
    from ldm.cli.models import find_with_first_stage
    from ldm.interop.diffusers_export import export_diffusers

    folder, coder = find_with_first_stage(model, autoencoder)
    for line in export_diffusers(folder, out, autoencoder=coder, averaged=not raw):
        typer.echo(line)
