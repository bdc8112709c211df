"""From what people hand in to the rows that a model reads: the columns of cached latents, made of files and words."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.autoencoder.model import FirstStage, IdentityAutoencoder
from ldm.autoencoder.tiled import encode_tiled
from ldm.cli import options
from ldm.cli.inputs import listed, read_json, read_lines, read_picture
from ldm.cli.models import Opened
from ldm.data.layouts import layout_ids
from ldm.data.pictures import grey, to_float
from ldm.data.shards import Box
from ldm.sources.boxes import named_boxes
from ldm.sources.rows import Row

if TYPE_CHECKING:
    from ldm.nn.clip import CLIP

Rows = dict[str, Tensor]

ASKED_BY = {
    "label": "--label",
    "text": "--prompt",
    "clip_text": "--prompt",
    "layout": "--layout",
    "clip_image": "--like",
}
"""By kind of tokens, the option that says them."""
SHOWN_BY = {"low_resolution": "ldm upscale", "mask": "ldm inpaint", "grey": "ldm colorize", "label_map": "ldm sample"}
"""By kind of channels, the command that shows them."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing to draw pictures of."""

    name: str
    """What its files are called."""
    rows: Rows = field(default_factory=dict)
    """Columns of `ldm.data.latents.DTYPES`, and `picture`, without the batch axis, on the CPU."""
    prompt: str = ""
    size: tuple[int, int] | None = None
    """Height and width of what is drawn, in pixels; None: as trained."""
    kept: tuple[int, int] | None = None
    """What is written of it, from the top left; None: all."""

    def shown(
        self, name: str | None = None, *, rows: Rows, size: tuple[int, int] | None, kept: tuple[int, int] | None
    ) -> "Item":
        """The same told, and shown these columns too."""
        return replace(self, name=name or self.name, rows=self.rows | rows, size=size, kept=kept)


def told(opened: Opened, given: options.Told, *, for_guide: str | None = None) -> list[Item]:
    """An item for each prompt, label, layout or picture that the model is told; one alone for a model told nothing.

    `for_guide`: the option, --prompt or --label, that a guide takes where the model does not.
    Raises ValueError of one line where the model needs another option than was given.
    """
    prompts = [*(given.prompt or []), *(read_lines(given.prompts) if given.prompts else [])]
    values: dict[str, Sequence[Any]] = {
        "--prompt": prompts,
        "--label": given.label or [],
        "--layout": given.layout or [],
        "--like": given.like or [],
    }
    wanted = ASKED_BY.get(opened.tokens)
    for option, found in values.items():
        if found and option not in (wanted, for_guide):
            instead = f"it is told {opened.tokens}, by {wanted}" if wanted else "it is told nothing"
            raise ValueError(f"{opened.name} takes no {option}: {instead}")
    if for_guide == "--label" and wanted not in (None, "--label"):
        raise ValueError(
            f"--guide-kind classifier leads models told a label or nothing, and {opened.name} is told {opened.tokens}"
        )
    if for_guide == "--label" and wanted is None:
        return [_label(opened.info, label) for label in values["--label"]]
    if wanted is None:
        return [Item(name=opened.name, prompt=prompt) for prompt in prompts or [""]]
    if not values[wanted]:
        raise ValueError(f"{opened.name} is told {opened.tokens}: say {_example(wanted, opened.info)}")
    return [_made(opened, given)(value) for value in values[wanted]]


def _example(option: str, info: Mapping[str, Any]) -> str:
    match option:
        case "--prompt":
            return '--prompt "a text", or --prompts FILE with one a line'
        case "--label":
            return f"--label CLASS, one of {listed(info['classes'])}"
        case "--layout":
            return f"--layout FILE.json with boxes of {listed(info['box_classes'] or ['their numbers'])}"
        case _:
            return "--like PICTURE"


def _made(opened: Opened, given: options.Told) -> Callable[[Any], Item]:
    """From a value of the model's option to an item."""
    match opened.tokens:
        case "label":
            return lambda label: _label(opened.info, label)
        case "layout":
            return lambda path: _layout(opened.info, path)
        case "text":
            return _texts(opened)
    clip = _clip(opened, given.clip_weights)
    if opened.tokens == "clip_text":
        return lambda text: Item(name=slug(text, opened.name), prompt=text, rows={"clip_text": _embedded(clip, text)})
    return lambda path: Item(name=path.stem, rows={"clip_image": clip.image(to_float(read_picture(path))[None])[0]})


