"""What is cached of a picture: one function a column, of drawn pictures or of what networks make of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from transformers import BertTokenizer

from ldm.autoencoder.config import Latents
from ldm.autoencoder.encoder import Encoder, padded
from ldm.autoencoder.model import FirstStage, IdentityAutoencoder, Moments, VQAutoencoder
from ldm.data.degradations import DEGRADATIONS
from ldm.data.draws import View, central, drawn
from ldm.data.layouts import layout_ids
from ldm.data.masks import STYLES, draw_mask
from ldm.data.pictures import decode, decode_map, grey, stacked, to_float
from ldm.data.randomness import generator
from ldm.data.shards import Example, Images
from ldm.data.tokens import encode
from ldm.nn.clip import CLIP

UNKNOWN = 255
"""In a label map: no class."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One draw of a picture, and what is random about it."""

    example: Example
    draw: int
    view: View
    pixels: UInt8[Tensor, "3 size size"]
    mask: UInt8[Tensor, "size size"] | None
    low_resolution: UInt8[Tensor, "3 low low"] | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows on their way into the cache, in order of (id, draw)."""

    ids: list[str]
    draws: list[int]
    labels: list[int]
    """-1: none."""
    captions: list[str | None]
    columns: dict[str, Tensor]
    """What was drawn; after encoding, what is written."""
    inputs: dict[str, Tensor]
    """Those of the columns that networks read, on the networks' device once they were sent."""
    ready: torch.cuda.Event | None = None
    """When `columns` have arrived on the CPU; None: they have."""


Column = Callable[[Sequence[Drawn]], Shaped[Tensor, "b ..."]]
"""Drawn from the pictures, by threads beside each other."""
Encoded = Callable[[Batch], Shaped[Tensor, "b ..."]]
"""Made by a network, or by what only one thread may call."""


def draw_pictures(config: Latents, images: Images, places: range, training: bool) -> list[Drawn]:
    """The rows at `places` of those in order of (id, draw).

    Everything random is keyed (seed, id, draw); only training pictures have several draws, are cropped at random and
    mirrored.
    """
    draws = config.draws if training else 1
    rows = []
    for index, of_one in groupby(places, key=lambda place: place // draws):
        example = images.example(index)
        pixels = decode(example.image)
        rows += [_draw(config, example, pixels, place % draws, training) for place in of_one]
    return rows


def _draw(config: Latents, example: Example, pixels: UInt8[Tensor, "3 h w"], draw: int, training: bool) -> Drawn:
    key = (config.seed, example.id, draw)
    whole = pixels.shape[-1]
    size = config.crop or whole
    view = drawn(whole, size, config.flip, generator("view", *key)) if training else central(whole, size)
    pixels = view.of(pixels)
    mask = low = None
    if config.mask is not None:
        mask = draw_mask(size, STYLES[config.mask.style], generator("mask", *key))
    if config.low_resolution is not None:
        degrade = DEGRADATIONS[config.low_resolution.degradation]
        low = degrade(pixels, config.low_resolution.factor, generator("degradation", *key))
    return Drawn(example=example, draw=draw, view=view, pixels=pixels, mask=mask, low_resolution=low)


def latent_columns(first_stage: FirstStage, pixels: UInt8[Tensor, "b 3 h w"], moments: Moments) -> dict[str, Tensor]:
    """Mean and std of the posterior; the mean alone where there is no noise; the pixels where they are the latent."""
    if isinstance(first_stage, IdentityAutoencoder):
        return {"pixels": pixels}
    if isinstance(first_stage, VQAutoencoder):
        return {"mean": moments.mean}
    return {"mean": moments.mean, "std": moments.std}


def moments_of(columns: Mapping[str, Tensor]) -> Moments:
    """The posterior of which `latent_columns` made these."""
    mean = columns["mean"] if "mean" in columns else to_float(columns["pixels"])
    return Moments(mean, columns["std"] if "std" in columns else torch.zeros_like(mean))


def drawn_columns(config: Latents) -> dict[str, Column]:
    """The pixels, and the conditions in `config` that need no network; `grey` is a picture still."""
    made: dict[str, Column] = {"pixels": lambda rows: stacked([row.pixels for row in rows])}
    if config.layout is not None:
        made["layout"] = _layouts(config.layout.boxes, config.layout.vocabulary_size)
    if config.low_resolution is not None:
        made["low_resolution"] = lambda rows: stacked([_there(row.low_resolution) for row in rows])
    if config.label_map:
        made["label_map"] = lambda rows: stacked([_label_map(row) for row in rows])
    if config.mask is not None:
        made["mask"] = lambda rows: stacked([_there(row.mask) for row in rows])
    if config.grey:
        made["grey"] = lambda rows: stacked([grey(row.pixels) for row in rows])
    return made


def encoded_columns(
    config: Latents, encoder: Encoder, tokenizer: BertTokenizer | None, clip: CLIP | None, captioned: bool
) -> dict[str, Encoded]:
    """The other conditions in `config`. `captioned`: there are captions for CLIP to embed."""
    made: dict[str, Encoded] = {}
    if tokenizer is not None:
        made["tokens"] = lambda batch: encode(tokenizer, [caption or "" for caption in batch.captions])
    if config.mask is not None:
        made["masked"] = lambda batch: encoder(_masked(batch.inputs)).mean
    if config.grey:
        made["grey"] = lambda batch: encoder(to_float(batch.inputs["grey"])).mean
    if (config.mask is not None or config.grey) and not isinstance(encoder.first_stage, IdentityAutoencoder):
        # What is known of it comes back to the byte after inpainting, which its reconstruction would not.
        made["picture"] = lambda batch: batch.columns["pixels"]
    if clip is not None:
        made["clip_image"] = _embedded_pictures(clip, encoder.batch)
    if clip is not None and captioned:
        made["clip_text"] = _embedded_captions(clip, encoder.batch)
    return made


def _there(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def _layouts(boxes: int, vocabulary_size: int) -> Column:
    def layouts(rows: Sequence[Drawn]) -> Tensor:
        known = [None if row.example.boxes is None else row.view.of_boxes(row.example.boxes) for row in rows]
        return torch.stack(
            [layout_ids(of, boxes, vocabulary_size, row.view.corners) for of, row in zip(known, rows, strict=True)]
        )

    return layouts


def _label_map(row: Drawn) -> UInt8[Tensor, "size size"]:
    if row.example.label_map is None:
        return torch.full(row.pixels.shape[1:], UNKNOWN, dtype=torch.uint8)
    return row.view.of(decode_map(row.example.label_map))


def _masked(inputs: Mapping[str, Tensor]) -> Float[Tensor, "b 3 size size"]:
    """The pictures with -1 in their holes, which is 0 before pixels go to [-1, 1] (PAPER: as released)."""
    return torch.where(inputs["mask"][:, None].bool(), -1.0, to_float(inputs["pixels"]))


def _embedded_captions(clip: CLIP, batch_size: int) -> Encoded:
    @torch.no_grad()
    def texts(batch: Batch) -> Tensor:
        captions = [caption or "" for caption in batch.captions]
        tokens = clip.text([*captions, *[""] * (batch_size - len(captions))])[: len(captions)]
        known = torch.tensor([bool(caption.strip()) for caption in captions], device=tokens.device)
        return tokens * known[:, None, None]  # a row of zeros is null

    return texts


def _embedded_pictures(clip: CLIP, batch_size: int) -> Encoded:
    @torch.no_grad()
    def pictures(batch: Batch) -> Tensor:
        image = to_float(batch.inputs["pixels"])
        return clip.image(padded(image, batch_size))[: len(image)]

    return pictures
