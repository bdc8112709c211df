"""What every kind of condition is: a section that names it, and a module that makes tokens or channels."""

from typing import Any

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

    def forward(
        self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]
    ) -> Float[Tensor, "b ..."] | None:
        """The condition of each row, or the null condition where it is `dropped`; channels at the latent's `size`."""
        raise TypeError(f"{type(self).__name__} makes no condition")


class Nothing(Part):
    """No condition of this sort."""

    width = 0

    def __init__(self, config: Section, info: dict[str, Any]) -> None:
        super().__init__()

    def forward(self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]) -> None:
        return None
