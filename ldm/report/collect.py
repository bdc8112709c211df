"""What a run has made so far, by the names in params.yaml: read and checked, nothing drawn or worded here.

A stage that has not run (no manifest.json, which is written last) has no entry; leftovers of names that params.yaml no
longer holds are not looked at; a file that is there and broken is a ValueError of one line.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ldm.config import load
from ldm.files import MANIFEST, check_whole, identity
from ldm.report.rates import RATES, Rates
from ldm.report.records import Record, parameter_count, read_history, read_record

PREFERENCES = "preferences.json"
T = TypeVar("T")
READ = (".json", ".csv", ".png")
"""Endings of files that are read whole; shards are compared with their manifest where one is opened."""
History = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """data/prepared/NAME"""

    name: str
    section: Record
    about: Record
    folder: Path

    def shards(self, split: str) -> list[Path]:
        return sorted(self.folder.glob(f"{split}-*.parquet"))


@dataclass(frozen=True, kw_only=True)
class Model:
    """models/autoencoders/NAME or models/diffusion/NAME; an identity autoencoder has no history and no parameters."""

    name: str
    section: Record
    config: Record
    history: History
    parameters: int
    picture: Path | None


@dataclass(frozen=True, kw_only=True)
class Latents:
    """data/latents/NAME"""

    name: str
    section: Record
    about: Record


@dataclass(frozen=True, kw_only=True)
class Samples:
    """samples/NAME: of a model, or of a method that needs none (a row of `methods`)."""

    name: str
    section: Record
    about: Record
    folder: Path

    def shards(self) -> list[Path]:
        return sorted(self.folder.glob("samples-*.parquet"))

    @property
    def method(self) -> str:
        """model | folder | bicubic"""
        return str(self.about.get("method", "model"))

    def told(self, part: str) -> str:
        """The kind of condition in `part` (tokens, channels) that the sampling was told, as sampling.json says."""
        return self.about.table("condition").text(part)


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """metrics/NAME.json or metrics/autoencoders/NAME.json"""

    name: str
    section: Record
    figures: Record
    intervals: Record
    """[low, high] of the figures that have a 95 % interval."""
    about: Record


@dataclass(frozen=True, kw_only=True)
class Study:
    """studies/NAME: its public side and its key, and where the owner put it, what `ldm study score` made of answers"""

    name: str
    section: Record
    key: Record
    preferences: Record | None

    @property
    def scored(self) -> Record | None:
        """The preferences, where they are of this very export."""
        own = self.preferences is not None and self.preferences.text("study") == self.key.text("study")
        return self.preferences if own else None


@dataclass(kw_only=True)
class Results:
    params: Record
    params_text: str
    identities: dict[str, str] = field(default_factory=dict)
    """The hash of each folder's manifest, by the folder's path below the root."""
    datasets: dict[str, Prepared] = field(default_factory=dict)
    autoencoders: dict[str, Model] = field(default_factory=dict)
    latents: dict[str, Latents] = field(default_factory=dict)
    diffusion: dict[str, Model] = field(default_factory=dict)
    samples: dict[str, Samples] = field(default_factory=dict)
    autoencoder_metrics: dict[str, Metrics] = field(default_factory=dict)
    metrics: dict[str, Metrics] = field(default_factory=dict)
    studies: dict[str, Study] = field(default_factory=dict)
    rates: Rates

    def is_regression(self, samples: Samples) -> bool:
        """Whether they are of a model that was trained to give the mean in one pass."""
        model = self.params.table("diffusion").table(str(samples.section.get("model")))
        return model.table("schedule").get("kind") == "regression"


def collect(root: Path) -> Results:
    """Read everything that the stages of `root`/params.yaml have written below `root`."""
    path = root / "params.yaml"
    params = Record(load(path), path)
    measured = read_record(root / RATES) if (root / RATES).is_file() else Record({}, root / RATES)
    rates = Rates(params=params, measured=measured)
    results = Results(params=params, params_text=path.read_text(encoding="utf-8"), rates=rates)

    def folders(table: str, place: str, read: Callable[[str, Record, Path], T]) -> dict[str, T]:
        found = {}
        for name in params.table(table):
            folder = root / place / name
            if (folder / MANIFEST).is_file():
                results.identities[f"{place}/{name}"] = identity(folder)
                listed = (file for file in sorted(folder.iterdir()) if file.suffix in READ and file.name != MANIFEST)
                check_whole(folder, listed)
                found[name] = read(name, params.table(table).table(name), folder)
        return found

    def metrics(table: str, place: Path) -> dict[str, Metrics]:
        sections = params.table("evaluation").table(table)
        files = {name: place / f"{name}.json" for name in sections}
        return {n: _metrics(n, sections.table(n), file) for n, file in files.items() if file.is_file()}

    results.datasets = folders("datasets", "data/prepared", _prepared)
    results.autoencoders = folders("autoencoders", "models/autoencoders", _autoencoder)
    results.latents = folders("latents", "data/latents", _latents)
    results.diffusion = folders("diffusion", "models/diffusion", _diffusion)
    results.samples = folders("samples", "samples", _samples) | folders("methods", "samples", _samples)
    for name in params.table("evaluation").table("references"):
        if (root / "metrics" / "reference" / name / MANIFEST).is_file():
            results.identities[f"metrics/reference/{name}"] = identity(root / "metrics" / "reference" / name)
    results.autoencoder_metrics = metrics("autoencoders", root / "metrics" / "autoencoders")
    results.metrics = metrics("samples", root / "metrics")
    for name in params.table("studies"):
        if (root / "studies" / name / "public" / MANIFEST).is_file():
            results.identities[f"studies/{name}/public"] = identity(root / "studies" / name / "public")
            results.studies[name] = read_study(name, params.table("studies").table(name), root / "studies" / name)
    return results


def _prepared(name: str, section: Record, folder: Path) -> Prepared:
    return Prepared(name=name, section=section, about=read_record(folder / "dataset.json"), folder=folder)


def _autoencoder(name: str, section: Record, folder: Path) -> Model:
    identity_kind = section.text("kind") == "identity"
    return Model(
        name=name,
        section=section,
        config=read_record(folder / "config.json"),
        history={} if identity_kind else read_history(folder / "history.csv"),
        parameters=0 if identity_kind else parameter_count(folder / "model.safetensors"),
        picture=None if identity_kind else folder / "reconstructions.png",
    )


def _latents(name: str, section: Record, folder: Path) -> Latents:
    return Latents(name=name, section=section, about=read_record(folder / "latents.json"))


def _diffusion(name: str, section: Record, folder: Path) -> Model:
    config = read_record(folder / "config.json")
    parts = config.table("parameters")
    return Model(
        name=name,
        section=section,
        config=config,
        history=read_history(folder / "history.csv"),
        parameters=sum(parts.count(part) for part in parts),
        picture=None if section.get("objective") == "label" else folder / "samples.png",  # a classifier draws nothing
    )


def _samples(name: str, section: Record, folder: Path) -> Samples:
    return Samples(name=name, section=section, about=read_record(folder / "sampling.json"), folder=folder)


def read_study(name: str, section: Record, folder: Path) -> Study:
    """The study exported to `folder`, studies/NAME."""
    scored = folder / PREFERENCES
    preferences = read_record(scored) if scored.is_file() else None
    return Study(name=name, section=section, key=read_record(folder / "key.json"), preferences=preferences)


def _metrics(name: str, section: Record, path: Path) -> Metrics:
    record = read_record(path)
    if "figures" not in record:
        raise ValueError(f"{path}: figures: missing; run the stage that writes it again")
    parts = {part: record.table(part) for part in ("figures", "intervals", "about")}
    return Metrics(name=name, section=section, **parts)
