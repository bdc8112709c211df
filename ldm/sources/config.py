"""The section of one data set: `datasets.NAME` in params.yaml."""

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from ldm.config import Section
from ldm.sources.palette import COLOURS, PAIRS, SHAPES

T = TypeVar("T")
Place = Annotated[str, Field(min_length=1)]
"""A file or folder below `raw`, with slashes; `.` is `raw` itself."""
Pattern = Annotated[str, Field(min_length=1)]
"""Names of files below `raw`: `*` stands for any characters, slashes too, so `*` alone for all files."""


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
    """Pictures and a file of captions, one row a picture: JSON lines, or .csv whose first row names the columns.

    A row names its picture, relative to this file, as `file`, `file_name` or `filename`. (COCO's own file: kind coco.)
    """

    kind: Literal["captions"]
    file: Place
    """.csv; any other ending is read as JSON lines such as {"file": "images/1.jpg", "caption": "..."}."""
    caption: list[str] = Field(min_length=1)
    """The keys of a row that make the caption, joined by commas: text, or (JSON) a list of words."""
    licence: str
    """For rows that have neither `licence` nor `attribution`."""


class Splits(Section, Generic[T]):
    """What each split is made of, as the data set's authors cut it."""

    train: T
    """Cut further by `validation` and `test`."""
    validation: T | None = None
    test: T | None = None

    def given(self) -> dict[str, T]:
        places = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: place for split, place in places.items() if place is not None}


class CocoFiles(Section):
    """The pictures of one split and what is known of them; at least one of the three."""

    pictures: Place
    """The folder in which a `file_name` is looked for, such as train2017."""
    instances: Place | None = None
    """The JSON of boxes, such as annotations/instances_train2017.json; boxes around crowds are left out."""
    captions: Place | None = None
    """The JSON of captions, such as annotations/captions_train2017.json; of several the one of lowest id is kept."""
    label_maps: Place | None = None
    """The folder of COCO-Stuff's PNGs, named as their pictures."""

    @model_validator(mode="after")
    def _something(self) -> "CocoFiles":
        if not (self.instances or self.captions or self.label_maps):
            raise ValueError("name at least one of instances, captions, label_maps; without any, say kind: folder")
        return self


class Coco(Section):
    """COCO: boxes, captions and label maps, any of them, joined by picture."""

    kind: Literal["coco"]
    splits: Splits[CocoFiles]
    label_map_classes: Place | None = None
    """The names of label maps' ids: a JSON list, JSON {id: name}, or text, a line each (`NAME` or `ID: NAME`)."""
    label_map_shift: Literal[0, 1] = 0
    """Added to each byte. 1: COCO-Stuff's own PNGs, 255 unlabelled; 0: ids 1 to 182, 0 unlabelled."""
    licence: str

    @model_validator(mode="after")
    def _alike(self) -> "Coco":
        for key in ("instances", "captions", "label_maps"):
            if len({getattr(files, key) is None for files in self.splits.given().values()}) > 1:
                raise ValueError(f"give {key} for every split or for none")
        if (self.splits.train.label_maps is None) != (self.label_map_classes is None):
            raise ValueError("label_maps and label_map_classes go together")
        return self


class OpenImagesFiles(Section):
    pictures: Place
    """The folder at or below which ImageID.jpg is looked for."""
    boxes: Place
    """Its csv: ImageID, LabelName, XMin, XMax, YMin, YMax, IsGroupOf among the columns."""


class OpenImages(Section):
    """Open Images: boxes around objects; those around groups (IsGroupOf) are left out."""

    kind: Literal["open_images"]
    splits: Splits[OpenImagesFiles]
    box_classes: Place
    """class-descriptions-boxable.csv: /m/..., name; no first row of column names."""
    licence: str


class LabelMapFolders(Section):
    pictures: Place
    label_maps: Place
    """The folder of PNGs, one byte a pixel, each named as its picture and of its size."""


class LabelMaps(Section):
    """Pictures and label maps side by side."""

    kind: Literal["label_maps"]
    splits: Splits[LabelMapFolders]
    label_map_classes: Place
    """The names of the ids: a JSON list, JSON {id: name}, or text, a line each (`NAME` or `ID: NAME`)."""
    licence: str


class Boxes(Section):
    """Pictures and a file of boxes [x, y, width, height] in parts of the picture's width and height.

    JSON lines {"file": "images/1.jpg", "boxes": [{"category": "dog", "box": [0.1, 0.2, 0.5, 0.5]}]}, or one .json
    {"images": [{"file": "images/1.jpg", "objects": [{"category": "dog", "box_xywh": [...]}]}]}.
    """

    kind: Literal["boxes"]
    file: Place
    """Pictures are named relative to it."""
    licence: str
    """For rows that have neither `licence` nor `attribution`."""


class Lmdb(Section):
    """LSUN's databases: each key's value is a picture file."""

    kind: Literal["lmdb"]
    splits: Splits[Place]
    """The folder of each database (in which data.mdb lies), such as church_outdoor_train_lmdb."""
    licence: str


class Parquet(Section):
    """Tables with a column of picture files, as Hugging Face writes them."""

    kind: Literal["parquet"]
    splits: Splits[Pattern]
    """The files of each split, such as data/train-*.parquet."""
    image: str = Field(min_length=1)
    """The column of pictures: a struct of bytes and path, or bytes."""
    label: str | None = None
    """The column of labels: text, or numbers, named where the file's metadata names them."""
    caption: str | None = None
    """The column of captions: text, or a list of texts, of which the first is kept."""
    id: str | None = None
    """The column of ids; without, a picture is known by the hash of its row."""
    licence: str


class WebDataset(Section):
    """Tar files in which KEY.jpg (.png, .webp, ...) lies beside KEY.txt, KEY.cls or KEY.json."""

    kind: Literal["webdataset"]
    splits: Splits[Pattern]
    """The tar files of each split, such as train-*.tar."""
    label: str | None = None
    """The ending that holds the label, such as `cls`, or a key in JSON, such as `json.label`."""
    caption: str | None = None
    """The ending that holds the caption, such as `txt`, or a key in JSON, such as `json.caption`."""
    licence: str


Source = Annotated[
    Drawn | Folder | ClassFolders | Captions | Coco | OpenImages | LabelMaps | Boxes | Lmdb | Parquet | WebDataset,
    Field(discriminator="kind"),
]


class Dataset(Section):
    """Pictures of one size, cut into parts."""

    raw: str
    """A folder, or a .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz; archives directly in the folder count as unpacked.

    (lmdb, parquet and webdataset read a folder's own files.)"""
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
        splits = getattr(self.source, "splits", None)
        if splits is not None and splits.test is not None and self.test > 0:
            raise ValueError("the test split is given in source.splits; set test: 0.0")
        return self
