"""A user's mistake is one line on stderr and exit code 1, never a traceback."""

from typing import Any

import typer
from typer.core import TyperGroup


class Commands(TyperGroup):
    """Commands whose ValueErrors and OSErrors are told in their own words."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError) as error:
            typer.echo(f"ldm {ctx.invoked_subcommand}: {told(error)}", err=True)
            raise typer.Exit(1) from None


def told(error: Exception) -> str:
    """What it says, on one line; of the system's errors, the file before the reason."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
