"""The UNet: the paper's sizes, and what it must not depend on."""

import pytest
import torch

from ldm.nn.condition import Condition
from ldm.unet.config import UNet as Config
from ldm.unet.model import UNet


def config(**changes) -> Config:
    small = {"channels": 8, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_factors": [2], "heads": 2}
    return Config(**small | {"transformer_depth": 1, "dropout": 0.0} | changes)


# The paper's appendix: name, channels, multipliers, attention factors, depth, token width, condition channels, count
RELEASED = [
    ("celeba256", 224, [1, 2, 3, 4], [8, 4, 2], 1, 0, 0, 274_056_163),
    ("cin256-v2", 192, [1, 2, 3, 5], [8, 4, 2], 1, 512, 0, 400_920_579),
    ("text2img256", 192, [1, 2, 3, 5], [8, 4, 2], 1, 640, 0, 403_623_939),
    ("layout2img", 128, [1, 2, 3, 4], [8, 4, 2], 3, 512, 0, 246_277_379),
    ("semantic", 128, [1, 4, 8], [], 1, 0, 3, 215_229_315),
    ("bsr_sr", 160, [1, 2, 2, 4], [8], 1, 0, 3, 113_622_563),
]


@pytest.mark.parametrize(("name", "channels", "mult", "attention", "depth", "tokens", "extra", "count"), RELEASED)
def test_as_many_parameters_as_the_released_model(name, channels, mult, attention, depth, tokens, extra, count):
    released = config(
        channels=channels,
        channel_mult=mult,
        num_res_blocks=2,
        attention_factors=attention,
        heads=8,
        transformer_depth=depth,
    )
    with torch.device("meta"):
        unet = UNet(released, latent_channels=3, condition_channels=extra, token_width=tokens)
    assert sum(p.numel() for p in unet.parameters()) == count


def test_an_untrained_unet_predicts_zero():
    unet = UNet(config(), latent_channels=3)
    out = unet(torch.randn(2, 3, 8, 8), torch.tensor([0, 999]))
    assert torch.equal(out, torch.zeros(2, 3, 8, 8))


def trained(**widths) -> UNet:
    torch.manual_seed(0)
    unet = UNet(config(), latent_channels=3, **widths)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return unet.eval()


def test_the_prediction_depends_on_step_tokens_and_channels():
    unet = trained(condition_channels=1, token_width=5)
    noisy, step = torch.randn(1, 3, 8, 8), torch.tensor([10])
    tokens, channels = torch.randn(1, 4, 5), torch.randn(1, 1, 8, 8)
    base = unet(noisy, step, Condition(tokens=tokens, channels=channels))
    assert not torch.allclose(base, unet(noisy, step + 500, Condition(tokens=tokens, channels=channels)))
    assert not torch.allclose(base, unet(noisy, step, Condition(tokens=-tokens, channels=channels)))
    assert not torch.allclose(base, unet(noisy, step, Condition(tokens=tokens, channels=-channels)))


def test_the_order_of_tokens_does_not_matter_to_the_unet():
    unet = trained(token_width=5)
    noisy, tokens = torch.randn(1, 3, 8, 8), torch.randn(1, 4, 5)
    one = unet(noisy, torch.tensor([10]), Condition(tokens=tokens))
    other = unet(noisy, torch.tensor([10]), Condition(tokens=tokens.flip(1)))
    torch.testing.assert_close(one, other)


def test_pictures_of_a_batch_do_not_see_each_other():
    unet = trained()
    noisy, step = torch.randn(3, 3, 8, 8), torch.tensor([1, 20, 300])
    torch.testing.assert_close(unet(noisy, step)[1:2], unet(noisy[1:2], step[1:2]))


def test_sizes_beyond_that_of_training_work():
    assert trained()(torch.randn(1, 3, 16, 24), torch.tensor([5])).shape == (1, 3, 16, 24)


def test_widths_that_heads_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="not a multiple of heads"):
        config(heads=3)
