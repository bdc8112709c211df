"""What a model was shown, as a person can look at it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from ldm.data.layouts import draw_layout
from ldm.data.pictures import from_image, grey
from ldm.data.samples import coloured

HOLE = 128


@torch.no_grad()
def shown(
    kinds: Mapping[str, str],
    inpainted: bool,
    rows: Mapping[str, Tensor],
    originals: Callable[[], UInt8[Tensor, "b 3 h w"]],
    info: dict[str, Any],
) -> UInt8[Tensor, "b 3 h w"] | None:
    """A picture for each row, on the CPU: of its channels, else of its boxes; None for labels, texts and nothing.

    `kinds` {tokens, channels}: of the model's condition. `inpainted`: with a hole, whether the model was told of it or
    not. `originals`: the rows' own pictures, asked for where something is hidden of them. `info`: latents.json of the
    rows.
    """
    if inpainted:
        return originals().masked_fill(rows["mask"][:, None] > 0, HOLE).cpu()
    match kinds["channels"]:
        case "low_resolution":
            return rows["low_resolution"].cpu()
        case "grey":
            return torch.stack([grey(picture) for picture in originals().cpu()])
        case "label_map":
            return torch.stack([coloured(label_map) for label_map in rows["label_map"].cpu()])
    if kinds["tokens"] == "layout":
        side = info["latent_shape"][-1] * info["factor"]
        return torch.stack([from_image(draw_layout(ids, info, side)) for ids in rows["layout"].cpu()])
    return None
