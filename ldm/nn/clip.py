"""A frozen CLIP (arXiv 2103.00020) from a local folder: tokens of captions and of pictures, and how alike they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

import ldm.nn.vision  # noqa: F401  (transformers' CLIP imports torchvision, which that makes possible)
from ldm.nn.weights import weights

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPTokenizer

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that CLIP was trained on, in [0, 1]."""


class CLIP(nn.Module):
    """`text_width` and `image_width` are those of the tokens, `length` how many a caption has.

    `sha256` is that of the file of weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: "CLIPModel", tokenizer: "CLIPTokenizer", sha256: str) -> None:
        super().__init__()
        self.model, self.tokenizer, self.sha256 = model, tokenizer, sha256
        text, vision = model.text_model.config, model.vision_model.config
        self.text_width, self.image_width = text.hidden_size, model.config.projection_dim
        self.length, self.size = text.max_position_embeddings, vision.image_size
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])
        self.eval().requires_grad_(False)

    def text(self, captions: Sequence[str]) -> Float[Tensor, "b n width"]:
        """The last layer's tokens of each caption, normed; longer captions are cut."""
        return self.model.text_model(input_ids=self._ids(captions)).last_hidden_state

    def image(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 width"]:
        """The embedding of each picture in [-1, 1], in the space that pictures and captions share."""
        return self._embedded(image)[:, None]

    def similarity(self, image: Float[Tensor, "b 3 h w"], captions: Sequence[str]) -> Float[Tensor, " b"]:
        """Cosine between each picture in [-1, 1] and its caption; differentiable in the picture."""
        text = self.model.get_text_features(input_ids=self._ids(captions)).pooler_output
        return F.cosine_similarity(self._embedded(image), text)

    def _ids(self, captions: Sequence[str]) -> Tensor:
        rows = self.tokenizer(list(captions), padding="max_length", truncation=True, max_length=self.length)
        return torch.tensor(rows["input_ids"], device=self.mean.device)

    def _embedded(self, image: Tensor) -> Float[Tensor, "b width"]:
        pixels = (_central(image, self.size) + 1) / 2
        return self.model.get_image_features(pixel_values=(pixels - self.mean) / self.std).pooler_output


def load(folder: Path) -> CLIP | None:
    """The CLIP in `folder`, on the CPU; None for the folder named `none`.

    weights.json {kind: clip, file: model.safetensors, ...} stands beside config.json, vocab.json and merges.txt, as
    transformers saves them. Raises ValueError of one line where something is missing or does not fit.
    """
    found = weights(folder)
    if found is None:
        return None
    if found.kind != "clip":
        raise ValueError(
            f"{folder}: kind {found.kind} is not clip; name a folder of data/weights of kind clip, or none"
        )
    for name in ("config.json", "vocab.json", "merges.txt"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name}: missing; copy it there from {found.source}")
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    try:
        model = CLIPModel(CLIPConfig.from_pretrained(folder, local_files_only=True))
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises nothing narrower
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"{folder}: no CLIP in its JSON files ({reason}); copy them from {found.source}") from None
    known = model.text_model.config.vocab_size
    if len(tokenizer) != known:
        raise ValueError(
            f"{folder}: vocab.json makes {len(tokenizer)} tokens, config.json says {known}; "
            f"copy both from {found.source}"
        )
    state = {name: v.float() for name, v in load_file(found.path).items() if not name.endswith("position_ids")}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise found.misfit(error) from None
    return CLIP(model, tokenizer, found.sha256)


def _central(image: Float[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 size size"]:
    """The central square, its sides brought to `size` by antialiased bicubic.

    As two products of matrices, whose gradient is deterministic on every device; that of torch's resizing is not.
    """
    side = min(image.shape[2:])
    top, left = ((n - side) // 2 for n in image.shape[2:])
    eye = torch.eye(side, device=image.device, dtype=image.dtype)[None, None]
    reduce = F.interpolate(eye, size=(size, side), mode="bicubic", antialias=True)[0, 0]
    return reduce @ image[:, :, top : top + side, left : left + side] @ reduce.T
