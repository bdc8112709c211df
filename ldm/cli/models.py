"""A model that people name, with the first stage that belongs to it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ldm.autoencoder.model import FirstStage
from ldm.autoencoder.model import load as load_autoencoder
from ldm.cli.inputs import listed
from ldm.config import Run
from ldm.diffusion.model import DiffusionModel, load
from ldm.files import MANIFEST, identity, read_json
from ldm.nn.packed import packed
from ldm.training.exact import placed, setup

MODELS = Path("models")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A model and its first stage, frozen, on one device."""

    folder: Path
    model: DiffusionModel
    first_stage: FirstStage
    info: dict[str, Any]
    """latents.json of what it was trained on."""
    tokens: str
    """The kind of tokens it is told."""
    channels: str
    """The kind of channels it is shown."""
    device: torch.device

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def multiple(self) -> int:
        """Of which a sample's sides are multiples, in pixels."""
        return self.first_stage.factor * self.model.unet.config.factor


def open_model(model: str, autoencoder: str | None, snapshot: int | None, device: str) -> Opened:
    """Raises ValueError of one line where either is not there, or they do not belong together."""
    on = chosen_device(device)
    folder = find(model, MODELS / "diffusion")
    diffusion, about = load(folder, snapshot)
    coder = first_stage_of(folder, about, autoencoder)
    first_stage = load_autoencoder(coder)
    condition = about["diffusion"]["condition"]
    return Opened(
        folder=folder,
        model=packed(placed(diffusion, on)),
        first_stage=packed(placed(first_stage, on)),
        info=about["latents"],
        tokens=condition["tokens"]["kind"],
        channels=condition["channels"]["kind"],
        device=on,
    )


def chosen_device(device: str) -> torch.device:
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise ValueError("--device cuda: torch finds no GPU here; say --device cpu")
    return setup(
        Run(
            mode="exact",
            device="cuda" if there and device != "cpu" else "cpu",
            threads=torch.get_num_threads(),
            instructions="native",
        )
    )


@contextmanager
def enough_memory(device: torch.device) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch has an error of its own for a GPU's memory alone
        words = str(error).lower()
        on_cpu = "can't allocate memory" in words or "not enough memory" in words
        if not (on_cpu or isinstance(error, torch.OutOfMemoryError)):
            raise
        raise ValueError(
            f"not enough memory on {device.type}: say a smaller --batch, or --patches 256 --tile 256 for large pictures"
        ) from None


def find(name: str, table: Path) -> Path:
    """The folder `name`, or the one of that name in `table`."""
    for folder in (Path(name), table / name):
        if (folder / MANIFEST).is_file():
            return folder.resolve() if not folder.name else folder
    there = sorted(path.parent.name for path in table.glob(f"*/{MANIFEST}"))
    raise ValueError(f"{name}: no model there, nor in {table} (there is: {listed(there) or 'none'})")


def find_with_first_stage(model: str, autoencoder: str | None) -> tuple[Path, Path | None]:
    """A model's folder and its first stage's; a first stage of its own is alone."""
    if (
        not (MODELS / "diffusion" / model / MANIFEST).is_file()
        and (MODELS / "autoencoders" / model / MANIFEST).is_file()
    ):
        return MODELS / "autoencoders" / model, None
    folder = find(model, MODELS / "diffusion")
    about = read_json(folder / "config.json")
    if "diffusion" not in about:
        return folder, None
    return folder, first_stage_of(folder, about, autoencoder)


def first_stage_of(folder: Path, about: Mapping[str, Any], autoencoder: str | None) -> Path:
    """The folder of the first stage that a model was trained with. `about`: its config.json."""
    coder = _first_stage(folder, about["diffusion"]["autoencoder"], autoencoder)
    if identity(coder) != about["latents"]["autoencoder"]:
        raise ValueError(
            f"{coder} is not the first stage that {folder} was trained on (another hash); "
            "say which it is with --autoencoder"
        )
    return coder


def _first_stage(folder: Path, name: str, wanted: str | None) -> Path:
    table = folder.resolve().parent.parent / "autoencoders"
    if wanted is not None:
        return find(wanted, table if (table / wanted).is_dir() else MODELS / "autoencoders")
    coder = table / name
    if not (coder / MANIFEST).is_file():
        raise ValueError(
            f"{folder}: its first stage is missing, {coder}; bring it there, or name its folder with --autoencoder"
        )
    return coder
