"""Stage report: one page that opens anywhere, offline, with all that a run made; its plots lie beside it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ldm.files import fresh_folder, write_bytes, write_manifest
from ldm.progress import Progress
from ldm.report import costs, figures, first_stages, paper, plots, sections, tradeoffs
from ldm.report.album import Album, embedded
from ldm.report.charts import Chart, Grid, draw_chart, draw_grid
from ldm.report.collect import Results, collect
from ldm.report.names import plain
from ldm.report.records import open_picture
from ldm.report.tasks import tasks

TEMPLATES = Path(__file__).parent / "templates"

AUTOENCODER_ROWS = {
    "kind": "Regularisation",
    "dataset": "Trained on",
    "model.channels": "Channels",
    "model.channel_mult": "Channel multipliers",
    "model.num_res_blocks": "Residual blocks a level",
    "model.latent_channels": "Latent channels",
    "loss.kl_weight": "KL weight",
    "loss.perceptual_weight": "Perceptual weight",
    "loss.adversarial_weight": "Adversarial weight",
    "loss.adversarial_start": "Adversarial from step",
    "train.steps": "Training steps",
    "train.batch": "Batch",
    "train.lr": "Learning rate",
    "train.ema": "EMA",
}
DIFFUSION_ROWS = {
    "autoencoder": "First stage",
    "latents": "Latents",
    "init_from": "Starts from",
    "condition.tokens.kind": "Tokens",
    "condition.tokens.drop": "Tokens dropped",
    "condition.channels.kind": "Channels",
    "condition.channels.drop": "Channels dropped",
    "objective": "Objective",
    "unet.channels": "UNet channels",
    "unet.channel_mult": "Channel multipliers",
    "unet.attention_factors": "Attention at factors",
    "schedule.kind": "Schedule",
    "schedule.steps": "Noise levels",
    "schedule.beta_start": "First beta",
    "schedule.beta_end": "Last beta",
    "scale": "Latent scale",
    "train.steps": "Training steps",
    "train.batch": "Batch",
    "train.lr": "Learning rate",
    "train.loss": "Loss",
    "train.ema": "EMA",
}


def build(root: Path, out: Path) -> Iterator[Progress]:
    """Write `out`/index.html, which needs nothing else, `out`/plots/*.png, `out`/pictures/*.png and the manifest.

    The bytes are a function of the files below `root` that stages wrote. What has not been made is left out; a broken
    file is a ValueError.
    """
    parts = 4
    results, album = collect(root), Album()
    yield Progress(done=1, total=parts, unit="parts")
    shown = _shown(results, album)
    yield Progress(done=2, total=parts, unit="parts")
    plotted = _plots(results, shown["charts"], shown["grids"])
    yield Progress(done=3, total=parts, unit="parts")
    page = _page(shown, plotted)
    fresh_folder(out)
    for name, content in plotted.items():
        write_bytes(out / "plots" / f"{name}.png", content)
    for path, content in album.files.items():
        write_bytes(out / path, content)
    write_bytes(out / "index.html", page.encode())
    write_manifest(out)
    yield Progress(done=4, total=parts, unit="parts")


def _shown(results: Results, album: Album) -> dict[str, Any]:
    """What the templates show, by the names they know it by."""
    coders, diffusion = list(results.autoencoders.values()), list(results.diffusion.values())
    table_8 = first_stages.table_8(results)
    tables = [*paper.paper_tables(results), *([table_8] if table_8 else [])]
    return {
        "results": results,
        "headlines": sections.headlines(results),
        "data": sections.data(results, album),
        "autoencoders": [sections.model_view(model, "autoencoder", album) for model in coders],
        "autoencoder_settings": sections.settings(coders, AUTOENCODER_ROWS),
        "autoencoder_figures": sections.autoencoder_table(results),
        "health": {one.name: figures.health(one) for one in results.autoencoder_metrics.values()},
        "diffusion": [sections.model_view(model, "diffusion", album) for model in diffusion],
        "diffusion_settings": sections.settings(diffusion, DIFFUSION_ROWS),
        "tasks": tasks(results, album),
        "tables": sorted(tables, key=lambda table: table.number),
        "charts": tradeoffs.charts(results),
        "grids": tradeoffs.grids(results),
        "costs": costs.costs(results),
        "untimed": costs.untimed(results),
        "studies": [sections.study(study) for study in results.studies.values()],
    }


def _plots(results: Results, charts: Sequence[Chart], grids: Sequence[Grid]) -> dict[str, bytes]:
    """Every curve, chart and grid in ink for light paper, and as NAME-dark for a dark screen."""
    drawn = {}
    for end, theme in (("", plots.LIGHT), ("-dark", plots.DARK)):
        for kind, models in (("autoencoder", results.autoencoders), ("diffusion", results.diffusion)):
            for model in models.values():
                for scalar in plots.scalars_to_draw(list(model.history)):
                    title, points = scalar.replace("_", " "), model.history[scalar]
                    drawn[f"{kind}-{model.name}-{scalar}{end}"] = plots.curve(points, title, theme)
        drawn |= {f"{chart.name}{end}": draw_chart(chart, theme) for chart in charts}
        drawn |= {f"{grid.name}{end}": draw_grid(grid, theme) for grid in grids}
    return drawn


def _page(shown: dict[str, Any], plotted: dict[str, bytes]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plain=plain, kinds=sections.kinds, quoted=quote, grid_table=tradeoffs.grid_table)
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    embedded_plots = {
        name: embedded(content, "png", open_picture(content, name).size, "") for name, content in plotted.items()
    }
    return environment.get_template("page.html.j2").render(**shown, style=style, plots=embedded_plots)
