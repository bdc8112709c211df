"""Triton's group norm and SiLU beside the plain layers, on Triton's interpreter, so that no GPU is needed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton (it comes with torch for GPUs) is not installed")

COMPARED = """
import torch
from torch import nn

from ldm.nn import fused
from ldm.nn.condition import Condition
from ldm.unet.config import UNet as Config
from ldm.unet.model import UNet


def results(model, x, step, condition):
    x = x.clone().requires_grad_()
    model.zero_grad()
    y = model(x, step, condition)
    y.backward(torch.linspace(-1, 1, y.numel()).view_as(y))
    return [y.detach(), x.grad, *(p.grad.clone() for p in model.parameters())]


torch.manual_seed(0)
for options in ({}, {"scale_shift_norm": True, "residual_updown": True}, {"tokens": 12}):
    width = options.pop("tokens", 0)
    config = Config(channels=24, channel_mult=[1, 2], num_res_blocks=1, attention_factors=[2], heads=2,
                    transformer_depth=1, dropout=0.0, **options)
    model = UNet(config, latent_channels=3, token_width=width)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.05, 0.2)
    x, step = torch.randn(2, 3, 6, 6), torch.tensor([3, 700])
    condition = Condition(tokens=torch.randn(2, 5, width)) if width else None
    assert not fused.usable(x)
    plain = results(model, x, step, condition)
    # channels last, every map of the model takes the fused path
    x = x.contiguous(memory_format=torch.channels_last)
    assert fused.usable(x)
    for ours, expected in zip(results(model.to(memory_format=torch.channels_last), x, step, condition), plain):
        assert (ours - expected).norm() <= 1e-4 * expected.norm() + 1e-6
"""


def test_a_unet_computes_and_differentiates_the_same_in_fewer_passes():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", COMPARED], env=environment, cwd=root, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
