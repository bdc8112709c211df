"""Files of our own weights: what is damaged, or of another model, is one line that says how to mend it."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ldm.nn.weights import load_into, read_tensors


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model" / "model.safetensors"
    path.parent.mkdir()
    save_file(nn.Linear(3, 2).state_dict(), path)
    return path


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_file_is_one_line_with_the_file_and_the_mending(file, kept):
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match="its weights cannot be read") as caught:
        read_tensors(file)
    said = str(caught.value)
    assert said.startswith(f"{file}: ")
    assert said.endswith(f"fetch them again (dvc pull), or delete {file.parent} and make it again (dvc repro)")
    assert "\n" not in said


def test_a_missing_file_too(file):
    file.unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors: its weights cannot be read \(No such file"):
        read_tensors(file)


def test_weights_of_another_model_are_told_by_the_first_tensor_that_differs(file):
    model = nn.Linear(3, 2)
    load_into(model, file)
    assert torch.equal(model.weight, read_tensors(file)["weight"])
    with pytest.raises(ValueError, match=r"does not fit config\.json: weight is \[2, 3\], not \[2, 4\]; "):
        load_into(nn.Linear(4, 2), file)
    with pytest.raises(ValueError, match=r"bias is \[2\], not absent; "):
        load_into(nn.Linear(3, 2, bias=False), file)
