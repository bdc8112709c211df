"""What latents.json would say of latents that are not here: for models that were trained elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import BertTokenizer

from ldm.autoencoder.config import Autoencoder, Identity, Latents
from ldm.config import section
from ldm.data.tokens import encode, load_vocabulary
from ldm.diffusion.config import Diffusion
from ldm.sources.config import Dataset


def described(
    params: Mapping[str, Any],
    name: str,
    *,
    file: str = "params.yaml",
    autoencoder: str = "",
    std: float = 1.0,
    tokenizer: BertTokenizer | None = None,
    classes: Sequence[str] = (),
    label_map_classes: Sequence[str] = (),
) -> dict[str, Any]:
    """The description of the latents of the row `diffusion.NAME`, from params alone: DiffusionModel builds on it.

    What only the data tell is given: the identity of the `autoencoder`, the `std` of its raw latents (mean 0 is
    assumed), the `tokenizer` (without one the null condition of captions is made of zeros: enough to build a model, not
    to use it), the names of classes. `counts` is empty: these latents cannot be trained on.
    """
    row = section(params, Diffusion, f"diffusion.{name}", file=file)
    latents = section(params, Latents, f"latents.{row.latents}", file=file)
    stage = section(params, Autoencoder, f"autoencoders.{row.autoencoder}", file=file).root
    size = latents.crop or section(params, Dataset, f"datasets.{latents.dataset}", file=file).size
    factor, channels = (1, 3) if isinstance(stage, Identity) else (stage.model.factor, stage.model.latent_channels)
    if size % factor:
        raise ValueError(f"{file}: latents.{row.latents}: pictures of {size} px are not a multiple of factor {factor}")
    if latents.clip != "none":
        raise ValueError(
            f"{file}: latents.{row.latents}: embeddings of clip {latents.clip} are known only where they are cached"
        )
    shape = [channels, size // factor, size // factor]
    captions = latents.tokens
    vocabulary = len(tokenizer) if tokenizer else captions.vocabulary_size if captions else 0
    null = encode(tokenizer, [""])[0].tolist() if tokenizer else [0] * (captions.length if captions else 0)
    return {
        "kind": stage.kind,
        "autoencoder": autoencoder,
        "images": "",
        "factor": factor,
        "size": size,
        "latent_shape": shape,
        "shapes": _shapes(latents, stage.kind, shape, size),
        "counts": {},
        "classes": list(classes) or None,
        "label_map_classes": list(label_map_classes) or None,
        "box_classes": None,
        "channel_mean": [0.0] * channels,
        "channel_std": [std] * channels,
        "vocabulary_size": vocabulary,
        "null_tokens": null,
        "layout": latents.layout.model_dump() if latents.layout else None,
        "low_resolution": latents.low_resolution.model_dump() if latents.low_resolution else None,
        "mask": latents.mask.model_dump() if latents.mask else None,
        "clip": None,
        "random_views": latents.flip or latents.crop is not None,
        "health": None,
    }


def row_tokenizer(params: Mapping[str, Any], name: str, vocabulary: Path, file: str = "params.yaml") -> BertTokenizer:
    """The tokenizer of the captions of `diffusion.NAME`, of a published vocab.txt: that file, or its folder."""
    row = section(params, Diffusion, f"diffusion.{name}", file=file)
    latents = section(params, Latents, f"latents.{row.latents}", file=file)
    if latents.tokens is None:
        raise ValueError(
            f"{file}: latents.{row.latents}: a text model needs tokens: {{length: 77, vocabulary_size: ...}}"
        )
    path = vocabulary / "vocab.txt" if vocabulary.is_dir() else vocabulary
    return load_vocabulary(path, latents.tokens.length)


def _shapes(latents: Latents, kind: str, shape: list[int], size: int) -> dict[str, list[int]]:
    """Columns there would be; those of the paper's data sets that a row leaves out are not."""
    shapes = {"pixels": shape} if kind == "identity" else {"mean": shape}
    if kind == "kl":
        shapes["std"] = shape
    if latents.tokens:
        shapes["tokens"] = [latents.tokens.length]
    if latents.layout:
        shapes["layout"] = [3 * latents.layout.boxes + 2]
    if latents.low_resolution:
        small = size // latents.low_resolution.factor
        shapes["low_resolution"] = [3, small, small]
    if latents.label_map:
        shapes["label_map"] = [size, size]
    if latents.mask:
        shapes |= {"mask": [size, size], "masked": shape}
    if latents.grey:
        shapes["grey"] = shape
    return shapes
