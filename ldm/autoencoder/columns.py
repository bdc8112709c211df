"""What is cached of a picture beside its latent: one function a column, from a batch of drawn pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from transformers import BertTokenizer

from ldm.autoencoder.config import Latents
from ldm.autoencoder.model import FirstStage, IdentityAutoencoder, Moments, VQAutoencoder
from ldm.data.degradations import DEGRADATIONS
from ldm.data.draws import View, central, drawn
from ldm.data.layouts import layout_ids
from ldm.data.masks import STYLES, draw_mask
from ldm.data.pictures import decode_map, grey, to_float
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


Column = Callable[[Sequence[Drawn]], Shaped[Tensor, "b ..."]]


def draw_picture(config: Latents, images: Images, index: int, draw: int, training: bool) -> Drawn:
    """Everything random is keyed (seed, id, draw); only training pictures are cropped at random and mirrored."""
    example, pixels = images.example(index), images.pixels(index)
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


class Encoder:
    """The first stage run at exactly `batch` (the last one padded), so that bytes never depend on a rest."""

    def __init__(self, first_stage: FirstStage, batch: int, device: torch.device) -> None:
        self.first_stage, self.batch, self.device = first_stage, batch, device

    @torch.no_grad()
    def __call__(self, image: Float[Tensor, "b 3 h w"]) -> Moments:
        moments = self.first_stage.encode(padded(image, self.batch).to(self.device))
        return Moments(moments.mean[: len(image)].cpu(), moments.std[: len(image)].cpu())


def padded(values: Shaped[Tensor, "b ..."], batch: int) -> Shaped[Tensor, "batch ..."]:
    return torch.cat([values, values[-1:].expand(batch - len(values), *values.shape[1:])])


def latent_columns(first_stage: FirstStage, rows: Sequence[Drawn], moments: Moments) -> dict[str, Tensor]:
    """Mean and std of the posterior; the mean alone where there is no noise; the pixels where they are the latent."""
    if isinstance(first_stage, IdentityAutoencoder):
        return {"pixels": torch.stack([row.pixels for row in rows])}
    if isinstance(first_stage, VQAutoencoder):
        return {"mean": moments.mean}
    return {"mean": moments.mean, "std": moments.std}


def condition_columns(
    config: Latents, encoder: Encoder, tokenizer: BertTokenizer | None, clip: CLIP | None, captioned: bool
) -> dict[str, Column]:
    """Those that `config` asks for. `captioned`: there are captions for CLIP to embed."""
    made: dict[str, Column] = {}
    if tokenizer is not None:
        made["tokens"] = lambda rows: encode(tokenizer, [row.example.caption or "" for row in rows])
    if config.layout is not None:
        made["layout"] = _layouts(config.layout.boxes, config.layout.vocabulary_size)
    if config.low_resolution is not None:
        made["low_resolution"] = lambda rows: torch.stack([_there(row.low_resolution) for row in rows])
    if config.label_map:
        made["label_map"] = lambda rows: torch.stack([_label_map(row) for row in rows])
    if config.mask is not None:
        made["mask"] = lambda rows: torch.stack([_there(row.mask) for row in rows])
        made["masked"] = lambda rows: encoder(torch.stack([_masked(row) for row in rows])).mean
    if config.grey:
        made["grey"] = lambda rows: encoder(torch.stack([to_float(grey(row.pixels)) for row in rows])).mean
    if (config.mask is not None or config.grey) and not isinstance(encoder.first_stage, IdentityAutoencoder):
        # What is known of it comes back to the byte after inpainting, which its reconstruction would not.
        made["picture"] = lambda rows: torch.stack([row.pixels for row in rows])
    if clip is not None:
        made["clip_image"] = _embedded_pictures(clip, encoder.batch, encoder.device)
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


def _masked(row: Drawn) -> Float[Tensor, "3 size size"]:
    """The picture with -1 in its hole, which is 0 before pixels go to [-1, 1] (PAPER: as released)."""
    return torch.where(_there(row.mask).bool(), -1.0, to_float(row.pixels))


def _embedded_captions(clip: CLIP, batch: int) -> Column:
    @torch.no_grad()
    def texts(rows: Sequence[Drawn]) -> Tensor:
        captions = [row.example.caption for row in rows]
        tokens = clip.text([*(caption or "" for caption in captions), *[""] * (batch - len(rows))])[: len(rows)].cpu()
        known = torch.tensor([bool((caption or "").strip()) for caption in captions])  # a row of zeros is null
        return tokens * known[:, None, None]

    return texts


def _embedded_pictures(clip: CLIP, batch: int, device: torch.device) -> Column:
    @torch.no_grad()
    def pictures(rows: Sequence[Drawn]) -> Tensor:
        image = to_float(torch.stack([row.pixels for row in rows]))
        return clip.image(padded(image, batch).to(device))[: len(rows)].cpu()

    return pictures
