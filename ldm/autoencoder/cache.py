"""Encode a data set once: the posterior of every picture and everything that it can be conditioned on."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import BertTokenizer

from ldm.autoencoder.columns import drawn_columns, encoded_columns, moments_of
from ldm.autoencoder.config import Latents
from ldm.autoencoder.encoder import Encoder
from ldm.autoencoder.health import Health, health_of
from ldm.autoencoder.model import FirstStage, IdentityAutoencoder, VQAutoencoder, fitting, load
from ldm.autoencoder.pipeline import Pipeline
from ldm.config import Run
from ldm.data.batches import workers
from ldm.data.latents import read_back, rows_in, write_latents
from ldm.data.layouts import check_vocabulary
from ldm.data.shards import Images
from ldm.data.tokens import encode, load_vocabulary, save_tokenizer, train_tokenizer
from ldm.data.unfinished import Unfinished
from ldm.files import identity, write_json, write_manifest
from ldm.nn import clip as clips
from ldm.progress import Progress
from ldm.training.exact import placed, setup

_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)


def cache_latents(
    config: Latents, run: Run, images: Path, autoencoder: Path, vocabulary: Path, clip: Path, out: Path, resume: Path
) -> Iterator[Progress]:
    """Write the latents of every split of `images` to `out`: training pictures `draws` times, others once.

    Goes on from the whole files in `resume` where there are any, and ends in the same bytes as if it had never stopped.
    Raises ValueError of one line where the pictures lack what `config` asks for.
    """
    device = setup(run)
    first_stage = placed(load(autoencoder), device)
    train = Images(images, "train")
    _check(config, train.info, first_stage.factor, images)
    captions = _captions(config, train, images)
    tokenizer = _tokenizer(config, captions, vocabulary)
    frozen = clips.load(clip)
    encoder = Encoder(first_stage, config.batch, run)
    encoded = encoded_columns(config, encoder, tokenizer, frozen and frozen.to(device), bool(captions))
    pipeline = Pipeline(config, encoder, drawn_columns(config), encoded, device)
    shapes = pipeline.shapes(train)

    splits = {name: Images(images, name) for name in train.info["splits"]}
    counts = {name: len(split) * (config.draws if name == "train" else 1) for name, split in splits.items()}
    health, unfinished = health_of(first_stage), Unfinished(resume)
    there = {name: unfinished.files(name) for name in splits}
    rows = {name: rows_in(files) for name, files in there.items()}
    done, total = sum(rows.values()), sum(counts.values())
    _replay(health, there["train"], rows["train"], counts["train"], config.batch, shapes, device)
    yield Progress(done=done, total=total, unit="pictures")
    for name, split in splits.items():
        if rows[name] == counts[name]:
            continue
        of_train = health if name == "train" else None
        files = there[name]
        with (
            write_latents(unfinished.folder, name, shapes, files=len(files), on_file=unfinished.note) as append,
            closing(pipeline.run(split, name == "train", rows[name], append, of_train, threads(device))) as written,
        ):
            for more in written:
                done += more
                yield Progress(done=done, total=total, unit="pictures")

    if tokenizer is not None:
        save_tokenizer(tokenizer, unfinished.folder / "tokenizer")
    report = health.report()
    about = _about(config, train.info, tokenizer, frozen)
    about |= _of_latents(first_stage, config.crop or train.info["size"], report)
    about |= {"autoencoder": identity(autoencoder), "images": identity(images)}
    write_json(unfinished.folder / "latents.json", about | {"shapes": shapes, "counts": counts})
    write_manifest(unfinished.folder, unfinished.hashes())
    unfinished.finish(out)
    yield Progress(done=done, total=done, unit="pictures", notes=report["warnings"])


def threads(device: torch.device) -> int:
    """That decode: a GPU needs many pictures at once, a CPU is busy encoding."""
    return workers(1 if device.type == "cpu" else os.cpu_count() or 1)


def _replay(
    health: Health,
    files: Sequence[Path],
    known: int,
    total: int,
    batch: int,
    shapes: Mapping[str, Sequence[int]],
    device: torch.device,
) -> None:
    """Add what the `known` rows in `files` added when they were encoded, batch by batch.

    Of a batch that ends in the next file all is encoded, and added, again.
    """
    columns = {name: shapes[name] for name in ("mean", "std", "pixels") if name in shapes}
    batches = known // batch if known < total else -(-known // batch)
    for rows in islice(read_back(files, columns, batch), batches):
        health.add(moments_of({name: values.to(device) for name, values in rows.items()}))


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
    for id, caption in zip(train.ids, train.captions(), strict=True) if told else ():
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
