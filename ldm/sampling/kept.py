"""Batches kept until all are drawn, each with its hash: one that a disk damaged is drawn again."""

import hashlib
from pathlib import Path

from jaxtyping import UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ldm.files import whole


def keep(path: Path, pictures: UInt8[Tensor, "b 3 h w"]) -> None:
    with whole(path) as beside:
        save_file({"pictures": pictures.contiguous()}, beside, metadata={"sha256": _hash(pictures)})


def kept(path: Path) -> UInt8[Tensor, "b 3 h w"] | None:
    """What was kept at `path`; None where nothing was, or where it is no longer what it was."""
    try:
        with safe_open(path, "pt") as file:
            pictures = file.get_tensor("pictures")
            return pictures if (file.metadata() or {}).get("sha256") == _hash(pictures) else None
    except (FileNotFoundError, SafetensorError):
        return None


def _hash(pictures: UInt8[Tensor, "b 3 h w"]) -> str:
    return hashlib.sha256(repr(tuple(pictures.shape)).encode() + pictures.numpy().tobytes()).hexdigest()