def _texts(opened: Opened) -> Callable[[str], Item]:
    from ldm.data.tokens import encode, load_tokenizer  # transformers takes seconds, which other kinds need not wait

    tokenizer = load_tokenizer(opened.folder / "tokenizer")
    return lambda text: Item(name=slug(text, opened.name), prompt=text, rows={"tokens": encode(tokenizer, [text])[0]})


def _label(info: Mapping[str, Any], label: str) -> Item:
    number = number_of(label, info["classes"], "--label") if label else -1
    return Item(name=slug(label, "no-label"), rows={"label": torch.tensor(number)})


def _layout(info: Mapping[str, Any], path: Path) -> Item:
    values = read_json(path)
    row = Row(str(path), values if isinstance(values, dict) else {"boxes": values})
    classes = info["box_classes"] or [str(i) for i in range(info["layout"]["vocabulary_size"] - 1)]
    try:
        named = list(named_boxes(row))
    except ValueError as error:
        form = '[{"category": "dog", "box": [x, y, width, height]}, ...]'
        raise ValueError(f"{error}; {path} is to hold {form}") from None
    boxes = [
        Box(x=x, y=y, width=width, height=height, category=number_of(category, classes, str(path)))
        for category, (x, y, width, height) in named
    ]
    return Item(
        name=path.stem, rows={"layout": layout_ids(boxes, info["layout"]["boxes"], info["layout"]["vocabulary_size"])}
    )


def _clip(opened: Opened, folder: Path | None) -> "CLIP":
    from ldm.nn.clip import load as load_clip

    clip = load_clip(folder) if folder is not None else None
    if clip is None:
        raise ValueError(
            f"{opened.name} is told CLIP's embeddings: say --clip-weights, the folder its latents were made with"
        )
    if clip.sha256 != opened.info["clip"]:
        raise ValueError(
            f"{folder}: another CLIP than that of {opened.name} (hash {clip.sha256[:12]}..., "
            f"not {opened.info['clip'][:12]}...); say the folder that its latents were made with"
        )
    return clip


def _embedded(clip: "CLIP", text: str) -> Tensor:
    """Its tokens; zeros, which stand for the null condition, of no text."""
    tokens = clip.text([text])[0]
    return tokens if text.strip() else torch.zeros_like(tokens)


def number_of(name: str, names: Sequence[str], where: str) -> int:
    """The number of a class by its name, or by itself."""
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there is: {listed(names)}"
    raise ValueError(f"{where}: no class '{name}' ({hint})")


def slug(text: str, otherwise: str) -> str:
    """A file's name from a text."""
    letters = "".join(c if c.isalnum() else "-" for c in text.lower())
    return "-".join(part for part in letters.split("-") if part)[:60].strip("-") or otherwise


@torch.no_grad()
def encoded(rows: Rows, first_stage: FirstStage, channels: str, *, latents: bool, tile: int) -> Rows:
    """With the columns that the first stage makes of `picture`.

    `masked` and `grey` for a model that is shown them, with `latents` that of the picture itself.
    """
    if "picture" not in rows:
        return rows
    image = to_float(rows["picture"])
    made: Rows = {}
    if latents and isinstance(first_stage, IdentityAutoencoder):
        made["pixels"] = rows["picture"]
    elif latents:
        made["mean"] = raw_latent(first_stage, image, tile)
    if channels == "mask":
        made["masked"] = raw_latent(first_stage, torch.where(rows["mask"][:, None] > 0, -1.0, image), tile)
    if channels == "grey":
        colourless = torch.stack([grey(picture) for picture in rows["picture"].cpu()])
        made["grey"] = raw_latent(first_stage, to_float(colourless).to(image), tile)
    return rows | made


def raw_latent(first_stage: FirstStage, image: Float[Tensor, "b 3 H W"], tile: int) -> Float[Tensor, "b z h w"]:
    """The mean of the posterior of pictures; those of more pixels a side are encoded in tiles, a quarter shared."""
    places = tile // first_stage.factor
    return encode_tiled(first_stage, image, places, places // 4).mean
