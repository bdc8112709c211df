"""The section of one data set: `datasets.NAME` in params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ldm.config import Section
from ldm.sources.palette import COLOURS, PAIRS, SHAPES


class Drawn(Section):
    """Scenes of coloured shapes, drawn here: nothing to download, and everything about them is known."""

    kind: Literal["drawn"]
    count: int = Field(ge=1, le=10_000_000)
    objects: int = Field(ge=1, le=4)
    """How many shapes each scene shows; they never overlap. With one, its class is the scene's label."""
    seed: int = Field(ge=0)
    held_out: list[str]
    """Pairs such as `red triangle`: scenes that show one are the split held_out and never trained on."""

    @field_validator("held_out")
    @classmethod
    def _known_pairs(cls, pairs: list[str]) -> list[str]:
        for pair in pairs:
            if pair not in PAIRS:
                known = f"a colour ({', '.join(COLOURS)}) and a shape ({', '.join(SHAPES)})"
                raise ValueError(f"'{pair}' is not {known}, such as 'red circle'")
        if len(set(pairs)) > len(PAIRS) // 2:
            raise ValueError(f"at most {len(PAIRS) // 2} of the {len(PAIRS)} pairs can be held out")
        return pairs


class Folder(Section):
    """Every picture at or below `raw`, without label or caption."""

    kind: Literal["folder"]
    given_splits: bool
    """The first folder named train, validation (valid, val) or test on a picture's path is its split."""
    licence: str
    """Of all its pictures; empty where unknown."""


class ClassFolders(Section):
    """Pictures in folders named after their class: .../cat/1.jpg, or .../train/cat/1.jpg with given splits."""

    kind: Literal["class_folders"]
    given_splits: bool
    licence: str


class Captions(Section):
    """Pictures and a file of JSON lines, one a picture: {"file": "images/1.jpg", "caption": "...", ...}."""

    kind: Literal["captions"]
    file: str = Field(min_length=1)
    """Its path below `raw`. Each line names its picture, relative to this file, as `file` or `file_name`."""
    caption: list[str] = Field(min_length=1)
    """The keys of a line that make the caption, joined by commas: text, or a list of words."""
    licence: str
    """For lines that have neither `licence` nor `attribution`."""


Source = Annotated[Drawn | Folder | ClassFolders | Captions, Field(discriminator="kind")]


class Dataset(Section):
    """Pictures of one size, cut into parts."""

    raw: str
    """A folder, or a .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz; archives directly in the folder count as unpacked."""
    source: Source
    size: int = Field(ge=8, le=2048)
    """Pixels a side: the short side after antialiased bicubic resizing, then the central square."""
    validation: float = Field(ge=0, lt=1)
    """Part of the pictures held back to watch a training, beside a given validation split; 0: none."""
    test: float = Field(ge=0, lt=1)
    """Part of the pictures never trained on; 0 where the source gives its own test split."""
    on_bad_image: Literal["stop", "skip"]
    """A picture that is corrupt or smaller than `size`: stop and name it, or skip it and list it in dataset.json."""

    @model_validator(mode="after")
    def _parts(self) -> "Dataset":
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} and test {self.test} leave nothing to train on")
        if getattr(self.source, "given_splits", False) and self.test > 0:
            raise ValueError("with source.given_splits the test split is given; set test: 0.0")
        return self
