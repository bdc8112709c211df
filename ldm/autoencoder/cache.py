"""Encode a data set once: the posterior of every picture and everything that it can be conditioned on."""

import os
import re
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import BertTokenizer

from ldm.autoencoder.columns import encoded_columns, moments_of
from ldm.autoencoder.config import Latents
from ldm.autoencoder.drawing import Drawing
from ldm.autoencoder.encoder import Encoder
from ldm.autoencoder.health import Health, health_of
from ldm.autoencoder.model import FirstStage, IdentityAutoencoder, KLAutoencoder, VQAutoencoder, fitting, load
from ldm.autoencoder.pipeline import Pipeline
from ldm.config import Run
from ldm.data.batches import workers
from ldm.data.latents import file_name, read_back, rows_in_file, write_latents
from ldm.data.layouts import check_vocabulary
from ldm.data.processes import available, processes
from ldm.data.shards import Images
from ldm.data.tokens import encode, load_vocabulary, save_tokenizer, train_tokenizer
from ldm.data.unfinished import Unfinished
from ldm.files import identity, write_json, write_manifest
from ldm.nn import clip as clips
from ldm.progress import Progress
from ldm.training.exact import placed, setup
from ldm.training.several import Processes

MANY = 4096
"""Rows from which on it is worth seconds to start processes that decode for a GPU."""
_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)


