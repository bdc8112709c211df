"""`ldm import`: models that were trained elsewhere."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

EXAMPLES = """Examples:

- `ldm import model.ckpt --as cin256 --params presets/paper.yaml`

- `ldm import model.ckpt --as txt2img-1p4b --params presets/paper.yaml --vocabulary vocab.txt --name released`

- `ldm import exported/`, a folder that `ldm export` wrote"""


def import_(
    checkpoint: Annotated[
        Path, Argument(help="A file of weights as released, or a folder as diffusers has it.", metavar="CHECKPOINT")
    ],
    row: Annotated[
        str | None, Option("--as", help="The row of diffusion or autoencoders in params that it is.", metavar="ROW")
    ] = None,
    params: Annotated[Path, Option(help="A file of parameters with that row.")] = Path("params.yaml"),
    name: Annotated[str | None, Option(help="What the model's folder is called.  [default: as the row]")] = None,
    vocabulary: Annotated[Path | None, Option(help="The vocab.txt of a model that is told texts.")] = None,
    models: Annotated[Path, Option(help="Where models are.")] = Path("models"),
) -> None:
    """Make models/diffusion/NAME and models/autoencoders/NAME of weights that were trained elsewhere.

    The row says the architecture; every tensor in the file must fit it. What was read and left out is said.
    """
    from ldm.cli.bar import bar
    from ldm.config import load
    from ldm.interop.diffusers_import import import_diffusers
    from ldm.interop.importing import import_checkpoint

    values = load(params) if row is not None else {}
    if checkpoint.is_dir():
        records = import_diffusers(
            checkpoint, row, values, models, params_file=str(params), name=name, vocabulary=vocabulary
        )
    elif row is None:
        raise ValueError(f"{checkpoint}: of which row of {params}? say --as ROW")
    else:
        records = import_checkpoint(
            checkpoint, row, values, models, params_file=str(params), name=name, vocabulary=vocabulary
        )
    notes: list[str] = []
    with bar("importing", 2, "files") as advance:
        for progress in records:
            notes += progress.notes
            if progress.done:
                advance()
    for note in notes:
        typer.echo(note)
