"""The first stage's loss: reconstruction, perceptual distance and a patch discriminator (paper, eq. 25)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.autoencoder.config import Loss


def reconstruction_error(
    image: Float[Tensor, "b 3 H W"],
    reconstruction: Float[Tensor, "b 3 H W"],
    config: Loss,
    perceptual: nn.Module | None,
) -> Float[Tensor, "b 3 H W"]:
    """|x - x'| (+ squared error, + perceptual distance at every pixel)."""
    error = (image - reconstruction).abs()
    if config.l2_weight:
        error = error + config.l2_weight * (image - reconstruction).square()
    if perceptual is not None and config.perceptual_weight:
        error = error + config.perceptual_weight * perceptual(image, reconstruction).reshape(-1, 1, 1, 1)
    return error


class Likelihood(nn.Module):
    """Negative log-likelihood of errors under one variance, whose logarithm is 0 (as released) or learned.

    The best `logvar` is the logarithm of the mean error.
    """

    def __init__(self, learn: bool) -> None:
        super().__init__()
        self.logvar = nn.Parameter(torch.zeros(()), requires_grad=learn)

    def forward(self, error: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        return error / self.logvar.exp() + self.logvar


def per_picture(elements: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """Summed over a picture, averaged over the batch: how the KL stages weigh reconstruction."""
    return elements.flatten(1).sum(1).mean()


def per_element(elements: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """Averaged over everything: how the VQ stages weigh reconstruction."""
    return elements.mean()


def adaptive_weight(
    reconstruction: Float[Tensor, "b 3 H W"],
    pull: Float[Tensor, "b 3 H W"],
    push: Float[Tensor, "b 3 H W"],
    last_layer: Tensor,
) -> Float[Tensor, ""]:
    """Ratio of two losses' gradients at the decoder's last layer, in [0, 1e4] (arXiv 2012.09841, eq. 7).

    `pull` and `push` are the gradients, at the `reconstruction`, of the loss that draws it towards the picture and of
    the discriminator's: from there to the last layer is one step back, so no loss is differentiated twice.
    """
    of_reconstruction, of_adversarial = (
        torch.autograd.grad(reconstruction, last_layer, gradient, retain_graph=True)[0] for gradient in (pull, push)
    )
    return _ratio(of_reconstruction, of_adversarial)


def add_apart(
    trained: Sequence[Tensor], apart: Sequence[Tensor], last_layer: Tensor, share: float
) -> Float[Tensor, ""]:
    """Add `share` * the adaptive weight * `apart`, gradients of the discriminator's loss, to those of all other losses.

    For a batch in parts, both averaged over all of it. At the decoder's last layer the others are those of the
    reconstruction alone, for the latent's penalty ends before it. Returns the weight.
    """
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    last = next(place for place, parameter in enumerate(trained) if parameter is last_layer)
    weight = _ratio(gradients[last], apart[last])
    for gradient, push in zip(gradients, apart, strict=True):
        gradient.add_(share * weight * push)
    return weight


def _ratio(of_reconstruction: Tensor, of_adversarial: Tensor) -> Float[Tensor, ""]:
    return (of_reconstruction.norm() / (of_adversarial.norm() + 1e-4)).clamp(0, 1e4).detach()


def hinge_loss(real: Float[Tensor, "b 1 h w"], fake: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """What the discriminator minimises: real patches above 1, reconstructed ones below -1."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def vanilla_loss(real: Float[Tensor, "b 1 h w"], fake: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """What the discriminator minimises: cross-entropy of real against reconstructed patches."""
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


DiscriminatorLoss = Callable[[Tensor, Tensor], Tensor]

DISCRIMINATOR_LOSSES: dict[str, DiscriminatorLoss] = {"hinge": hinge_loss, "vanilla": vanilla_loss}
