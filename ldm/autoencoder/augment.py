"""What training does to a batch of pictures before the model sees them, by uniform numbers in [0, 1)."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def cropped(
    pixels: UInt8[Tensor, "b 3 h w"], side: int, chance: Float[Tensor, "b 2"]
) -> UInt8[Tensor, "b 3 side side"]:
    """A square of each picture, every place equally likely."""
    count, _, height, width = pixels.shape
    room = torch.tensor([height - side + 1, width - side + 1], device=pixels.device)
    corner = (chance * room).long()
    within = torch.arange(side, device=pixels.device)
    rows, columns = (corner[:, axis, None] + within for axis in (0, 1))
    picture = torch.arange(count, device=pixels.device)[:, None, None]
    return pixels.permute(0, 2, 3, 1)[picture, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def mirrored(image: Float[Tensor, "b 3 h w"], chance: Float[Tensor, " b"]) -> Float[Tensor, "b 3 h w"]:
    """Each picture as it is or mirrored, equally likely."""
    return torch.where((chance < 0.5)[:, None, None, None], image.flip(-1), image)
