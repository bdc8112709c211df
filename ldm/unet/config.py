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
    heads: int | None = Field(default=None, ge=1)
    """Attention heads, the same number at every width. Either this or `head_channels`."""
    head_channels: int | None = Field(default=None, ge=1)
    """Channels of a head: wider levels have more heads."""
    transformer_depth: int = Field(ge=1)
    """Transformer blocks in each attention layer, where the condition has tokens."""
    dropout: float = Field(ge=0, lt=1)
    """In the residual blocks, before their last convolution."""
    scale_shift_norm: bool = False
    """The time embedding scales and shifts each residual block's second norm, instead of being added before it."""
    residual_updown: bool = False
    """Sizes change within residual blocks (average pooling, nearest neighbour), not by convolutions of their own."""
    norm_groups: int | None = Field(default=None, ge=1)
    """Groups of every norm, as diffusers must have them; null: up to 32, of at least four channels each."""
    checkpointing: bool = False
    """Keep only each block's input for the backward pass and compute the rest again: less memory, the same bytes."""

    @model_validator(mode="after")
    def _fits(self) -> "UNet":
        if (self.heads is None) == (self.head_channels is None):
            found = "neither" if self.heads is None else "both"
            raise ValueError(f"found {found} of heads and head_channels; give one, such as heads: 8")
        for level, width in enumerate(self.widths):
            if width != int(width):
                raise ValueError(f"channels x channel_mult gives a level of width {width:g}, not a whole number")
            attends = 2**level in self.attention_factors or level == len(self.widths) - 1
            if attends and int(width) % (self.heads or self.head_channels or 1):
                unit = f"heads {self.heads}" if self.heads else f"head_channels {self.head_channels}"
                raise ValueError(
                    f"channels x channel_mult gives a level of width {width:g} with attention, not a multiple of {unit}"
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

    def heads_of(self, width: int) -> int:
        """Attention heads of a layer of this width."""
        return width // self.head_channels if self.head_channels else self.heads or 1
