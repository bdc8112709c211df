"""The sample stage: pictures from a trained model under the conditions of a data set's split."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ldm.autoencoder.model import FirstStage
from ldm.autoencoder.model import load as load_autoencoder
from ldm.config import Run
from ldm.data.latents import Latents
from ldm.data.samples import write_samples
from ldm.diffusion.model import DiffusionModel, load
from ldm.files import fresh_folder, identity, whole, write_json, write_manifest
from ldm.nn.packed import packed
from ldm.nn.weights import weights as foreign
from ldm.progress import Progress
from ldm.sampling.config import Samples
from ldm.sampling.fit import check_classifier, check_latents
from ldm.sampling.guides import networks
from ldm.sampling.plan import check, picture_size, step_list
from ldm.sampling.sheet import sheet
from ldm.sampling.work import Work
from ldm.training.exact import placed, setup
from ldm.training.several import Processes


def sample(
    config: Samples,
    run: Run,
    model: Path,
    autoencoder: Path,
    latents: Path,
    weights: Path,
    classifier: Path,
    out: Path,
    resume: Path,
) -> Iterator[Progress]:
    """Draw `config.count` samples and write them to `out`; batches found in `resume` are not drawn again.

    Beside the models, what is in memory does not grow with the count. Of several processes each draws every so many-th
    batch, and the first writes.
    """
    processes = Processes(setup(run))
    processes.join()
    work = planned(config, run, model, autoencoder, latents, weights, classifier, resume)
    for start in work.starts()[processes.rank :: processes.count]:
        drawn, _ = work.batch(start)
        last = sheet([(picture, None) for picture in drawn])
        done = min(start + processes.count * config.batch, config.count)  # the others are about as far
        yield Progress(done=done, total=config.count, unit="samples", pictures={"samples": last})

    processes.leave()
    if not processes.first:
        return
    fresh_folder(out)
    write_samples(out, work.samples())
    with whole(out / "sheet.png") as beside:
        sheet(work.first()).save(beside, format="png")
    of: dict[str, Any] = {
        "method": "model",
        "model_identity": identity(model),
        "autoencoder_identity": identity(autoencoder),
        "condition": dict(work.kinds),
    }
    if config.classifier != "none":
        of |= {"classifier": config.classifier, "classifier_identity": identity(classifier)}
    if config.split == "train" and work.data.info.get("random_views"):
        of["random_views"] = True  # the pictures of these rows are mirrored or cropped as training drew them
    write_json(out / "sampling.json", _options(config, work.model, work.first_stage, weights) | of)
    write_manifest(out)
    shutil.rmtree(resume)


def planned(
    config: Samples,
    run: Run,
    model: Path,
    autoencoder: Path,
    latents: Path,
    weights: Path,
    classifier: Path,
    resume: Path,
) -> Work:
    """The batches to draw, each the same in whatever process and order it is drawn; they are kept in `resume`.

    Raises ValueError of one line where the models and the latents do not fit `config`.
    """
    device = setup(run)
    diffusion, about = load(model, config.snapshot)
    diffusion, first_stage = packed(placed(diffusion, device)), packed(placed(load_autoencoder(autoencoder), device))
    if run.precision == "bfloat16":
        diffusion.in_half()
    data = Latents(latents, config.split)
    check_latents(config, model, about, identity(autoencoder), data)
    check(diffusion, first_stage, config)
    found = networks(config, weights, classifier, device)
    if found.classifier is not None:
        check_classifier(found.classifier, classifier, diffusion, data.info, data.folder)
    return Work(
        config=config,
        model=diffusion,
        first_stage=first_stage,
        data=data,
        networks=found,
        kinds={part: about["diffusion"]["condition"][part]["kind"] for part in ("tokens", "channels")},
        folder=resume,
    )


def _options(config: Samples, model: DiffusionModel, first_stage: FirstStage, weights: Path) -> dict[str, Any]:
    """How the pictures were drawn: every option that had an effect."""
    options = config.model_dump(exclude={"autoencoder", "latents", "batch", "weights", "classifier"}, exclude_none=True)
    options["sampler"]["num_steps"] = len(step_list(len(model.schedule), config))
    if not config.keep_known:
        del options["keep_known"]
    if config.tile is not None and max(picture_size(model, first_stage.factor, config)) <= config.tile:
        del options["tile"]
    if found := foreign(weights):
        options |= {"weights": config.weights, "weights_sha256": found.sha256}
    return options
