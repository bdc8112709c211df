"""What every kind of condition is: a section that names it, and a module that makes tokens or channels."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from ldm.config import Section


class Dropping(Section):
    """What the sections of all kinds but `none` have in common; each adds its `kind`."""

    drop: float = Field(ge=0, le=1)
    """How often a picture is trained on the null condition, which guidance needs."""


class Part(nn.Module):
    """Tokens or channels; `width` is that of the tokens, or the number of channels."""

    width: int
    reads: tuple[str, ...]
    """The columns of its rows that it needs."""

    def forward(
        self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]
    ) -> Float[Tensor, "b ..."] | None:
        """The condition of each row, or the null condition where it is `dropped`; channels at the latent's `size`."""
        raise TypeError(f"{type(self).__name__} makes no condition")


class Nothing(Part):
    """No condition of this sort."""

    width = 0
    reads = ()

    def __init__(self, config: Section, info: dict[str, Any]) -> None:
        super().__init__()

    def forward(self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]) -> None:
        return None


class Embedded(Part):
    """Tokens as they were cached, of a frozen CLIP. Null is a learned token, also where a row has only zeros."""

    def __init__(self, column: str, info: dict[str, Any]) -> None:
        super().__init__()
        if column not in info["shapes"]:
            raise ValueError(
                f"condition.tokens: {column} needs latents with CLIP's embeddings "
                "(latents: clip: a folder of data/weights of kind clip)"
            )
        self.column = column
        self.reads = (column,)
        self.width = info["shapes"][column][-1]
        self.null = nn.Parameter(torch.zeros(self.width))

    def forward(
        self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]
    ) -> Float[Tensor, "b n width"]:
        tokens = rows[self.column]
        absent = dropped | (tokens == 0).flatten(1).all(1)
        return torch.where(absent[:, None, None], self.null, tokens)


def resized(x: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c h2 w2"]:
    """`x` at the latent's `size`, as it is where it has it: it differs where a model samples larger than it trained."""
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", antialias=True)
