"""No tokens."""

from typing import Literal

from ldm.conditioning.part import Nothing
from ldm.config import Section


class Config(Section):
    kind: Literal["none"]


Module = Nothing
