"""A caption's tokens from a frozen CLIP, computed when latents are cached (as in Stable Diffusion)."""

from typing import Any, Literal

from ldm.conditioning.part import Dropping, Embedded


class Config(Dropping):
    kind: Literal["clip_text"]


class Module(Embedded):
    def __init__(self, config: Config, info: dict[str, Any]) -> None:
        super().__init__("clip_text", info)
