"""The first stage's loss: reconstruction, perceptual distance, KL and a patch discriminator (paper, eq. 25)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.autoencoder.config import Loss
from ldm.autoencoder.model import Moments


def reconstruction_loss(
    image: Float[Tensor, "b 3 H W"],
    reconstruction: Float[Tensor, "b 3 H W"],
    config: Loss,
    perceptual: nn.Module | None,
) -> Float[Tensor, ""]:
    """|x - x'| (+ squared error, + perceptual distance at every pixel), summed over a picture, averaged over the batch.

    The release divides by exp(logvar) and adds logvar; its logvar stays 0, so neither changes anything.
    """
    error = (image - reconstruction).abs()
    if config.l2_weight:
        error = error + config.l2_weight * (image - reconstruction).square()
    if perceptual is not None and config.perceptual_weight:
        error = error + config.perceptual_weight * perceptual(image, reconstruction).reshape(-1, 1, 1, 1)
    return error.flatten(1).sum(1).mean()


def kl_loss(moments: Moments) -> Float[Tensor, ""]:
    return moments.kl().mean()


def adaptive_weight(
    reconstruction: Float[Tensor, ""], adversarial: Float[Tensor, ""], last_layer: Tensor
) -> Float[Tensor, ""]:
    """Ratio of the two losses' gradients at the decoder's last layer, in [0, 1e4] (arXiv 2012.09841, eq. 7)."""
    of_reconstruction, of_adversarial = (
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0].norm() for loss in (reconstruction, adversarial)
    )
    return (of_reconstruction / (of_adversarial + 1e-4)).clamp(0, 1e4).detach()


def hinge_loss(real: Float[Tensor, "b 1 h w"], fake: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """What the discriminator minimises: real patches above 1, reconstructed ones below -1."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
