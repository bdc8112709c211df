"""A picture as one token from a frozen CLIP, computed when latents are cached: for variations of it."""

from typing import Any, Literal

from ldm.conditioning.part import Dropping, Embedded


class Config(Dropping):
    kind: Literal["clip_image"]


class Module(Embedded):
    def __init__(self, config: Config, info: dict[str, Any]) -> None:
        super().__init__("clip_image", info)
