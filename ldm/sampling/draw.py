"""Drawing pictures from a model: all that the sample stage and the command line have in common."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ldm.autoencoder.model import FirstStage
from ldm.autoencoder.tiled import decode_tiled
from ldm.conditioning import nothing_dropped, null_dropped
from ldm.data.pictures import to_float, to_uint8
from ldm.data.randomness import noise
from ldm.diffusion.model import Denoise, DiffusionModel
from ldm.diffusion.schedule import Schedule
from ldm.sampling.classifier_guidance import classifier_guided, label_likelihood
from ldm.sampling.config import DDIM, DDPM, PLMS, ClassifierGuide, DPMSolver, Drawing, PictureGuide, SmallGuide
from ldm.sampling.guidance import guided
from ldm.sampling.guides import Networks, distance, original, paint
from ldm.sampling.image_guidance import Pictures, image_guided
from ldm.sampling.inpainting import known_kept, latent_hole, pasted
from ldm.sampling.patches import Denoiser, patched
from ldm.sampling.plan import check, check_rows, evaluations, picture_size, step_list
from ldm.sampling.samplers import Latent, StepNoise, ddim, ddpm, dpm_solver, plms

NO_NETWORKS = Networks()


@dataclass(frozen=True)
class Step:
    """Where drawing stands: after the last one, `done == total`."""

    done: int
    total: int
    latent: Latent
    """What the sampler expects to come to; at the end the sample, scaled as the UNet sees it."""
    pictures: Callable[[], UInt8[Tensor, "b 3 H W"]]
    """Decode it, on the CPU. This costs a pass of the decoder, so it is done only when asked for."""


@torch.no_grad()
def draw(
    model: DiffusionModel,
    first_stage: FirstStage,
    rows: dict[str, Tensor],
    numbers: Sequence[int],
    how: Drawing,
    *,
    paste: bool = False,
    networks: Networks = NO_NETWORKS,
    prompts: Sequence[str] = (),
) -> Iterator[Step]:
    """Draw one picture for each of `numbers`, step by step; the last Step's pictures are the samples.

    >>> (last,) = deque(draw(model, first_stage, rows, range(8), how), maxlen=1)
    >>> last.pictures()  # uint8, 8 x 3 x H x W

    `model` (`ldm.diffusion.model.load`) and `first_stage` (`ldm.autoencoder.model.load`) are frozen and on one device.

    `numbers`: with `how.seed` they key the noise, each its own: sample 17 of seed 7 starts from the same noise alone or
    among others. Sums of floats differ a little between batch sizes, so equal bytes need equal batch sizes.

    `rows`: columns of `ldm.data.latents.DTYPES`, one row a number, on the same device. Read are those of the model's
    condition (tokens, layout, clip_text, clip_image, label; low_resolution, label_map, mask with masked, grey; none for
    an unconditional model), and beside them
    - `start`, `keep_known`, `paste`, and guides of kind identity, grey and masked: the picture, as `pixels` where the
      autoencoder is the identity, else as raw latent `mean` (its posterior's mean), at the sampled size;
    - `keep_known`, `paste` and a masked guide: `mask`, 1 in the hole;
    - a guide of kind low_resolution: `low_resolution`;
    - a guide of kind classifier: `label`.
    `picture` (uint8, b x 3 x H x W) may be there too: what is pasted or compared is then the picture itself rather
    than what the autoencoder makes of it.

    `paste`: inpainting; the pictures' known pixels are put back after decoding, to the byte.
    `networks`: what a perceptual, CLIP or classifier guide asks (`ldm.sampling.guides.networks`).
    `prompts`: one text a number, for a CLIP guide without a prompt of its own.

    Raises ValueError of one line for what the model cannot do or rows do not have, before anything is drawn.
    """
    check(model, first_stage, how)
    check_rows(rows, model, first_stage, how, paste)
    total, done, small = evaluations(model, how), 0, None
    if isinstance(how.guide, SmallGuide):
        alone = how.model_copy(update={"size": None, "guide": None, "patches": None})
        for step in draw(model, first_stage, rows, numbers, alone):
            done = step.done
            yield Step(done, total, step.latent, step.pictures)
        small = paint(first_stage, model.scale.inverse(step.latent)).clamp(-1, 1)

    height, width = picture_size(model, first_stage.factor, how)
    shape = (model.shape[0], height // first_stage.factor, width // first_stage.factor)
    device = model.scale.shift.device
    schedule = model.schedule.to(device)

    def keyed(*step: int) -> Latent:
        return torch.stack([noise(shape, how.seed, number, *step) for number in numbers]).to(device)

    def pictures(latent: Latent) -> UInt8[Tensor, "b 3 H W"]:
        decoded = to_uint8(_decode(first_stage, model.scale.inverse(latent), how.tile))
        return (pasted(decoded, original(first_stage, rows), rows["mask"]) if paste else decoded).cpu()

    denoise = _conditioned(model, first_stage, rows, len(numbers), how, shape[1:])
    denoise = _held(denoise, model, first_stage, rows, how, small, networks, prompts)
    begin = _latent(model, rows) if how.start is not None else None
    for latent in _path(denoise, begin, schedule, how, keyed):
        done += 1
        yield Step(done, total, latent, torch.no_grad()(partial(pictures, latent)))


def _conditioned(
    model: DiffusionModel, first_stage: FirstStage, rows: dict[str, Tensor], batch: int, how: Drawing,
    size: tuple[int, int],
) -> Denoise:  # fmt: skip
    """The model under the rows' condition, with guidance, in patches where it is to be."""
    device = model.scale.shift.device
    denoiser: Denoiser = model.denoiser
    if how.patches is not None:
        denoiser = patched(
            denoiser, how.patches.size // first_stage.factor, -(-how.patches.overlap // first_stage.factor)
        )
    wanted = model.condition(rows, nothing_dropped(batch, device), size)
    null = model.condition(rows, null_dropped(model.conditioner, batch, device), size)
    return guided(denoiser, wanted, null, how.guidance)


def _held(
    denoise: Denoise, model: DiffusionModel, first_stage: FirstStage, rows: dict[str, Tensor], how: Drawing,
    small: Pictures | None, networks: Networks, prompts: Sequence[str],
) -> Denoise:  # fmt: skip
    """`denoise` held to the guide, and to what is known, where there is any."""
    schedule = model.schedule.to(model.scale.shift.device)
    if isinstance(how.guide, ClassifierGuide):
        assert networks.classifier is not None
        likelihood = label_likelihood(networks.classifier, rows["label"])
        denoise = classifier_guided(denoise, schedule, likelihood, how.guide.scale)
    elif how.guide is not None:
        compared = isinstance(how.guide, PictureGuide) and how.guide.kind != "low_resolution"
        picture = to_float(original(first_stage, rows)) if compared else None
        far = distance(how.guide, rows, picture, small, networks, prompts)

        def decode(latent: Latent) -> Pictures:
            return paint(first_stage, model.scale.inverse(latent))

        denoise = image_guided(denoise, schedule, decode, far, how.guide.scale)
    if how.keep_known:
        denoise = known_kept(denoise, _latent(model, rows), latent_hole(rows["mask"], first_stage.factor))
    return denoise


def _path(
    denoise: Denoise, begin: Latent | None, schedule: Schedule, how: Drawing, keyed: Callable[..., Latent]
) -> Iterator[Latent]:
    steps = step_list(len(schedule), how)
    start = keyed()
    if begin is not None:
        start = schedule.alpha[steps[0]] * begin + schedule.sigma[steps[0]] * start
    end = 0 if getattr(how.sampler, "spacing", "even") == "released" else None
    noised: StepNoise = keyed
    match how.sampler:
        case DDPM():
            return ddpm(denoise, start, schedule, steps, noised)
        case DDIM(eta=eta):
            return ddim(denoise, start, schedule, steps, eta, noised, end)
        case PLMS():
            return plms(denoise, start, schedule, steps, end)
        case DPMSolver():
            return dpm_solver(denoise, start, schedule, steps)


def _latent(model: DiffusionModel, rows: dict[str, Tensor]) -> Latent:
    """The rows' own pictures as latents."""
    return model.scale(to_float(rows["pixels"]) if "pixels" in rows else rows["mean"])


def _decode(first_stage: FirstStage, raw: Float[Tensor, "b z h w"], tile: int | None) -> Float[Tensor, "b 3 H W"]:
    """Whole, or by tiles of so many pixels (and a quarter shared) where it is larger."""
    places = max(raw.shape[2:]) if tile is None else max(1, tile // first_stage.factor)
    return decode_tiled(first_stage, raw, places, places // 4)
