"""The loss of the paper, equation by equation."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ldm.conditioning import draw_dropped
from ldm.data.pictures import to_float
from ldm.diffusion.model import DiffusionModel, target
from ldm.diffusion.schedule import Schedule


def raw_latent(rows: dict[str, Tensor], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
    """A sample of each cached posterior, or the pixels themselves where the autoencoder is the identity."""
    if "pixels" in rows:
        return to_float(rows["pixels"])
    mean = rows["mean"]
    return mean + rows["std"] * torch.randn(mean.shape, generator=generator, device=mean.device)


def diffusion_loss(
    model: DiffusionModel,
    schedule: Schedule,
    raw: Float[Tensor, "b c h w"],
    rows: dict[str, Tensor],
    *,
    norm: str,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """How far the model's prediction is from the target, at a random step of each raw latent (paper, eq. 2 and 3)."""
    batch, device = len(raw), raw.device
    latent = model.scale(raw)
    step = torch.randint(len(schedule), (batch,), generator=generator, device=device)
    noise = torch.randn(latent.shape, generator=generator, device=device)
    dropped = draw_dropped(model.conditioner, torch.rand((batch, 2), generator=generator, device=device))

    alpha, sigma = schedule.at(step)
    noisy = alpha * latent + sigma * noise  # eq. 4 of arXiv 2006.11239
    prediction = model.unet(noisy, step, model.condition(rows, dropped))
    difference = F.l1_loss if norm == "l1" else F.mse_loss
    return difference(prediction, target(model.objective, latent, noise, alpha, sigma))
