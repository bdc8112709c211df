"""Encode a data set once: the posterior of every picture and everything that it can be conditioned on."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertTokenizer

from ldm.autoencoder.columns import Column, Drawn, Encoder, condition_columns, draw_picture, latent_columns
from ldm.autoencoder.config import Latents
from ldm.autoencoder.health import health_of
from ldm.autoencoder.model import FirstStage, IdentityAutoencoder, Moments, VQAutoencoder, fitting, load
from ldm.config import Run
from ldm.data.latents import write_latents
from ldm.data.layouts import check_vocabulary
from ldm.data.pictures import to_float
from ldm.data.shards import Images
from ldm.data.tokens import encode, load_vocabulary, save_tokenizer, train_tokenizer
from ldm.files import fresh_folder, identity, write_json, write_manifest
from ldm.nn import clip as clips
from ldm.progress import Progress
from ldm.training.exact import setup

_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)


def cache_latents(
    config: Latents, run: Run, images: Path, autoencoder: Path, vocabulary: Path, clip: Path, out: Path
) -> Iterator[Progress]:
    """Write the latents of every split of `images` to `out`: training pictures `draws` times, others once.

    Raises ValueError of one line where the pictures lack what `config` asks for.
    """
    device = setup(run)
    first_stage = load(autoencoder).to(device)
    train = Images(images, "train")
    _check(config, train.info, first_stage.factor, images)
    captions = _captions(config, train, images)
    tokenizer = _tokenizer(config, captions, vocabulary)
    frozen = clips.load(clip)
    fresh_folder(out)
    if tokenizer is not None:
        save_tokenizer(tokenizer, out / "tokenizer")

    encoder = Encoder(first_stage, config.batch, device)
    conditions = condition_columns(config, encoder, tokenizer, frozen and frozen.to(device), bool(captions))
    health = health_of(first_stage)
    splits = {name: Images(images, name) for name in train.info["splits"]}
    draws = {name: config.draws if name == "train" else 1 for name in splits}
    counts = {name: len(split) * draws[name] for name, split in splits.items()}
    shapes = _shapes([draw_picture(config, train, 0, 0, training=True)], encoder, conditions)
    done = 0
    for name, split in splits.items():
        with write_latents(out, name, shapes) as append:
            for rows in _batches(config, split, draws[name], name == "train"):
                moments, columns = _columns(rows, encoder, conditions)
                if name == "train":
                    health.add(moments)
                append(
                    [row.example.id for row in rows],
                    [row.draw for row in rows],
                    [-1 if row.example.label is None else row.example.label for row in rows],
                    columns,
                    [row.example.caption for row in rows],
                )
                done += len(rows)
                yield Progress(done=done, total=sum(counts.values()), unit="pictures")

    report = health.report()
    about = _about(config, train.info, tokenizer, frozen)
    about |= _of_latents(first_stage, config.crop or train.info["size"], report)
    about |= {"autoencoder": identity(autoencoder), "images": identity(images)}
    write_json(out / "latents.json", about | {"shapes": shapes, "counts": counts})
    write_manifest(out)
    yield Progress(done=done, total=done, unit="pictures", notes=report["warnings"])


def _about(
    config: Latents, info: dict[str, Any], tokenizer: BertTokenizer | None, clip: clips.CLIP | None
) -> dict[str, Any]:
    """What latents.json says of the conditions; `info` is dataset.json, `clip` what made its columns."""
    return {
        "classes": info["classes"],
        "label_map_classes": info["label_map_classes"],
        "box_classes": info["box_classes"],
        "vocabulary_size": len(tokenizer) if tokenizer else 0,
        "null_tokens": encode(tokenizer, [""])[0].tolist() if tokenizer else [],
        "layout": config.layout and config.layout.model_dump(),
        "low_resolution": config.low_resolution and config.low_resolution.model_dump(),
        "mask": config.mask and config.mask.model_dump(),
        "clip": clip.sha256 if clip else None,
        "random_views": config.flip or (config.crop or info["size"]) < info["size"],
    }


def _of_latents(first_stage: FirstStage, size: int, report: dict[str, Any]) -> dict[str, Any]:
    """What it says of the latents themselves, of pictures of `size` pixels a side."""
    side = size // first_stage.factor
    return {
        "kind": _kind(first_stage),
        "factor": first_stage.factor,
        "size": size,
        "latent_shape": [len(report["mean"]), side, side],
        "channel_mean": report["mean"],
        "channel_std": report["std"],
        "health": report,
    }


def _kind(first_stage: FirstStage) -> str:
    match first_stage:
        case IdentityAutoencoder():
            return "identity"
        case VQAutoencoder():
            return "vq"
        case _:
            return "kl"


def _batches(config: Latents, images: Images, draws: int, training: bool) -> Iterator[list[Drawn]]:
    """Every picture `draws` times, in order of (id, draw)."""
    places = [(i, draw) for i in range(len(images)) for draw in range(draws)]
    for start in range(0, len(places), config.batch):
        part = places[start : start + config.batch]
        yield [draw_picture(config, images, i, draw, training) for i, draw in part]


def _columns(
    rows: Sequence[Drawn], encoder: Encoder, conditions: Mapping[str, Column]
) -> tuple[Moments, dict[str, Tensor]]:
    moments = encoder(to_float(torch.stack([row.pixels for row in rows])))
    columns = latent_columns(encoder.first_stage, rows, moments)
    return moments, columns | {name: make(rows) for name, make in conditions.items()}


def _shapes(rows: Sequence[Drawn], encoder: Encoder, conditions: Mapping[str, Column]) -> dict[str, list[int]]:
    _, columns = _columns(rows, encoder, conditions)
    return {name: list(values.shape[1:]) for name, values in columns.items()}


def _check(config: Latents, info: dict[str, Any], factor: int, images: Path) -> None:
    """Refuse what these pictures cannot give; `info` is their dataset.json."""
    whole, size = info["size"], config.crop or info["size"]
    if size > whole:
        raise ValueError(f"{images}: pictures of {whole} pixels have no crop of {size}; lower latents' crop")
    fitting(size, factor, str(images))
    if config.low_resolution is not None:
        low = config.low_resolution.factor
        fitting(size, low, f"{images}, low_resolution.factor {low}")
    if config.layout is not None:
        if not info["box_classes"]:
            raise ValueError(f"{images}: no boxes; leave layout out of latents, or choose a data set with boxes")
        check_vocabulary(config.layout.vocabulary_size, len(info["box_classes"]))
    if config.label_map and not info["label_map_classes"]:
        raise ValueError(f"{images}: no label maps; leave label_map out of latents, or choose a data set with them")


def _captions(config: Latents, train: Images, images: Path) -> list[str]:
    """Those of the training pictures. Refuses to mirror pictures whose caption says what is left and right."""
    captions = []
    told = config.tokens is not None or config.clip != "none"
    for i, id in enumerate(train.ids):
        caption = train.example(i).caption if told else None
        if caption and config.flip and (side := _SIDES.search(caption)):
            raise ValueError(
                f"{images}: a flip would make the caption of '{id}' untrue, for it says '{side[0]}': '{caption}'; "
                "say flip: false in latents"
            )
        if caption:
            captions.append(caption)
    return captions


def _tokenizer(config: Latents, captions: list[str], vocabulary: Path) -> BertTokenizer | None:
    """From the vocabulary file, else trained on `captions`; None where there are none or no tokens are asked for."""
    if config.tokens is None or not captions:
        return None
    if config.vocabulary != "none":
        return load_vocabulary(vocabulary / "vocab.txt", config.tokens.length)
    return train_tokenizer(captions, config.tokens.vocabulary_size, config.tokens.length)
