"""Pictures through a first stage and back."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ldm.autoencoder.model import load
from ldm.autoencoder.tiled import decode_tiled
from ldm.cli import options
from ldm.cli.bar import bar
from ldm.cli.inputs import padded, pictures_in, read_picture
from ldm.cli.models import MODELS, chosen_device, enough_memory, find
from ldm.cli.outputs import distinct, refuse_existing
from ldm.cli.rows import raw_latent
from ldm.data.pictures import encode, psnr, to_float, to_uint8
from ldm.files import write_bytes


@torch.no_grad()
def reconstructed(
    autoencoder: str, pictures: Sequence[Path], where: options.Where, tile: int
) -> list[tuple[Path, float]]:
    """Where each reconstruction is, and its PSNR in dB."""
    device = chosen_device(where.device)
    folder = find(autoencoder, MODELS / "autoencoders")
    first_stage = load(folder).to(device)
    paths = pictures_in(pictures)
    originals = [read_picture(path) for path in paths]
    targets = [where.out / f"{name}.png" for name in distinct([path.stem for path in paths])]
    refuse_existing(targets, where.overwrite)
    figures = []
    places = tile // first_stage.factor
    with bar("reconstructing", len(paths), "pictures") as advance, enough_memory(device):
        for picture, target in zip(originals, targets, strict=True):
            image = to_float(padded(picture, first_stage.factor)).to(device)[None]
            decoded = decode_tiled(first_stage, raw_latent(first_stage, image, tile), places, places // 4)
            made = to_uint8(decoded).cpu()[0, :, : picture.shape[1], : picture.shape[2]]
            write_bytes(target, encode(made))
            figures.append((target, psnr(picture[None], made[None]).item()))
            advance()
    return figures
