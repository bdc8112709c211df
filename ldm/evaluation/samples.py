"""The evaluate stage: figures of samples, against real pictures and against what each sample was made from."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq

from ldm.config import Run
from ldm.evaluation.clip_score import ClipScore
from ldm.evaluation.colour import CaptionColourFigure
from ldm.evaluation.config import SampleEvaluation, Split
from ldm.evaluation.features import extractor
from ldm.evaluation.fidelity import Fidelity
from ldm.evaluation.figure import Figure, Row, pictures
from ldm.evaluation.neighbours import Neighbours
from ldm.evaluation.paired import Holes, Paired
from ldm.evaluation.reconstruction import PerceptualDistance
from ldm.evaluation.shared import Measured, shared
from ldm.evaluation.statistics import check_comparable, check_side, padded, rounded
from ldm.files import check_whole, identity, read_json, write_json
from ldm.progress import Progress
from ldm.training.exact import setup
from ldm.training.several import Processes

COLUMNS = ["id", "seed", "image", "caption", "low_resolution", "mask"]
FEWEST = 8


def evaluate(
    config: SampleEvaluation,
    run: Run,
    samples: Path,
    images: Path,
    reference: Path,
    features: Path,
    perceptual: Path,
    clip: Path,
    out: Path,
) -> Iterator[Progress]:
    """Measure the samples in the folder `samples` and write {figures, intervals, about} to the file `out`.

    Samples are a model's or another method's. `images` are the prepared pictures that their conditions came from,
    `reference` a folder that the reference stage wrote with the same `features`, `clip` the weights that captions are
    held against pictures with. The figures are those named in `config.figures`. In memory are one batch of pictures and
    numbers of the others. Processes share the batches, and the first writes.
    """
    device = setup(run)
    processes = Processes(device)
    processes.join()
    identity(samples)
    sampling = read_json(samples / "sampling.json")
    _check(config, samples, sampling)
    split, extract = sampling["split"], extractor(features, device)
    choose: dict[str, Callable[[], Figure]] = {
        "fidelity": lambda: Fidelity(reference, extract, device),
        "paired": lambda: Paired(
            images,
            split,
            PerceptualDistance(perceptual, device),
            Holes(reference, extract, device) if _filled(sampling) else None,
        ),
        "caption_colour": lambda: CaptionColourFigure(images, split),
        "clip_score": lambda: ClipScore(clip, device),
        "neighbours": lambda: Neighbours(images, extract, device, config.batch),
    }
    made = {name: choose[name]() for name in config.figures}
    files = sorted(samples.glob("samples-*.parquet"))
    check_whole(samples, files)
    total, done = sum(pq.read_metadata(file).num_rows for file in files), 0
    if total < FEWEST:
        raise ValueError(f"{samples}: {total} samples; figures need at least {FEWEST}")
    side = _side(config, sampling, images, reference)

    def measure(chunk: Sequence[Row]) -> Measured:
        pixels = padded(pictures(chunk), config.batch)
        if side:
            check_side(reference, side, *pixels.shape[2:])
        return {
            f"{name}.{key}": tensor
            for name, figure in made.items()
            for key, tensor in figure.measure(pixels, chunk).items()
        }

    rows = (row for file in files for row in _rows(file))
    chunks = iter(lambda: list(itertools.islice(rows, config.batch)), [])
    for chunk, measured in shared(chunks, measure, processes):
        for name, figure in made.items():
            figure.add(chunk, {key[len(name) + 1 :]: of for key, of in measured.items() if key.startswith(f"{name}.")})
        done += len(chunk)
        yield Progress(done=done, total=total, unit="pictures")
    for figure in made.values():
        figure.complete(processes)
    processes.leave()
    if not processes.first:
        return
    found = made.values()
    figures = {key: rounded(value) for figure in found for key, value in figure.figures().items()}
    intervals = {key: [rounded(end) for end in ends] for figure in found for key, ends in figure.intervals().items()}
    about: dict[str, Any] = {"count": total, "batch": config.batch, "sampling": sampling, "samples": identity(samples)}
    for figure in found:
        about |= figure.about()
    write_json(out, {"figures": figures, "intervals": intervals, "about": about})


def _filled(sampling: Mapping[str, Any]) -> bool:
    """Whether a hole was filled: by a model that is told of it, or by any other that keeps what is known."""
    return sampling["condition"]["channels"] == "mask" or bool(sampling.get("keep_known"))


def _side(config: SampleEvaluation, sampling: Mapping[str, Any], images: Path, reference: Path) -> int | None:
    """Pixels a side of the reference, which must suit the samples; None where no figure is held against it.

    Conditions of one split make samples like the pictures of that split. Against training pictures every model may be
    measured, and one that is told nothing against any split.
    """
    if "fidelity" not in config.figures and not ("paired" in config.figures and _filled(sampling)):
        return None
    told = any(kind != "none" for kind in sampling["condition"].values()) or _filled(sampling)
    splits = {sampling["split"], "train"} if told else set(get_args(Split))
    return check_comparable(reference, images, splits)


def _check(config: SampleEvaluation, samples: Path, sampling: Mapping[str, Any]) -> None:
    """Refuse figures that these samples cannot have."""
    from_pictures = sampling["condition"]["channels"] != "none" or _filled(sampling)
    if "paired" in config.figures and not from_pictures:
        raise ValueError(f"{samples}: paired figures need samples made from a picture; leave paired out of figures")
    if "paired" in config.figures and sampling.get("random_views"):
        raise ValueError(
            f"{samples}: made from training pictures as they were mirrored or cropped, which are not the originals; "
            "leave paired out of figures, or sample another split"
        )
    if "neighbours" in config.figures and from_pictures and sampling["split"] == "train":
        raise ValueError(
            f"{samples}: made from training pictures, which they resemble whatever the model remembers; "
            "leave neighbours out of figures, or sample another split"
        )


def _rows(file: Path) -> Iterator[Row]:
    with pq.ParquetFile(file) as shard:
        for group in shard.iter_batches(batch_size=64, columns=COLUMNS, use_threads=False):
            yield from group.to_pylist()
