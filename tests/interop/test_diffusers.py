"""Folders of diffusers: what `from_pretrained` loads computes the same, and comes back bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import ldm.nn.vision  # noqa: F401  (makes torchvision importable, which diffusers needs)
from ldm.autoencoder.model import build
from ldm.autoencoder.model import load as load_autoencoder
from ldm.conditioning import nothing_dropped
from ldm.data.tokens import load_vocabulary
from ldm.diffusion.config import Diffusion
from ldm.diffusion.model import DiffusionModel, LatentScale, load
from ldm.diffusion.schedule import Schedule
from ldm.files import identity, read_json, write_json
from ldm.interop import diffusers_config
from ldm.interop.described import described
from ldm.interop.diffusers_export import export_diffusers
from ldm.interop.diffusers_import import import_diffusers
from ldm.interop.folders import write_autoencoder, write_diffusion
from ldm.interop.importing import trained_stage
from ldm.nn.condition import Condition
from ldm.unet.config import UNet as Section
from ldm.unet.model import UNet
from tests.interop import release, rows
from tests.interop.test_import import LABEL, TEXT, noisy, same
from tests.interop.test_import_conditions import LAYOUT

pytest.importorskip("diffusers", reason="diffusers (the extra `test`) is not installed")
import diffusers
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel

SOURCE = {"file": "drawn", "sha256": ""}
CLIP = {"clip_text": [5, 24], "clip_image": [1, 24]}
"""What a CLIP of width 24 makes of a caption of 5 tokens, and of a picture: columns that only caching knows of."""


def told(tokens: str, channels: str = "none") -> dict[str, Any]:
    """A condition of these kinds, of which those of tokens have no options but their width."""
    width = {"width": 24} if tokens == "label" else {}
    return {
        "tokens": {"kind": "none"} if tokens == "none" else {"kind": tokens, "drop": 0.1, **width},
        "channels": {"kind": "none"} if channels == "none" else {"kind": channels, "drop": 0.0},
    }


def drawn(model: nn.Module) -> dict[str, Tensor]:
    return release.drawn({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}, 11)


def write_stage(tmp_path: Path, kind: str, **architecture: Any) -> Path:
    params = rows.params()
    params["autoencoders"][kind] = rows.autoencoder(kind, **architecture)
    config = trained_stage(params, kind, "params.yaml")
    folder = tmp_path / "models" / "autoencoders" / kind
    write_autoencoder(folder, config, drawn(build(config)), SOURCE)
    return folder


def write_model(tmp_path: Path, row: dict[str, Any]) -> Path:
    """A diffusion model of random weights, in a folder as a training leaves it."""
    stage, params = write_stage(tmp_path, row["autoencoder"]), rows.params(small=row)
    tokenizer = load_vocabulary(rows.vocabulary(tmp_path), 5)
    info = described(
        params,
        "small",
        tokenizer=tokenizer,
        autoencoder=identity(stage),
        std=0.5,
        classes="abc",
        label_map_classes="ab",
    )
    info["channel_mean"] = [0.1, 0.0, -0.2]
    if row["condition"]["tokens"]["kind"] in CLIP:
        info["shapes"] |= CLIP
    config = Diffusion.model_validate(row)
    model = DiffusionModel(config, info)
    scale = LatentScale.from_statistics(config.scale, info).state_dict()
    averaged = drawn(model) | {f"scale.{name}": tensor for name, tensor in scale.items()}
    raw = {name: tensor if "scale" in name else 2 * tensor for name, tensor in averaged.items()}
    folder = tmp_path / "models" / "diffusion" / "small"
    text = row["condition"]["tokens"]["kind"] == "text"
    write_diffusion(folder, config, info, raw, averaged, SOURCE, tokenizer if text else None)
    return folder


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("kl", {}),
        ("vq", {}),
        ("kl", {"channel_mult": [1, 2], "num_res_blocks": 2, "attention_factors": [2]}),
        ("vq", {"mid_attention": False, "attention_factors": [1]}),
        ("kl", {"channels": 16, "channel_mult": [1, 2, 4], "norm_groups": 4}),
    ],
)
def test_first_stages(tmp_path: Path, kind: str, architecture: dict[str, Any]) -> None:
    folder, out = write_stage(tmp_path, kind, **architecture), tmp_path / "out"
    export_diffusers(folder, out)
    ours = load_autoencoder(folder)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    moments = ours.encode(image)
    if kind == "kl":
        theirs = diffusers.AutoencoderKL.from_pretrained(out)
        same(moments.mean, theirs.encode(image).latent_dist.mean)
        same(moments.std, theirs.encode(image).latent_dist.std)
    else:
        theirs = diffusers.VQModel.from_pretrained(out)
        same(moments.mean, theirs.encode(image).latents)
    same(ours.decode(moments.mean), theirs.decode(moments.mean).sample)
    list(import_diffusers(out, None, None, tmp_path / "back", name=kind))
    back = tmp_path / "back" / "autoencoders" / kind
    _equal(folder / "model.safetensors", back / "model.safetensors")
    assert read_json(folder / "config.json") == read_json(back / "config.json")


def _equal(a: Path, b: Path) -> None:
    first, second = load_file(a), load_file(b)
    assert set(first) == set(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


UPDOWN = {"heads": 1, "scale_shift_norm": True, "residual_updown": True}
MODELS = {
    "unconditional": rows.diffusion(),
    "scale-shift-updown": rows.diffusion(unet=UPDOWN),
    "middle-alone-attends": rows.diffusion(unet={"heads": 4, "attention_factors": [], "channel_mult": [1, 2]}),
    "text": rows.diffusion(
        "of-kl",
        "kl",
        TEXT,
        unet={"head_channels": 64, "transformer_depth": 2, "scale_shift_norm": True, "channel_mult": [1, 2]},
        scale="channel",
    ),
    "tokens-updown": rows.diffusion(condition=LABEL, unet=UPDOWN | {"attention_factors": []}),
    "classes-and-maps": rows.diffusion(
        condition=told("label", "label_map"), unet={"heads": 2, "num_res_blocks": 2}, scale="std"
    ),
    "layout": rows.diffusion(condition=LAYOUT, unet={"head_channels": 32}),
    "low-resolution": rows.diffusion("of-kl", "kl", told("none", "low_resolution"), scale="channel"),
    "mask": rows.diffusion(condition=told("none", "mask"), unet=UPDOWN),
    "grey": rows.diffusion(condition=told("none", "grey")),
    "clip-text": rows.diffusion("of-kl", "kl", told("clip_text"), unet={"heads": 4}),
    "narrow": rows.diffusion(
        unet={
            "channels": 16,
            "channel_mult": [1, 1.5, 2],
            "head_channels": 8,
            "norm_groups": 4,
            "attention_factors": [2],
        }
    ),
    "clip-image-and-mask": rows.diffusion(condition=told("clip_image", "mask"), unet={"heads": 4}),
}


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_diffusion_models(tmp_path: Path, name: str) -> None:
    row, out = MODELS[name], tmp_path / "out"
    folder = write_model(tmp_path, row)
    stage = tmp_path / "models" / "autoencoders" / row["autoencoder"]
    export_diffusers(folder, out, autoencoder=stage)
    model, _ = load(folder)
    tokens, channels = model.conditioner.token_width, model.conditioner.channels_width
    x, step = noisy(3 + channels)
    attended = torch.randn(2, 5, tokens, generator=torch.Generator().manual_seed(3))
    kind = diffusers.UNet2DConditionModel if tokens else diffusers.UNet2DModel
    theirs = kind.from_pretrained(out / "unet")
    condition = Condition(tokens=attended if tokens else None, channels=x[:, 3:] if channels else None)
    same(model.unet(x[:, :3], step, condition), theirs(x, step, *([attended] if tokens else [])).sample)

    latent = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(4))
    vae = (diffusers.AutoencoderKL if row["autoencoder"] == "kl" else diffusers.VQModel).from_pretrained(out / "vqvae")
    raw = latent / vae.config.scaling_factor
    if getattr(vae.config, "latents_std", None):
        mean, std = (torch.tensor(vae.config[f"latents_{name}"])[:, None, None] for name in ("mean", "std"))
        raw = latent * std / vae.config.scaling_factor + mean
    same(model.scale.inverse(latent), raw)

    list(import_diffusers(out, None, None, tmp_path / "back", name="small"))
    back = tmp_path / "back" / "diffusion" / "small"
    again, rows_of_data = load(back)[0], _rows_of_data(model)
    ours, theirs = (m.condition(rows_of_data, nothing_dropped(2, torch.device("cpu"))) for m in (model, again))
    assert all(_alike(getattr(ours, part), getattr(theirs, part)) for part in ("tokens", "channels"))
    _equal(folder / "ema.safetensors", back / "ema.safetensors")
    ours, theirs = read_json(folder / "config.json"), read_json(back / "config.json")
    assert ours["diffusion"] == theirs["diffusion"]
    assert ours["latents"] | {"autoencoder": ""} == theirs["latents"] | {"autoencoder": ""}


def _rows_of_data(model: DiffusionModel) -> dict[str, Tensor]:
    """Two rows of each column that any condition reads."""
    generator = torch.Generator().manual_seed(6)
    small = {"low_resolution": (3, 8, 8), "label_map": (16, 16), "mask": (16, 16), "label": (), "tokens": (5,)}
    whole = {
        name: torch.randint(0, 2, (2, *shape), generator=generator)
        for name, shape in (small | {"layout": (8,)}).items()
    }
    shapes = {"masked": model.shape, "grey": model.shape} | CLIP
    return whole | {name: torch.randn(2, *shape, generator=generator) for name, shape in shapes.items()}


def _alike(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b if a is None or b is None else torch.equal(a, b)


@torch.no_grad()
def test_the_text_transformer_too(tmp_path: Path) -> None:
    folder = write_model(tmp_path, MODELS["text"])
    export_diffusers(folder, tmp_path / "out")
    model, _ = load(folder)
    ids = torch.tensor([[2, 10, 31, 3, 0]])
    theirs = LDMBertModel.from_pretrained(tmp_path / "out" / "bert").eval()
    transformer: Any = model.conditioner.tokens
    same(transformer.transformer(ids), theirs.model(ids).last_hidden_state)


@pytest.mark.parametrize(
    ("objective", "schedule"),
    [
        ("epsilon", {"kind": "linear", "steps": 1000, "beta_start": 0.0015, "beta_end": 0.0195}),
        ("v", {"kind": "linear", "steps": 500, "beta_start": 0.00085, "beta_end": 0.012, "zero_terminal_snr": True}),
        ("x0", {"kind": "cosine", "steps": 1000}),
        ("v", {"kind": "cosine", "steps": 1000, "zero_terminal_snr": True}),
    ],
)
def test_schedules(objective: str, schedule: dict[str, Any]) -> None:
    config = Diffusion.model_validate(rows.diffusion(objective=objective, schedule=schedule))
    words = diffusers_config.scheduler(config)
    ours = Schedule.from_config(config.schedule).alpha.square()
    for scheduler in (diffusers.DDIMScheduler, diffusers.DDPMScheduler, diffusers.DPMSolverMultistepScheduler):
        theirs = scheduler.from_config(words)
        # at zero terminal SNR the peer's solver keeps a little signal in the last step
        assert torch.allclose(theirs.alphas_cumprod[:-1], ours[:-1], rtol=1e-4, atol=1e-6)
        assert theirs.config.prediction_type == diffusers_config.PREDICTION[objective]
    assert torch.allclose(diffusers_config.alphas_cumprod(words).float(), ours, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_a_pipeline_of_diffusers_runs(tmp_path: Path) -> None:
    folder = write_model(tmp_path, rows.diffusion(scale=2.0))
    export_diffusers(folder, tmp_path / "out", autoencoder=tmp_path / "models" / "autoencoders" / "vq")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out")
    assert type(pipeline).__name__ == "LDMPipeline"
    pipeline.set_progress_bar_config(disable=True)
    pictures = pipeline(num_inference_steps=2, output_type="np").images
    assert pictures.shape == (1, 16, 16, 3)


def test_a_regression_is_refused() -> None:
    config = Diffusion.model_validate(rows.diffusion(objective="x0", schedule={"kind": "regression"}))
    with pytest.raises(ValueError, match="diffusers has no scheduler for a regression"):
        diffusers_config.scheduler(config)


def test_what_diffusers_has_no_words_for(tmp_path: Path) -> None:
    def words(tokens: int, **unet: Any) -> dict[str, Any]:
        config = Section.model_validate(rows.diffusion(unet=unet)["unet"])
        with torch.device("meta"):
            model = UNet(config, latent_channels=3, token_width=tokens)
        return diffusers_config.unet(config, model, into=3, out=3, size=8, token_width=tokens)

    with pytest.raises(ValueError, match="norms of 16, 32 groups"):
        words(0, channels=64, heads=1)
    with pytest.raises(ValueError, match="begins with 2"):
        words(0, heads=1, channel_mult=[2, 2])
    with pytest.raises(ValueError, match="cannot express heads: 4"):
        words(0, heads=4, channel_mult=[1, 2], attention_factors=[1, 2])
    with pytest.raises(ValueError, match="residual_updown in a UNet with tokens"):
        words(8, **UPDOWN)
    stage = tmp_path / "models" / "autoencoders" / "vq"
    folder = write_model(tmp_path, rows.diffusion(scale="channel"))
    with pytest.raises(ValueError, match=r"small: diffusers' VQModel cannot express a scale for each channel"):
        export_diffusers(folder, tmp_path / "out", autoencoder=stage)
    assert not (tmp_path / "out").exists()


def test_folders_by_others(tmp_path: Path) -> None:
    """With a row of params; old names of attention layers; whatever differs from the row is said."""
    row = rows.diffusion("of-kl", "kl", TEXT)
    folder, out = write_model(tmp_path, row), tmp_path / "out"
    export_diffusers(folder, out, autoencoder=tmp_path / "models" / "autoencoders" / "kl")
    for name in ("ldm.json", "ldm.safetensors", "vqvae/ldm.json"):
        (out / name).unlink()
    stage = load_file(out / "vqvae" / "diffusion_pytorch_model.safetensors")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, name in old.items():
        stage = {key.replace(new, name): tensor for key, tensor in stage.items()}
    torch.save(stage, out / "vqvae" / "diffusion_pytorch_model.bin")
    (out / "vqvae" / "diffusion_pytorch_model.safetensors").unlink()
    words = {"vocabulary": tmp_path / "vocab.txt"}
    list(import_diffusers(out, "small", rows.params(small=row), tmp_path / "back", **words))
    _equal(folder / "ema.safetensors", tmp_path / "back" / "diffusion" / "small" / "ema.safetensors")
    _equal(*(tmp_path / place / "autoencoders/kl/model.safetensors" for place in ("models", "back")))

    config = read_json(out / "unet" / "config.json")
    write_json(out / "unet" / "config.json", config | {"act_fn": "gelu"})
    with pytest.raises(ValueError, match="another architecture than the row's: act_fn is 'gelu', not 'silu'"):
        list(import_diffusers(out, "small", rows.params(small=row), tmp_path / "other", **words))
    other = rows.diffusion("of-kl", "kl", TEXT, schedule=row["schedule"] | {"beta_end": 0.02})
    with pytest.raises(ValueError, match="another schedule"):
        list(import_diffusers(out, "small", rows.params(small=other), tmp_path / "other", **words))
    assert not (tmp_path / "other").exists()
