"""The command line `ldm`: draw with trained models, bring models in and out. Heavy imports wait inside commands."""

import typer

from ldm.cli import colorize, exporting, importing, inpaint, reconstruct, sample, study, upscale
from ldm.cli.mistakes import Commands

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    help="Draw with latent diffusion models, and bring models in and out. `ldm COMMAND --help` has examples.",
)

app.command("sample", epilog=sample.EXAMPLES)(sample.sample)
app.command("upscale", epilog=upscale.EXAMPLES)(upscale.upscale)
app.command("inpaint", epilog=inpaint.EXAMPLES)(inpaint.inpaint)
app.command("colorize", epilog=colorize.EXAMPLES)(colorize.colorize)
app.command("reconstruct", epilog=reconstruct.EXAMPLES)(reconstruct.reconstruct)
app.command("import", epilog=importing.EXAMPLES)(importing.import_)
app.command("export", epilog=exporting.EXAMPLES)(exporting.export)
app.add_typer(study.app, name="study")
