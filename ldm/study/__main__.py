"""`python -m ldm.study score`: from a key and the raters' files to table 4 of the paper."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ldm.files import write_json
from ldm.study.scoring import Score, Share, score

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="markdown")


@app.callback()
def study() -> None:
    """Preference studies."""


@app.command(
    "score",
    epilog="""Examples:

- `python -m ldm.study score studies/super-resolution/key.json answers/*.json`

- `python -m ldm.study score studies/super-resolution/key.json answers/*.json --json preferences.json`""",
)
def score_command(
    key: Annotated[Path, typer.Argument(help="key.json of the study, written beside its public/ folder.")],
    answers: Annotated[list[Path], typer.Argument(help="The files that the raters sent, any number of them.")],
    json: Annotated[Path | None, typer.Option(help="Also write the figures to this file.")] = None,
) -> None:
    """How often each model was preferred to the original (task 1) and to the other model (task 2)."""
    try:
        result = score(key, answers)
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    show(result, Console())
    if json:
        write_json(json, asdict(result))


def show(result: Score, console: Console) -> None:
    """Print the preferences and, below them, who answered."""
    table = Table(title=f"Study {result.study}: preference, % [95 % interval]", title_justify="left")
    table.add_column("")
    for name in (result.first, result.second):
        table.add_column(name, justify="right")
    table.add_column("answers", justify="right")
    task_1, task_2 = (result.first_over_original, result.second_over_original), result.first_over_second
    table.add_row(
        "Task 1: over the original", *(_cell(share) for share in task_1), " + ".join(str(s.answers) for s in task_1)
    )
    table.add_row("Task 2: over each other", _cell(task_2), _cell(task_2.other), str(task_2.answers))
    console.print(table)

    raters = Table(title="Raters", title_justify="left")
    for column in ("rater", "attention checks", "median answer", "pairs seen again", ""):
        raters.add_column(column, justify="left" if column in ("rater", "") else "right")
    for rater in result.raters:
        raters.add_row(
            rater.name,
            f"{rater.right} of {rater.checks}",
            f"{rater.seconds:.1f} s",
            str(rater.seen_again),
            "counted" if rater.counted else "left out",
        )
    console.print(raters)


def _cell(share: Share) -> str:
    # The bracket is escaped: rich would take it for markup.
    return f"{100 * share.share:.1f} \\[{100 * share.low:.1f}, {100 * share.high:.1f}]"


if __name__ == "__main__":
    app(prog_name="python -m ldm.study")
