"""What figures and parameters are called on the page, and how their values are written."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

HIGHER, LOWER = "higher is better", "lower is better"
ARROWS = {HIGHER: "↑", LOWER: "↓"}
SAMPLERS = {"ddpm": "DDPM", "ddim": "DDIM", "plms": "PLMS", "dpm_solver": "DPM-Solver++"}


@dataclass(frozen=True, kw_only=True)
class Name:
    """How a figure is called, which way is better, and how its numbers are written."""

    words: str
    better: str = ""
    pattern: str = "{:.3f}"
    percent: bool = False

    def write(self, value: float) -> str:
        return f"{100 * value:.1f} %" if self.percent else self.pattern.format(value)


CAPTION_COLOUR, MEMORISED = "caption_colour", "memorised"
NAMES = {
    CAPTION_COLOUR: Name(words="Captioned colour right", better=HIGHER, percent=True),
    "psnr": Name(words="PSNR, dB", better=HIGHER, pattern="{:.2f}"),
    "psnr_hole": Name(words="PSNR within the hole, dB", better=HIGHER, pattern="{:.2f}"),
    "ssim": Name(words="SSIM", better=HIGHER),
    "clip_score": Name(words="CLIP score", better=HIGHER, pattern="{:.2f}"),
    "clip_score_unpublished": Name(words="CLIP score, unpublished weights", better=HIGHER, pattern="{:.2f}"),
    MEMORISED: Name(words="Nearly training pictures", better=LOWER, percent=True),
}
FAMILIES = {
    "lpips": Name(words="LPIPS", better=LOWER),
    "rfid": Name(words="Reconstruction FID", better=LOWER, pattern="{:.2f}"),
    "rfd": Name(words="Reconstruction Fréchet distance", better=LOWER, pattern="{:.4g}"),
    "fid": Name(words="FID", better=LOWER, pattern="{:.2f}"),
    "fd": Name(words="Fréchet distance", better=LOWER, pattern="{:.4g}"),
    "kid": Name(words="Kernel distance (KID)", better=LOWER, pattern="{:.4g}"),
    "ris": Name(words="Reconstruction Inception score", better=HIGHER, pattern="{:.2f}"),
    "is": Name(words="Inception score", better=HIGHER, pattern="{:.2f}"),
    "precision": Name(words="Precision", better=HIGHER),
    "recall": Name(words="Recall", better=HIGHER),
}
"""Figures on features; what follows the first word of the key names the features or the trunk, and so do the words."""

ORIGINALS = "_originals"
"""Ends the key of a distance to the pictures that samples were made from; without it, it is to the reference."""

REAL = {"floor": "floor", "train": "train–held-out"}
"""What ends the key of a distance between real pictures, and what that is called."""

MEASURED = {
    "size": "pixels a side",
    "training.size": "pixels a side in training",
    "training.dataset": "data of training",
    "count": "pictures measured",
    "split": "part measured",
    "paired.originals": "originals paired with",
    "bicubic": "bicubic: reduced and enlarged by",
    "features": "features",
    "features_sha256": "weights of the features",
    "features_source": "their source",
    "dimensions": "feature dimensions",
    "reference_count": "pictures in the reference",
    "reference_split": "part of the reference",
    "kid.samples": "KID: samples",
    "kid.reference": "KID: real pictures",
    "kid.subset": "KID: pictures in a subset",
    "kid.subsets": "KID: subsets",
    "precision_recall.samples": "precision, recall: samples",
    "precision_recall.reference": "precision, recall: real pictures",
    "precision_recall.neighbours": "precision, recall: neighbours",
    "perceptual": "perceptual trunk",
    "perceptual_sha256": "weights of the trunk",
    "perceptual_heads_sha256": "weights of its heads",
    "sampling.method": "made by",
    "sampling.sampler.kind": "sampler",
    "sampling.sampler.num_steps": "sampling steps",
    "sampling.sampler.eta": "eta",
    "sampling.guidance": "guidance",
    "sampling.split": "conditions of the part",
    "sampling.seed": "seed",
    "batch": "batch",
}
"""Entries of `about` in the order a reader wants them; ones that are not here follow under their own names."""
ELSEWHERE = {
    "note",
    "floor.of",  # below the table
    "floor.frechet_distance",
    "floor.kernel_distance",
    "train.frechet_distance",
    "train.kernel_distance",  # beside the distances
    "caption_colour.right",
    "caption_colour.of",
    "caption_colour.originals",
    "caption_colour.originals_right",  # beside the figure
    "autoencoder",
    "samples",
    "sampling.model",
    "sampling.model_identity",
    "sampling.autoencoder_identity",  # with the identities at the end of the page
    "sampling.count",
    "sampling.condition",  # said in the section's title and text
    "latent_warnings",  # below the table
    "memorised",  # with the neighbours
    "beside",  # below the table
}
"""Entries of `about`, some of them tables, that stand somewhere else than among how a figure was measured."""
OF_BICUBIC = (
    *("count", "split", "bicubic", "perceptual", "perceptual_sha256", "perceptual_heads_sha256"),
    *("sampling.split", "batch"),
)
"""What holds for the bicubic baseline as well."""


def name_of(key: str) -> Name:
    """The words for a figure's key; a key nobody has worded is shown as it is."""
    if key in NAMES:
        return NAMES[key]
    family, _, features = key.removesuffix(ORIGINALS).partition("_")
    if family not in FAMILIES:
        return Name(words=key.replace("_", " ").capitalize(), pattern="{:.4g}")
    name = FAMILIES[family]
    if key.endswith(ORIGINALS):
        name = replace(name, words=f"{name.words} to their originals")
    kind = "" if family == "lpips" else " features"
    return replace(name, words=f"{name.words}, {features.replace('_', ' ')}{kind}") if features else name


