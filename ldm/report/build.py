"""Stage report: one page that opens anywhere, offline, with all that a run made; its plots lie beside it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ldm.files import fresh_folder, write_bytes, write_manifest
from ldm.progress import Progress
from ldm.report import figures, plots, sections
from ldm.report.collect import Results, collect
from ldm.report.names import plain
from ldm.report.pictures import embed

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
    """Write `out`/index.html, `out`/plots/*.png and `out`/manifest.json from what the stages wrote below `root`.

    The bytes are a function of the files read. What has not been made is left out; a broken file is a ValueError.
    """
    parts = 4
    results = collect(root)
    yield Progress(done=1, total=parts, unit="parts")
    shown = _shown(results)
    yield Progress(done=2, total=parts, unit="parts")
    curves = _curves(results)
    yield Progress(done=3, total=parts, unit="parts")
    page = _page(shown, curves)
    fresh_folder(out)
    for name, content in curves.items():
        write_bytes(out / "plots" / f"{name}.png", content)
    write_bytes(out / "index.html", page.encode())
    write_manifest(out)
    yield Progress(done=4, total=parts, unit="parts")


def _shown(results: Results) -> dict[str, Any]:
    """What the templates show, by the names they know it by."""
    coders, diffusion = list(results.autoencoders.values()), list(results.diffusion.values())
    return {
        "results": results,
        "headlines": sections.headlines(results),
        "data": sections.data(results),
        "autoencoders": [sections.model_view(model, "autoencoder") for model in coders],
        "autoencoder_settings": sections.settings(coders, AUTOENCODER_ROWS),
        "autoencoder_figures": sections.autoencoder_table(results),
        "health": {one.name: figures.health(one) for one in results.autoencoder_metrics.values()},
        "diffusion": [sections.model_view(model, "diffusion") for model in diffusion],
        "diffusion_settings": sections.settings(diffusion, DIFFUSION_ROWS),
        "tasks": sections.tasks(results),
        "studies": [sections.study(study) for study in results.studies.values()],
    }


def _curves(results: Results) -> dict[str, bytes]:
    """Every curve in ink for light paper, and as NAME-dark for a dark screen."""
    drawn = {}
    for kind, models in (("autoencoder", results.autoencoders), ("diffusion", results.diffusion)):
        for model in models.values():
            for scalar in plots.scalars_to_draw(list(model.history)):
                title, points = scalar.replace("_", " "), model.history[scalar]
                drawn[f"{kind}-{model.name}-{scalar}"] = plots.curve(points, title, plots.LIGHT)
                drawn[f"{kind}-{model.name}-{scalar}-dark"] = plots.curve(points, title, plots.DARK)
    return drawn


def _page(shown: dict[str, Any], curves: dict[str, bytes]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plain=plain, kinds=sections.kinds, quoted=lambda text: quote(text, safe=""))
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    plots = {name: embed(content, f"plots/{name}.png", "") for name, content in curves.items()}
    return environment.get_template("page.html.j2").render(**shown, style=style, plots=plots)
