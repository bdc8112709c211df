"""A small random CLIP in a folder of weights, as transformers saves it."""

import json
from pathlib import Path

import torch

import ldm.nn.vision  # noqa: F401  (before transformers' CLIP)
from ldm.files import sha256, write_json

CHARACTERS = [chr(code) for code in range(33, 127)]
WORDS = [*CHARACTERS, *(f"{c}</w>" for c in CHARACTERS), "re", "red</w>", "<|startoftext|>", "<|endoftext|>"]


def write_clip(folder: Path, seed: int = 3) -> Path:
    """Text tokens [16, 8], pictures of 16 pixels, embeddings of width 6."""
    from transformers import CLIPConfig, CLIPModel

    size = len(WORDS)
    narrow = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": size, "max_position_embeddings": 16, "bos_token_id": size - 2, "eos_token_id": size - 1}
    config = CLIPConfig(
        text_config=narrow | text, vision_config=narrow | {"image_size": 16, "patch_size": 8}, projection_dim=6
    )
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    CLIPModel(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    about = {"kind": "clip", "file": "model.safetensors", "source": "drawn at random"}
    write_json(folder / "weights.json", about | {"sha256": sha256(folder / "model.safetensors")})
    return folder
