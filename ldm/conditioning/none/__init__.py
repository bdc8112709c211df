"""No condition."""

from jaxtyping import Bool
from torch import Tensor

from ldm.conditioning import Conditioner
from ldm.config import Section
from ldm.nn.condition import Condition


class Config(Section):
    """Nothing to choose."""


class Unconditional(Conditioner):
    token_width = 0
    channels = 0

    def forward(self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]) -> Condition:
        return Condition()