def cache_latents(
    config: Latents, run: Run, images: Path, autoencoder: Path, vocabulary: Path, clip: Path, out: Path, resume: Path
) -> Iterator[Progress]:
    """Write the latents of every split of `images` to `out`: training pictures `draws` times, others once.

    Files that are whole in `resume` are not made again. Of several processes each makes every so many-th file, and the
    first puts them together. Raises ValueError of one line where the pictures lack what `config` asks for.
    """
    processes = Processes(setup(run))
    processes.join()
    work = planned(config, run, images, autoencoder, vocabulary, clip, resume)
    mine = work.files[processes.rank :: processes.count]
    left = [file for file in mine if not work.unfinished.has(file.name)]
    rows, total = sum(len(file.rows) for file in mine), sum(work.counts.values())
    done = rows - sum(len(file.rows) for file in left)

    def progress() -> Progress:
        return Progress(done=total * done // rows, total=total, unit="pictures")  # the others are about as far

    if mine:
        yield progress()
    for file in left:
        for more in work.written(file):
            done += more
            yield progress()

    processes.leave()
    if not processes.first:
        return
    notes = work.put_together(out, {"autoencoder": identity(autoencoder), "images": identity(images)})
    yield Progress(done=total, total=total, unit="pictures", notes=notes)


@dataclass(frozen=True, kw_only=True)
class File:
    """Rows of one split, counted in order of (id, draw), and where in `split` the file stands."""

    split: str
    number: int
    rows: range

    @property
    def name(self) -> str:
        return file_name(self.split, self.number)


@dataclass(frozen=True, kw_only=True)
class Work:
    """The files of a cache, each the same in whatever process and order it is made."""

    config: Latents
    splits: Mapping[str, Images]
    first_stage: KLAutoencoder | VQAutoencoder | IdentityAutoencoder
    tokenizer: BertTokenizer | None
    clip: clips.CLIP | None
    pipeline: Pipeline
    shapes: Mapping[str, Sequence[int]]
    """Of the columns, without the batch axis."""
    unfinished: Unfinished
    pool: Executor | None
    """Of processes that draw; None: threads do."""

    @cached_property
    def counts(self) -> dict[str, int]:
        """Rows of each split."""
        return rows_of(self.config, self.splits)

    @cached_property
    def files(self) -> list[File]:
        size = rows_in_file(self.shapes, self.config.batch)
        return [
            File(split=name, number=number, rows=range(start, min(start + size, count)))
            for name, count in self.counts.items()
            for number, start in enumerate(range(0, count, size))
        ]

    def starts(self) -> range:
        """The number of each file, for a cluster."""
        return range(len(self.files))

    def batch(self, start: int) -> None:
        """Make that file where it is not there."""
        file = self.files[start]
        if not self.unfinished.has(file.name):
            deque(self.written(file), maxlen=0)

    def written(self, file: File) -> Iterator[int]:
        """Make `file`; yield how many more rows are written."""
        drawing = Drawing(self.config, self.splits[file.split], training=file.split == "train")
        beside = drawers(self.pipeline.device)
        try:
            with (
                write_latents(self.unfinished.folder, file.split, self.shapes, file.number) as append,
                closing(self.pipeline.run(drawing, file.rows, append, beside, self.pool)) as written,
            ):
                yield from written
        except BrokenExecutor:
            raise ValueError(
                f"one of {beside} processes that decode pictures was killed, most likely for its memory; "
                "LDM_WORKERS=2 has two of them, and files that are whole are kept"
            ) from None
        self.unfinished.note(file.name)

    def put_together(self, out: Path, identities: dict[str, str]) -> list[str]:
        """Let `out` be what was made, all files of which are there; warnings of the latents' health."""
        folder, info = self.unfinished.folder, self.splits["train"].info
        self.unfinished.clear_halves()
        if self.tokenizer is not None:
            save_tokenizer(self.tokenizer, folder / "tokenizer")
        report = self._health().report()
        about = _about(self.config, info, self.tokenizer, self.clip)
        about |= _of_latents(self.first_stage, self.config.crop or info["size"], report)
        write_json(folder / "latents.json", about | identities | {"shapes": self.shapes, "counts": self.counts})
        write_manifest(folder, self.unfinished.hashes())
        self.unfinished.finish(out)
        return list(report["warnings"])

    def _health(self) -> Health:
        """Of the training latents, read again: whoever made them."""
        health = health_of(self.first_stage)
        columns = {name: self.shapes[name] for name in ("mean", "std", "pixels") if name in self.shapes}
        files = [self.unfinished.folder / file.name for file in self.files if file.split == "train"]
        for rows in read_back(files, columns, self.config.batch):
            health.add(moments_of({name: values.to(self.pipeline.device) for name, values in rows.items()}))
        return health


def planned(
    config: Latents, run: Run, images: Path, autoencoder: Path, vocabulary: Path, clip: Path, resume: Path
) -> Work:
    """What there is to make; made files are kept in `resume`. Raises ValueError of one line for what cannot be."""
    device = setup(run)
    train = Images(images, "train")
    splits = {name: Images(images, name) for name in train.info["splits"]}
    pool = pool_for(device, sum(rows_of(config, splits).values()), config.batch, config.crop or train.info["size"])
    first_stage = placed(load(autoencoder), device)
    _check(config, train.info, first_stage.factor, images)
    captions = _captions(config, train, images)
    tokenizer = _tokenizer(config, captions, vocabulary)
    frozen = clips.load(clip)
    encoder = Encoder(first_stage, config.batch, run)
    encoded = encoded_columns(config, encoder, tokenizer, frozen and frozen.to(device), bool(captions))
    pipeline = Pipeline(config, encoder, encoded, device)
    return Work(
        config=config,
        splits=splits,
        first_stage=first_stage,
        tokenizer=tokenizer,
        clip=frozen,
        pipeline=pipeline,
        shapes=pipeline.shapes(train),
        unfinished=Unfinished(resume),
        pool=pool,
    )


def rows_of(config: Latents, splits: Mapping[str, Images]) -> dict[str, int]:
    """How many each split has in the cache."""
    return {name: len(split) * (config.draws if name == "train" else 1) for name, split in splits.items()}


def drawers(device: torch.device) -> int:
    """How many decode and draw: a GPU needs many pictures at once, a CPU is busy encoding."""
    return workers(1 if device.type == "cpu" else os.cpu_count() or 1)


def pool_for(device: torch.device, rows: int, batch: int, size: int) -> Executor | None:
    """Processes for a GPU, which takes more than threads decode; they are on their way already.

    None where threads will do: for few `rows`, and where there is no room in shared memory for what is read ahead.
    """
    count = drawers(device)
    if device.type != "cuda" or count < 2 or rows < MANY or not available():
        return None
    ahead = 2 * count * batch * 3 * size**2
    return processes(count) if 2 * ahead < shutil.disk_usage("/dev/shm").free else None


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
