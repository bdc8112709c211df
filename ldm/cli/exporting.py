"""`ldm export`: our models for others' code."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from ldm.cli.options import Model

EXAMPLES = """Examples:

- `ldm export celeba256 exported`

- `ldm export models/autoencoders/vq-f4 exported-vq-f4 --format diffusers`

A model narrower than 128 channels is trained with norm_groups (docs/interop.md), else diffusers cannot express it."""


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
    from ldm.cli.bar import bar
    from ldm.cli.models import find_with_first_stage
    from ldm.interop.diffusers_export import export_diffusers

    folder, coder = find_with_first_stage(model, autoencoder)
    with bar("exporting", 1, "models") as advance:
        lines = export_diffusers(folder, out, autoencoder=coder, averaged=not raw)
        advance()
    for line in lines:
        typer.echo(line)
