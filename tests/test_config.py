"""A section is frozen, complete and strict; every mistake is one line that says where and how to mend it."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ldm.config import Run, load, section
from ldm.diffusion.config import Diffusion

PARAMS = Path(__file__).parent.parent / "presets/scenes.yaml"


def mistake(change, place="diffusion.text-f4", cls=Diffusion) -> str:
    values = load(PARAMS)
    change(values)
    with pytest.raises(ValueError, match=r"params\.yaml") as error:
        section(values, cls, place)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_the_default_parameters_are_valid():
    written = load(PARAMS)
    read = section(written, Diffusion, "diffusion.text-f4")
    assert read.unet.channels == written["diffusion"]["text-f4"]["unet"]["channels"]


def test_a_misspelt_key_names_its_place_and_the_nearest_right_one():
    def change(values):
        values["diffusion"]["text-f4"]["unet"] = {**values["diffusion"]["text-f4"]["unet"]}
        del values["diffusion"]["text-f4"]["unet"]["channels"]
        values["diffusion"]["text-f4"]["unet"]["chanels"] = 64

    assert mistake(change) == "params.yaml: diffusion.text-f4.unet: unknown key 'chanels', did you mean 'channels'?"


def test_a_misspelt_name_of_a_model_too():
    message = mistake(lambda values: None, "diffusion.txt-f4")
    assert message == "params.yaml: diffusion: no entry 'txt-f4', did you mean 'text-f4'?"


def test_a_wrong_type_says_what_was_found():
    def change(values):
        values["diffusion"]["text-f4"]["train"]["steps"] = "many"

    message = mistake(change)
    assert message.startswith("params.yaml: diffusion.text-f4.train.steps: input should be a valid integer")
    assert message.endswith("found 'many'")


def test_a_value_out_of_range():
    def change(values):
        values["diffusion"]["text-f4"]["condition"]["tokens"]["drop"] = 1.5

    assert mistake(change) == (
        "params.yaml: diffusion.text-f4.condition.tokens: drop: input should be less than or equal to 1, found 1.5"
    )


def test_a_missing_key():
    def change(values):
        del values["run"]["threads"]

    assert mistake(change, "run", Run) == "params.yaml: run.threads: missing"


def test_a_condition_is_checked_as_the_kind_that_it_names():
    def change(values):
        values["diffusion"]["text-f4"]["condition"]["tokens"]["widht"] = 64

    message = mistake(change)
    assert message.startswith("params.yaml: diffusion.text-f4.condition.tokens: unknown key 'widht'")


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    (tmp_path / "params.yaml").write_text("lr: 1e-4\n")
    assert load(tmp_path / "params.yaml") == {"lr": 1e-4}


@example({"two\nlines": None})
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_whatever_stands_in_the_file_the_error_is_one_line(values):
    with pytest.raises(ValueError, match=r"params\.yaml") as error:
        section({"diffusion": {"x": values}}, Diffusion, "diffusion.x")
    assert len(str(error.value).splitlines()) == 1
