"""Files of weights: our own, and foreign ones in folders of data/weights.

Such a folder holds a file and weights.json {kind, file, sha256, source} to check it by.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ldm.config import Section, check
from ldm.files import MANIFEST, check_whole, read_json, sha256

Kind = Literal["inception", "vgg16", "alexnet", "squeezenet", "cifar_resnet56", "clip"]

PUBLISHED = {
    "inception": "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "vgg16": "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    "alexnet": "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
}
"""sha256 of the files that published figures are computed with: torch-fidelity's weights-inception-2015-12-05, and
torchvision's vgg16-397923af and alexnet-owt-7be5be79. Only with these may a figure be called fid or lpips."""


class Manifest(Section):
    """weights.json of a weights folder."""

    kind: Kind
    """Which network the file fits."""
    file: str = Field(min_length=1)
    """Name of the file beside weights.json: a state dict as `torch.save` or, of CLIP, safetensors writes it."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Hash that the file must have."""
    source: str
    """Where the file comes from, for people."""


@dataclass(frozen=True)
class Weights:
    """A file of foreign weights whose hash has been checked."""

    kind: Kind
    path: Path
    sha256: str
    source: str

    @property
    def published(self) -> bool:
        """Whether this is the very file that published figures are computed with."""
        return PUBLISHED.get(self.kind) == self.sha256

    def state_dict(self) -> dict[str, Tensor]:
        """The float32 tensors of the file, on the CPU. Only tensors are read: nothing in the file is executed."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(f"{self.path}: not a file of weights ({' '.join(str(error).split())[:120]})") from None
        state = state.get("state_dict", state) if isinstance(state, Mapping) else state
        if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError(f"{self.path}: not a state dict; expected names and tensors")
        return {k.removeprefix("module."): v.float() if v.is_floating_point() else v for k, v in state.items()}

    def misfit(self, error: Exception) -> ValueError:
        """The one line for a file that holds the weights of another network."""
        reason = " ".join(str(error).split())[:160]
        return ValueError(f"{self.path}: does not fit kind {self.kind} ({reason}); mend kind in weights.json")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, on the CPU. Raises ValueError of one line where it is missing or damaged.

    Where the folder has a manifest, damaged is also what is not the file that it lists.
    """
    try:
        tensors = load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"{path}: its weights cannot be read ({reason}); fetch them again (dvc pull), or delete {path.parent} and "
            "make it again (dvc repro)"
        ) from None
    if (path.parent / MANIFEST).is_file():
        check_whole(path.parent, [path])
    return tensors


def load_into(model: nn.Module, path: Path) -> None:
    """Give `model`, which the config.json beside `path` describes, the tensors of `path`.

    Raises ValueError of one line where the file is damaged, or holds other tensors than the model has.
    """
    given, wanted = read_tensors(path), model.state_dict()
    for name in (*wanted, *(name for name in given if name not in wanted)):
        here, there = (list(state[name].shape) if name in state else "absent" for state in (given, wanted))
        if here != there:
            raise ValueError(
                f"{path.parent}: {path.name} does not fit config.json: {name} is {here}, not {there}; "
                "bring both from one training, or train it again (dvc repro)"
            )
    model.load_state_dict(given)


def weights(folder: Path) -> Weights | None:
    """The checked weights in `folder`; None for the folder named `none`.

    Raises ValueError of one line where the folder, its weights.json or its file is missing, or the hash differs.
    """
    if folder.name == "none":
        return None
    if not (folder / "weights.json").is_file():
        raise ValueError(f"{folder}: no weights.json; name a folder of data/weights that has one, or none")
    about = check(read_json(folder / "weights.json"), Manifest, folder.name, file=str(folder / "weights.json"))
    path = folder / about.file
    if not path.is_file():
        raise ValueError(f"{path}: missing; fetch it (dvc pull) from {about.source}")
    found = sha256(path)
    if found != about.sha256:
        raise ValueError(f"{path}: hash {found[:12]}..., but weights.json says {about.sha256[:12]}...; fetch it again")
    return Weights(about.kind, path, found, about.source)