def rank(key: str) -> tuple[int, str]:
    """Where a figure stands in a table: pictures against pictures first, distances of distributions after them."""
    order = [*NAMES, *FAMILIES]
    family = key if key in NAMES else key.partition("_")[0]
    return (order.index(family) if family in order else len(order), key)


def plain(value: Any) -> str:
    """A parameter as a reader writes it; of a hash the first twelve digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10000 else str(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value)
    text = str(value)
    return text[:12] if re.fullmatch(r"[0-9a-f]{32,}", text) else text


def how_sampled(about: Mapping[str, Any], *, regression: bool = False) -> str:
    """How samples came about, from their sampling.json, in few words; `regression`: of a model trained as one."""
    if regression:
        return "regression, one pass"
    if (method := str(about.get("method", "model"))) != "model":
        return {"bicubic": "bicubic enlargement", "folder": "pictures brought in"}.get(method, method)
    sampler = about["sampler"]
    steps = int(sampler["num_steps"])
    words = [SAMPLERS.get(sampler["kind"], sampler["kind"]), f"{steps} {'step' if steps == 1 else 'steps'}"]
    if sampler.get("eta"):
        words.append(f"eta {plain(sampler['eta'])}")
    if about["guidance"] != 1:
        words.append(f"guidance {plain(about['guidance'])}")
    if about.get("snapshot"):
        words.append(f"weights of step {plain(about['snapshot'])}")
    if guide := about.get("guide"):
        distance = f"{guide['distance']}, " if "distance" in guide else ""
        classifier = about.get("classifier", "none")
        by = guide["kind"].replace("_", " ") if classifier == "none" else f"the classifier {classifier}"
        words.append(f"guided by {by} ({distance}scale {plain(guide['scale'])})")
    if start := about.get("start"):
        words.append(f"from noised pictures (strength {plain(start['strength'])})")
    if about.get("keep_known"):
        words.append("what is known kept at each step")
    if size := about.get("size"):
        words.append(f"{size[0]} x {size[1]} px")
    if patches := about.get("patches"):
        words.append(f"in patches of {plain(patches['size'])} px")
    return ", ".join(words)


def head_of(key: str) -> str:
    """A figure as the head of a column, with an arrow the way that is better."""
    name = name_of(key)
    return f"{name.words} {ARROWS[name.better]}" if name.better else name.words
