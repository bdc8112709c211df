"""Released checkpoints: read as diffusers' own converters read them, whole or not at all, and usable as our models."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import ldm.nn.vision  # noqa: F401  (makes torchvision importable, which diffusers needs)
from ldm.autoencoder.model import load as load_autoencoder
from ldm.conditioning import nothing_dropped
from ldm.diffusion.model import load
from ldm.files import identity
from ldm.interop.importing import import_checkpoint
from tests.interop import release, rows

pytest.importorskip("diffusers", reason="diffusers (the extra `test`) is not installed")
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel, VQModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from diffusers.pipelines.stable_diffusion.convert_from_ckpt import assign_to_checkpoint

LABEL = {"tokens": {"kind": "label", "drop": 0.0, "width": 24}, "channels": {"kind": "none"}}
TEXT = {
    "tokens": {"kind": "text", "drop": 0.1, "width": 16, "layers": 3, "heads": 2, "head_width": 8, "dropout": 0.0},
    "channels": {"kind": "none"},
}
STAGE: dict[str, Any] = {"channels": 128, "mult": [1, 1], "blocks": 1, "attention": [], "z": 3, "mid": True}
UNET: dict[str, Any] = {"channels": 128, "mult": [1, 1], "blocks": 1, "attention": [2], "into": 3, "out": 3}


def checkpoint(
    unet: dict[str, Tensor], codes: int | None = 16, *, stage: dict[str, Any] = STAGE, **more: dict[str, Tensor]
) -> dict[str, Tensor]:
    state = release.prefixed("model.diffusion_model.", unet) | release.schedule(0.0015, 0.0195)
    state |= release.prefixed("first_stage_model.", release.drawn(release.first_stage(**stage, codes=codes), 1))
    return state | {name: tensor for part in more.values() for name, tensor in part.items()}


def imported(
    tmp_path: Path, state: dict[str, Tensor], row: dict[str, Any], params: dict[str, Any] | None = None, **options: Any
) -> list[str]:
    """Import it as `diffusion.small`, with tables of `params` in the place of the usual; the notes."""
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "model.ckpt")
    params = rows.params(small=row) | (params or {})
    return list(import_checkpoint(tmp_path / "model.ckpt", "small", params, tmp_path / "models", **options))[-1].notes


def same(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.abs().max() > 1e-3
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def noisy(channels: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(2, channels, 8, 8, generator=generator), torch.tensor([3, 700])


@torch.no_grad()
@pytest.mark.parametrize("extra", [{}, {"scale_shift": True}])
def test_unconditional_unet_and_its_average_as_the_peer_reads_them(tmp_path: Path, extra: dict[str, bool]) -> None:
    weights = release.drawn(release.unet(**UNET, **extra), 2)
    row = rows.diffusion(unet={"head_channels": 32, "scale_shift_norm": "scale_shift" in extra})
    notes = imported(tmp_path, checkpoint(weights, ema=release.averages(weights, 0.9)), row)
    assert any("averaged UNet" in note for note in notes)
    folder = tmp_path / "models" / "diffusion" / "small"
    model, _ = load(folder)
    x, step = noisy()
    same(model.unet(x, step), unconditional(release.drawn(release.unet(**UNET, **extra), 2), 0.9, **extra)(x, step)[0])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    same(model.unet(x, step), unconditional(weights, 1.0, **extra)(x, step)[0])


def unconditional(weights: dict[str, Tensor], by: float, scale_shift: bool = False) -> nn.Module:
    """Through diffusers' converters: that of UNets, and for qkv the one that splits attention layers."""
    theirs = UNet2DModel(
        in_channels=weights["input_blocks.0.0.weight"].shape[1],
        out_channels=3,
        block_out_channels=(128, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
        attn_norm_num_groups=32,
        resnet_time_scale_shift="scale_shift" if scale_shift else "default",
    )
    weights = {name: by * tensor for name, tensor in weights.items()}
    config = {"layers_per_block": 1, "num_head_channels": 32}
    converted = convert_ldm_unet_checkpoint(release.prefixed("model.diffusion_model.", weights), config)
    state = {name: tensor for name, tensor in converted.items() if "attentions" not in name}
    places = {
        "input_blocks.3.1": "down_blocks.1.attentions.0",
        "middle_block.1": "mid_block.attentions.0",
        "output_blocks.0.1": "up_blocks.0.attentions.0",
        "output_blocks.1.1": "up_blocks.0.attentions.1",
    }
    for old, new in places.items():
        split = {
            f"{old}.qkv.{kind}": {part: f"{new}.to_{part[0]}.{kind}" for part in ("query", "key", "value")}
            for kind in ("weight", "bias")
        }
        renamed = {"norm": "group_norm", "proj_out": "to_out.0"}
        paths = [
            {"old": f"{old}.{name}.{kind}", "new": f"{new}.{renamed[name]}.{kind}"}
            for name in renamed
            for kind in ("weight", "bias")
        ]
        assign_to_checkpoint(paths, state, weights, attention_paths_to_split=split, config=config)
    theirs.load_state_dict({name: tensor.reshape(theirs.state_dict()[name].shape) for name, tensor in state.items()})
    return _called(theirs.eval())


def _called(model: nn.Module) -> Any:
    return lambda *arguments, **named: model(*arguments, **named, return_dict=False)


def conditional(weights: dict[str, Tensor], width: int, heads: int) -> Any:
    config = {"layers_per_block": 1}
    theirs = UNet2DConditionModel(
        in_channels=weights["input_blocks.0.0.weight"].shape[1],
        out_channels=3,
        block_out_channels=(128, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=heads,
    )
    theirs.load_state_dict(convert_ldm_unet_checkpoint(release.prefixed("model.diffusion_model.", weights), config))
    return _called(theirs.eval())


@torch.no_grad()
def test_class_tokens_as_the_peer_reads_them(tmp_path: Path) -> None:
    weights = release.drawn(release.unet(**UNET, context=24), 3)
    table = torch.randn(7, 24, generator=torch.Generator().manual_seed(5))
    notes = imported(
        tmp_path,
        checkpoint(weights, classes={"cond_stage_model.embedding.weight": table}),
        rows.diffusion(condition=LABEL, unet={"heads": 4}),
    )
    assert any("cannot be guided" in note for note in notes)
    model, about = load(tmp_path / "models" / "diffusion" / "small")
    assert len(about["latents"]["classes"]) == 7
    condition = model.condition({"label": torch.tensor([6, 0])}, nothing_dropped(2, torch.device("cpu")))
    assert condition.tokens is not None
    assert torch.equal(condition.tokens[:, 0], table[[6, 0]])
    x, step = noisy()
    same(model.unet(x, step, condition), conditional(weights, 24, 4)(x, step, condition.tokens)[0])


@torch.no_grad()
def test_text_transformer_and_unet_as_the_peer_reads_them(tmp_path: Path) -> None:
    size = 32
    weights = release.drawn(release.unet(**UNET, context=16), 4)
    words = release.drawn(release.text(vocabulary=size, length=5, width=16, layers=3, heads=2, head_width=8), 6)
    state = checkpoint(weights, None, text=release.prefixed("cond_stage_model.", words))
    row = rows.diffusion("of-kl", "kl", TEXT, unet={"heads": 4})
    with pytest.raises(ValueError, match="--vocabulary"):
        imported(tmp_path, state, row)
    notes = imported(tmp_path, state, row, vocabulary=rows.vocabulary(tmp_path))
    assert any("to_logits" in note and "unused_logits" in note for note in notes)
    folder = tmp_path / "models" / "diffusion" / "small"
    model, about = load(folder)
    assert (folder / "tokenizer" / "tokenizer.json").is_file()
    assert about["latents"]["null_tokens"] == [2, 3, 0, 0, 0]
    ids = torch.tensor([[2, 10, 31, 3, 0], [2, 3, 0, 0, 0]], dtype=torch.int32)
    condition = model.condition({"tokens": ids}, nothing_dropped(2, torch.device("cpu")))
    assert condition.tokens is not None
    same(condition.tokens, _bert(words)(ids.long()).last_hidden_state)
    x, step = noisy()
    same(model.unet(x, step, condition), conditional(weights, 16, 4)(x, step, condition.tokens)[0])


def _bert(words: dict[str, Tensor]) -> Any:
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig
    from diffusers.pipelines.stable_diffusion.convert_from_ckpt import convert_ldm_bert_checkpoint

    config = LDMBertConfig(
        vocab_size=32,
        max_position_embeddings=5,
        encoder_layers=3,
        encoder_ffn_dim=64,
        encoder_attention_heads=2,
        head_dim=8,
        d_model=16,
    )
    return convert_ldm_bert_checkpoint(_tree(words), config).eval().model


def _tree(state: dict[str, Tensor]) -> Any:
    """Attributes, and lists where all names are numbers: the released module that the converter takes."""
    if "" in state:
        return nn.Parameter(state[""])
    children: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        children.setdefault(first, {})[rest] = tensor
    if all(name.isdigit() for name in children):
        return [_tree(children.get(str(i), {"": torch.zeros(0)})) for i in range(max(map(int, children)) + 1)]
    return SimpleNamespace(**{name: _tree(child) for name, child in children.items()})


@torch.no_grad()
@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_first_stages_as_the_peer_reads_them(tmp_path: Path, kind: str) -> None:
    codes = 16 if kind == "vq" else None
    weights = release.drawn(release.first_stage(**STAGE, codes=codes), 7)
    loss = {"loss.logvar": torch.zeros(()), "loss.discriminator.main.0.weight": torch.zeros(4, 3, 4, 4)}
    torch.save({"state_dict": weights | loss}, tmp_path / "model.ckpt")
    last = list(import_checkpoint(tmp_path / "model.ckpt", kind, rows.params(), tmp_path / "models"))[-1]
    assert any("loss.discriminator.main.0.weight" in note for note in last.notes)
    ours = load_autoencoder(tmp_path / "models" / "autoencoders" / kind)
    layers = {
        "block_out_channels": (128, 128),
        "layers_per_block": 1,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 3,
    }
    state = convert_ldm_vae_checkpoint(weights, layers)
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    if kind == "kl":
        theirs = AutoencoderKL(**layers)
        theirs.load_state_dict(state)
        moments = theirs.eval().encode(image).latent_dist
        same(ours.encode(image).mean, moments.mean)
        same(ours.encode(image).std, moments.std)
        same(ours.decode(moments.mean), theirs.decode(moments.mean).sample)
    else:
        theirs = VQModel(**layers, num_vq_embeddings=16)
        theirs.load_state_dict(state | {"quantize.embedding.weight": weights["quantize.embedding.weight"]})
        latent = theirs.eval().encode(image).latents
        same(ours.encode(image).mean, latent)
        same(ours.decode(latent), theirs.decode(latent).sample)


@torch.no_grad()
def test_a_first_stage_with_attention_at_a_level_and_its_average(tmp_path: Path) -> None:
    """The peer's converters know no attention at levels: the layer alone is held against the formula."""
    stage = STAGE | {"attention": [2], "mid": False}
    weights = release.drawn(release.first_stage(**stage, codes=None), 8)
    averaged = {"model_ema." + name.replace(".", ""): 0.5 * tensor for name, tensor in weights.items()}
    torch.save(weights | averaged | {"model_ema.decay": torch.tensor(0.9)}, tmp_path / "model.ckpt")
    params = rows.params()
    params["autoencoders"]["kl"] = rows.autoencoder("kl", attention_factors=[2], mid_attention=False)
    list(import_checkpoint(tmp_path / "model.ckpt", "kl", params, tmp_path / "models"))
    ours: Any = load_autoencoder(tmp_path / "models" / "autoencoders" / "kl")
    x = torch.randn(1, 128, 4, 4, generator=torch.Generator().manual_seed(2))
    half = {n.removeprefix("encoder.down.1.attn.0."): 0.5 * t for n, t in weights.items() if "down.1.attn.0" in n}
    h = nn.functional.group_norm(x, 32, half["norm.weight"], half["norm.bias"], eps=1e-6)
    q, k, v = (nn.functional.conv2d(h, half[f"{n}.weight"], half[f"{n}.bias"]).flatten(2) for n in "qkv")
    weight = torch.softmax(torch.einsum("bci,bcj->bij", q, k) * 128**-0.5, dim=2)
    out = torch.einsum("bij,bcj->bci", weight, v).view_as(x)
    same(ours.encoder[4](x), x + nn.functional.conv2d(out, half["proj_out.weight"], half["proj_out.bias"]))


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    """What is missing, unknown or of another shape is named, and nothing is written."""
    weights = release.drawn(release.unet(**UNET), 2)
    good, row = checkpoint(weights), rows.diffusion()
    less = {name: tensor for name, tensor in good.items() if "out.0.bias" not in name}
    with pytest.raises(ValueError, match=r"UNet: missing: out.0.bias"):
        imported(tmp_path, less, row)
    with pytest.raises(ValueError, match="unknown: logvar"):
        imported(tmp_path, good | {"logvar": torch.zeros(1000)}, row)
    with pytest.raises(ValueError, match="another architecture: time_embed"):
        imported(tmp_path, good, rows.diffusion(unet={"channels": 160, "heads": 4}))
    with pytest.raises(ValueError, match="norms of 32 groups"):
        imported(tmp_path, good, rows.diffusion(unet={"channels": 64, "heads": 4}))
    with pytest.raises(ValueError, match=r"another schedule than the row's: 1000 steps with betas between 0\.0015"):
        imported(tmp_path, good, rows.diffusion(schedule=row["schedule"] | {"beta_end": 0.0205}))
    with pytest.raises(ValueError, match="no scale_factor"):
        imported(tmp_path, good, rows.diffusion(scale="std"))
    assert not (tmp_path / "models").exists()
    with pytest.raises(ValueError, match="did you mean 'small'"):
        list(import_checkpoint(tmp_path / "model.ckpt", "smal", rows.params(small=row), tmp_path))


def test_scale_by_std_first_stage_twice_and_the_folder_kept(tmp_path: Path) -> None:
    """scale_factor is read; a first stage that encodes the condition is one; a second model shares it."""
    weights = release.drawn(release.unet(**UNET | {"into": 7}), 2)
    state = checkpoint(weights) | {"scale_factor": torch.tensor(0.25)}
    twice = {n.replace("first_stage_model", "cond_stage_model"): t for n, t in state.items() if "first_stage" in n}
    condition = {"tokens": {"kind": "none"}, "channels": {"kind": "mask", "drop": 0.0}}
    row = rows.diffusion(condition=condition, scale="std")
    notes = imported(tmp_path, state | twice, row)
    assert any("once more" in note for note in notes)
    model, about = load(tmp_path / "models" / "diffusion" / "small")
    assert torch.allclose(model.scale.factor, torch.tensor(0.25))
    assert about["latents"]["autoencoder"] == identity(tmp_path / "models" / "autoencoders" / "vq")
    with pytest.raises(ValueError, match="there is a model already"):
        imported(tmp_path, state, row)
    imported(tmp_path, state, row, name="again")
    other = {name: tensor + 1 if "first_stage" in name else tensor for name, tensor in state.items()}
    with pytest.raises(ValueError, match=r"holds other weights than model\.ckpt"):
        imported(tmp_path, other, row, name="third")


def test_a_folder_that_dvc_would_train_anew_is_said(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("diffusion:\n  small: {}\nautoencoders:\n  other: {}\n")
    state, row = checkpoint(release.drawn(release.unet(**UNET), 2)), rows.diffusion()
    assert [note for note in imported(tmp_path, state, row, name="released") if "dvc repro" in note] == []
    (note,) = [note for note in imported(tmp_path, state, row) if "dvc repro" in note]
    assert "has the row diffusion.small: dvc repro would train it and write over this folder" in note


class Callback:
    """What a training framework leaves in a file; its class is not to be had where the file is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _explode, ("written",)


def _explode(text: str) -> None:
    Path(text).write_text("run")


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = release.drawn(release.first_stage(**STAGE, codes=None), 7)
    torch.save({"state_dict": state, "callbacks": {"best": Callback()}}, tmp_path / "model.ckpt")
    list(import_checkpoint(tmp_path / "model.ckpt", "kl", rows.params(), tmp_path / "models"))
    assert not (tmp_path / "written").exists()
    (tmp_path / "other.ckpt").write_bytes(pickle.dumps(Callback()))
    with pytest.raises(ValueError, match="not a file of weights"):
        list(import_checkpoint(tmp_path / "other.ckpt", "kl", rows.params(), tmp_path / "models"))
    assert not (tmp_path / "written").exists()
