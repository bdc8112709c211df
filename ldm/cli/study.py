"""`ldm study`: how many raters, other platforms' formats, and from answers to table 4 of the paper."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from ldm.cli import serving

if TYPE_CHECKING:
    from rich.console import Console

    from ldm.study.scoring import Score, Share

SCORE = """Examples:

- `ldm study score studies/super-resolution/key.json answers/*.json`

- `ldm study score KEY ANSWERS --json studies/super-resolution/preferences.json`, which the report then shows

- `ldm study score studies/super-resolution/key.json answers.db --parquet answers.parquet`"""
POWER = """Examples:

- `ldm study power --difference 0.6 --trials 20`

- `ldm study power super-resolution --difference 0.6`, with the trials of that row of studies

- `ldm study power --difference 0.55 --trials 40 --design-effect 2.1`, as an earlier study's score says it"""
CONVERT = """Examples:

- `ldm study convert studies/super-resolution --to csv --url https://example.org/study --out batches`

- `ldm study convert studies/super-resolution --to jspsych --url https://example.org/study --out jspsych`"""

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Ask people which pictures they prefer.")


app.command("serve", epilog=serving.EXAMPLES)(serving.serve)


@app.command("score", epilog=SCORE)
def score(
    key: Annotated[Path, Argument(help="key.json of the study, written beside its public/ folder.")],
    answers: Annotated[
        list[Path],
        Argument(help="Files that raters sent, the server's database, results of Label Studio or Mechanical Turk."),
    ],
    json: Annotated[
        Path | None, Option(help="Also write the figures to this file; the report shows studies/NAME/preferences.json.")
    ] = None,
    parquet: Annotated[Path | None, Option(help="Also write every answer to this file.")] = None,
) -> None:
    """How often each model was preferred to the original (task 1) and to the other model (task 2)."""
    from rich.console import Console

    from ldm.files import write_json
    from ldm.study import scoring

    result = scoring.score(key, answers)
    show(result, Console())
    if json:
        write_json(json, scoring.figures(result))
    if parquet:
        scoring.write_parquet(parquet, key, answers)


@app.command("power", epilog=POWER)
def power(
    name: Annotated[str | None, Argument(help="A row of studies in params.yaml, for its trials.")] = None,
    difference: Annotated[float, Option(help="The share of answers for the preferred one, to be told from 0.5.")] = 0.6,
    trials: Annotated[int | None, Option(help="Pairs of one comparison that a rater sees.")] = None,
    power: Annotated[float, Option(help="The part of studies that are to find the difference.")] = 0.8,
    design_effect: Annotated[
        float | None, Option(help="As a score of an earlier study says it, in place of the two likenesses.")
    ] = None,
    raters_alike: Annotated[float, Option(help="Correlation of two answers of one rater.")] = 0.1,
    pictures_alike: Annotated[float, Option(help="Correlation of two answers to one pair.")] = 0.05,
    params: Annotated[Path, Option(help="Where NAME stands.")] = Path("params.yaml"),
) -> None:
    """How many raters tell a preference from none, before the study is exported."""
    from ldm.study.power import raters_needed

    if (name is None) == (trials is None):
        raise ValueError("say either a row of studies or --trials")
    count = trials if trials is not None else _trials(name, params)
    needed = raters_needed(
        difference,
        count,
        wanted=power,
        effect=design_effect,
        raters_alike=raters_alike,
        pictures_alike=pictures_alike,
    )
    even = -(-needed // 6) * 6
    typer.echo(
        f"{needed} raters with {count} pairs of a comparison each tell {difference:g} from 0.5 in {power:.0%} of "
        f"studies (two-sided, 5 %). Ask {even}, so that each of the 6 lists is answered equally often, and more for "
        "those who fail the attention checks."
    )


@app.command("convert", epilog=CONVERT)
def convert(
    study: Annotated[Path, Argument(help="The folder studies/NAME, or its public folder.")],
    to: Annotated[str, Option(help="label-studio, csv (Mechanical Turk, Prolific) or jspsych.")],
    url: Annotated[str, Option(help="Where the public folder can be seen on the web.")],
    out: Annotated[Path, Option(help="An empty folder, or one that is made.")],
    raters: Annotated[int, Option(help="For so many raters, each a sheet.", min=1)] = 36,
) -> None:
    """The study as tasks for another platform; `ldm study score` reads what comes back."""
    from ldm.study import formats

    for path in formats.convert(study, to, url, out, raters):
        typer.echo(str(path))


def _trials(name: str | None, params: Path) -> int:
    from ldm.config import load, section
    from ldm.study.config import Study

    return section(load(params), Study, f"studies.{name}", file=str(params)).trials


def show(result: "Score", console: "Console") -> None:
    """Print the preferences, how sure they are, and, below them, who answered."""
    from rich.table import Table

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
    console.print(_sureness(result))
    console.print(_raters(result))
    left_out = (
        f"{result.counted} of {result.counted + result.left_out} raters counted; {result.left_out} left out, who got "
        f"less than {100 * result.catch_pass:g} % of the attention checks right."
    )
    console.print(left_out, highlight=False)
    if result.unfinished:
        console.print(f"{result.unfinished} began and did not finish: not counted.", highlight=False)


def _sureness(result: "Score") -> Any:
    from rich.table import Table

    table = Table(title="How sure it is", title_justify="left")
    for column in ("comparison", "raters for : against", "sign test p", "agreement (alpha)", "design effect"):
        table.add_column(column, justify="left" if column == "comparison" else "right")
    for words, share in (
        (f"{result.first} over the original", result.first_over_original),
        (f"{result.second} over the original", result.second_over_original),
        (f"{result.first} over {result.second}", result.first_over_second),
    ):
        alpha = "-" if share.agreement is None else f"{share.agreement:.2f}"
        signs = f"{share.raters_for} : {share.raters_against}"
        table.add_row(words, signs, f"{share.p:.2g}", alpha, f"{share.design_effect:.2f}")
    return table


def _raters(result: "Score") -> Any:
    from rich.table import Table

    table = Table(title="Raters", title_justify="left")
    for column in ("rater", "attention checks", "median answer", "pairs seen again", ""):
        table.add_column(column, justify="left" if column in ("rater", "") else "right")
    for rater in result.raters:
        table.add_row(
            rater.name,
            f"{rater.right} of {rater.checks}",
            f"{rater.seconds:.1f} s",
            str(rater.seen_again),
            "counted" if rater.counted else "left out",
        )
    return table


def _cell(share: "Share") -> str:
    # The bracket is escaped: rich would take it for markup.
    return f"{100 * share.share:.1f} \\[{100 * share.low:.1f}, {100 * share.high:.1f}]"
