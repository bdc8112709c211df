"""The UNet's section of params.yaml."""

from pydantic import Field, model_validator

from ldm.config import Section


class UNet(Section):
    """Widths and blocks. The channels in and out follow from the latents and the condition."""

    channels: int = Field(ge=4)
    """Width of the first level."""
    channel_mult: list[float] = Field(min_length=1)
    """Width of each level as a multiple of `channels`; one level more halves the size once more."""
    num_res_blocks: int = Field(ge=1)
    """Residual blocks a level on the way down; one more on the way up."""
    attention_factors: list[int]
    """Downsampling factors (1, 2, 4, ...) of the levels with attention; the middle always has it."""
    heads: int = Field(ge=1)
    transformer_depth: int = Field(ge=1)
    """Transformer blocks in each attention layer, where the condition has tokens."""
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> "UNet":
        for width in self.widths:
            if width != int(width) or int(width) % self.heads:
                raise ValueError(
                    f"channels x channel_mult gives a level of width {width:g}, not a multiple of heads {self.heads}"
                )
        unused = set(self.attention_factors) - {2**level for level in range(len(self.channel_mult))}
        if unused:
            raise ValueError(f"attention_factors has {sorted(unused)}, but the levels' factors are 1 to {self.factor}")
        return self

    @property
    def widths(self) -> list[float]:
        return [self.channels * m for m in self.channel_mult]

    @property
    def factor(self) -> int:
        """Latent sizes must be multiples of this."""
        return 2 ** (len(self.channel_mult) - 1)
