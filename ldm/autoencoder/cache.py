"""Encode a data set once: the posterior of every picture and everything that it can be conditioned on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from transformers import BertTokenizer

from ldm.autoencoder.config import Latents
from ldm.autoencoder.model import FirstStage, IdentityAutoencoder, fitting, load
from ldm.config import Run
from ldm.data.latents import write_latents
from ldm.data.pictures import low_resolution, to_float
from ldm.data.randomness import generator
from ldm.data.shards import Example, Images
from ldm.data.tokens import encode, load_vocabulary, save_tokenizer, train_tokenizer
from ldm.files import fresh_folder, identity, write_json, write_manifest
from ldm.progress import Progress
from ldm.training.exact import setup


def cache_latents(
    config: Latents, run: Run, images: Path, autoencoder: Path, vocabulary: Path, out: Path
) -> Iterator[Progress]:
    """Write the latents of every split of `images` to `out`: training pictures `draws` times, others once."""
    device = setup(run)
    first_stage = load(autoencoder).to(device)
    info: dict[str, Any] = Images(images, "train").info
    fitting(info["size"], first_stage.factor, str(images))
    fitting(info["size"], config.low_resolution, f"{images}, low_resolution {config.low_resolution}")
    fresh_folder(out)
    splits = {name: Images(images, name) for name in info["splits"]}
    draws = {name: config.draws if name == "train" else 1 for name in splits}
    counts = {name: len(split) * draws[name] for name, split in splits.items()}
    tokenizer = _tokenizer(config, splits["train"], vocabulary)
    if tokenizer is not None:
        save_tokenizer(tokenizer, out / "tokenizer")

    shapes = _shapes(config, first_stage, info["size"], tokenizer, device)
    statistics, done = Statistics(), 0
    for name, split in splits.items():
        with write_latents(out, name, shapes) as append:
            rows = [(i, draw) for i in range(len(split)) for draw in range(draws[name])]
            for start in range(0, len(rows), config.batch):
                part = rows[start : start + config.batch]
                examples = [split.example(i) for i, _ in part]
                pixels = torch.stack(
                    [_drawn(split.pixels(i), config, split.ids[i], draw, name == "train") for i, draw in part]
                )
                columns = _encode(first_stage, pixels, config.batch, device)
                if name == "train":
                    statistics.add(columns)
                if config.low_resolution > 1:
                    columns["low_resolution"] = torch.stack([low_resolution(p, config.low_resolution) for p in pixels])
                if tokenizer is not None:
                    columns["tokens"] = encode(tokenizer, [e.caption or "" for e in examples])
                append(
                    [e.id for e in examples],
                    [draw for _, draw in part],
                    [_label(e) for e in examples],
                    columns,
                    [e.caption for e in examples],
                )
                done += len(part)
                yield Progress(done=done, total=sum(counts.values()), unit="pictures")

    mean, std = statistics.channels()
    size = info["size"] // first_stage.factor
    write_json(
        out / "latents.json",
        {
            "kind": "identity" if isinstance(first_stage, IdentityAutoencoder) else "kl",
            "autoencoder": identity(autoencoder),
            "images": identity(images),
            "factor": first_stage.factor,
            "latent_shape": [len(mean), size, size],
            "shapes": {column: list(shape) for column, shape in shapes.items()},
            "counts": counts,
            "classes": info["classes"],
            "channel_mean": mean,
            "channel_std": std,
            "vocabulary_size": len(tokenizer) if tokenizer else 0,
            "null_tokens": encode(tokenizer, [""])[0].tolist() if tokenizer else [],
        },
    )
    write_manifest(out)


class Statistics:
    """Mean and standard deviation of each channel of the raw latents, of samples rather than of their means."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, columns: dict[str, Tensor]) -> None:
        if "pixels" in columns:
            value = to_float(columns["pixels"]).double()
            squares = value.square()
        else:
            value = columns["mean"].double()
            squares = value.square() + columns["std"].double().square()
        self.count += value.numel() // value.shape[1]
        self.total = self.total + value.sum((0, 2, 3))
        self.squares = self.squares + squares.sum((0, 2, 3))

    def channels(self) -> tuple[list[float], list[float]]:
        mean = self.total / self.count
        std = (self.squares / self.count - mean.square()).clamp_min(1e-12).sqrt()
        return [round(m, 9) for m in mean.tolist()], [round(s, 9) for s in std.tolist()]


def _tokenizer(config: Latents, train: Images, vocabulary: Path) -> BertTokenizer | None:
    """From the vocabulary file, else trained on the training captions; None for a data set without captions."""
    captions = [caption for i in range(len(train)) if (caption := train.example(i).caption)]
    if not captions:
        return None
    if config.vocabulary != "none":
        return load_vocabulary(vocabulary / "vocab.txt", config.tokens.length)
    return train_tokenizer(captions, config.tokens.vocabulary_size, config.tokens.length)


def _drawn(
    pixels: UInt8[Tensor, "3 h w"], config: Latents, id_: str, draw: int, training: bool
) -> UInt8[Tensor, "3 h w"]:
    """Mirrored or not by (seed, id, draw); a single draw of an evaluation split is never mirrored."""
    if not (config.flip and training):
        return pixels
    mirrored = torch.rand((), generator=generator(config.seed, id_, draw)) < 0.5
    return pixels.flip(-1) if mirrored else pixels


@torch.no_grad()
def _encode(
    first_stage: FirstStage, pixels: UInt8[Tensor, "b 3 h w"], batch: int, device: torch.device
) -> dict[str, Tensor]:
    """The posterior of each picture, run at exactly `batch` (the last one padded), so bytes never depend on a rest."""
    if isinstance(first_stage, IdentityAutoencoder):
        return {"pixels": pixels}
    count = len(pixels)
    padded = torch.cat([pixels, pixels[-1:].expand(batch - count, -1, -1, -1)])
    moments = first_stage.encode(to_float(padded.to(device)))
    return {"mean": moments.mean[:count].cpu(), "std": moments.std[:count].cpu()}


def _shapes(
    config: Latents, first_stage: FirstStage, size: int, tokenizer: BertTokenizer | None, device: torch.device
) -> dict[str, tuple[int, ...]]:
    probe = _encode(first_stage, torch.zeros((1, 3, size, size), dtype=torch.uint8), 1, device)
    shapes = {name: tuple(values.shape[1:]) for name, values in probe.items()}
    if tokenizer is not None:
        shapes["tokens"] = (config.tokens.length,)
    if config.low_resolution > 1:
        shapes["low_resolution"] = (3, size // config.low_resolution, size // config.low_resolution)
    return shapes


def _label(example: Example) -> int:
    return -1 if example.label is None else example.label
