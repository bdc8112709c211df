"""What an exported study promises: it is blind, balanced, repeatable, and refuses sets that do not belong together."""

import io
import shutil
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
from PIL import Image

from ldm.data.pictures import read, to_png
from ldm.files import read_json, sha256, write_json, write_manifest
from ldm.study.export import export
from ldm.study.pictures import mosaic, same_length
from tests.study.samples import IDS, Exported, holed, noised, original, settings, write_originals, write_samples


def chunks(png: bytes) -> list[bytes]:
    """Types of a PNG's chunks, in order."""
    types, position = [], 8
    while position < len(png):
        length = int.from_bytes(png[position : position + 4])
        types.append(png[position + 4 : position + 8])
        position += 12 + length
    return types


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_seed_alone_does_not_tell_the_names(inputs, exported, tmp_path):
    other = write_samples(tmp_path / "other", IDS, 9)
    out = Exported(tmp_path / "elsewhere" / "public", tmp_path / "elsewhere" / "key.json")
    list(export(settings(), other, inputs.second, inputs.images, out.public, out.key))
    assert not out.trials.keys() & exported().trials.keys()


def test_two_exports_are_equal_to_the_byte_and_another_seed_is_not(exported):
    one, two, other = exported("one"), exported("two"), exported("other", seed=10)
    assert files(one.public) == files(two.public)
    assert one.key.read_bytes() == two.key.read_bytes()
    assert not files(one.public).keys() & files(other.public).keys() - {"index.html", "manifest.json"}


def test_nothing_published_names_a_method_an_original_or_a_kind_of_trial(exported):
    study = exported()
    secrets = ["careful", "hasty", "mosaic", "evident", *(t["source"] for t in study.trials.values())]
    for name, content in files(study.public).items():
        for secret in secrets:
            assert secret.encode() not in content, (name, secret)
    told = [pair for pairs in (study.page["practice"], *study.page["lists"]) for pair in pairs]
    assert {key for pair in told for key in pair} == {"trial", "left", "middle", "right"}


def test_the_page_holds_the_hash_of_the_key_that_was_sealed(exported):
    study = exported()
    assert study.page["key_sha256"] == sha256(study.key)


def test_nothing_but_the_pixels_tells_an_attention_check_from_another_trial(exported):
    """Names of pictures stand in the same pattern for each trial, over all lists, and no two files are alike."""
    study = exported(trials=4, catch=2, practice=1)
    files = list((study.public / "pictures").iterdir())
    assert len(files) == (3 * 4 + 2) * (3 * 2 + 1) + 3  # two of each original in each rotation, and the middle's
    assert len({file.read_bytes() for file in files}) == len(files)
    places = [
        (pair[slot], number, slot)
        for number, pairs in enumerate(study.page["lists"])
        for pair in pairs
        for slot in ("left", "middle", "right")
    ]
    for number, pairs in enumerate(study.page["lists"]):
        for pair in pairs:
            for slot, other in (("left", "right"), ("right", "left")):
                seen = {place[1:] for place in places if place[0] == pair[slot]}
                assert seen == {(number, slot), (number ^ 1, other)}  # and in the list that mirrors this one
            assert Counter(place[1:] for place in places if place[0] == pair["middle"]) == {
                (n, "middle"): 1 for n in range(6)
            }
    assert len({frozenset(pair) for pairs in study.page["lists"] for pair in pairs}) == 1
    assert {len(value) for pairs in study.page["lists"] for pair in pairs for value in pair.values()} == {12, 33}


def test_pictures_of_another_format_tell_nothing_either(inputs, tmp_path):
    def jpeg(image: Image.Image) -> bytes:
        file, exif = io.BytesIO(), Image.Exif()
        exif[0x010E] = "painted by the hasty model"
        image.save(file, "JPEG", quality=60, exif=exif, comment="hasty")
        return file.getvalue()

    other = write_samples(tmp_path / "folder", IDS, 30, encode=jpeg)
    list(export(settings(), inputs.first, other, inputs.images, tmp_path / "public", tmp_path / "key.json"))
    pictures = list((tmp_path / "public" / "pictures").iterdir())
    assert len({p.stat().st_size for p in pictures}) == 1
    assert {tuple(dict.fromkeys(chunks(p.read_bytes()))) for p in pictures} == {(b"IHDR", b"IDAT", b"paDd", b"IEND")}


def test_pictures_differ_in_nothing_but_their_pixels(exported):
    pictures = sorted((exported().public / "pictures").iterdir())
    assert len({p.stat().st_size for p in pictures}) == 1
    assert {tuple(dict.fromkeys(chunks(p.read_bytes()))) for p in pictures} == {(b"IHDR", b"IDAT", b"paDd", b"IEND")}
    for path in pictures:
        with Image.open(path) as image:
            image.verify()
            assert (image.size, image.mode, image.info) == ((64, 64), "RGB", {})


def test_pictures_were_written_in_order_of_their_names(exported):
    times = [p.stat().st_mtime_ns for p in sorted((exported().public / "pictures").iterdir())]
    assert times == sorted(times)


def test_the_key_tells_what_the_page_shows(exported):
    study = exported()
    checked = 0
    for pair in chain.from_iterable(study.page["lists"]):
        entry = study.trials[pair["trial"]]
        for side in ("left", "right"):
            if entry[side] in ("original", "mosaic"):
                image = original(IDS[entry["source"]])
                expected = mosaic(image) if entry[side] == "mosaic" else image
                with Image.open(study.public / pair[side]) as shown:
                    assert shown.tobytes() == expected.resize((64, 64), Image.Resampling.NEAREST).tobytes()
                checked += 1
    assert checked == 6 * (2 * 4 + 2 * 2)
    assert study.lists == [[pair["trial"] for pair in pairs] for pairs in study.page["lists"]]


def test_two_models_of_other_conditions_are_compared_where_nothing_stands_between(inputs, tmp_path):
    """One makes pictures of a class, the other of a coarser picture: task any needs the same originals alone."""
    of_a_class = write_samples(tmp_path / "of-a-class", IDS, 20, channels="none")
    of_a_mask = write_samples(tmp_path / "of-a-mask", IDS, 30, channels="mask")
    study = Exported(tmp_path / "study" / "public", tmp_path / "study" / "key.json")
    list(export(settings(task="any"), of_a_class, of_a_mask, inputs.images, study.public, study.key))
    shown = Counter()
    for pair in chain.from_iterable(study.page["lists"]):
        assert pair.keys() == {"trial", "left", "right"}
        entry = study.trials[pair["trial"]]
        for side in ("left", "right"):
            amount = {"first": 20, "second": 30}.get(entry[side])
            if amount:
                expected = noised(original(IDS[entry["source"]]), amount, IDS[entry["source"]])
                with Image.open(study.public / pair[side]) as image:
                    assert image.tobytes() == expected.resize((64, 64), Image.Resampling.NEAREST).tobytes()
                shown[entry[side]] += 1
    assert shown == {"first": 6 * 2 * 4, "second": 6 * 2 * 4}
    assert refusal(of_a_class, of_a_mask, inputs.images, tmp_path / "other").endswith("or task: any")


def test_the_manifest_lists_every_file(exported):
    public = exported().public
    listed = read_json(public / "manifest.json")
    assert listed == {name: sha256(public / name) for name in files(public) if name != "manifest.json"}


def test_a_question_is_text_not_markup(exported):
    page = (exported(question="Which </script><b>one</b>?").public / "index.html").read_text()
    assert "</script><b>" not in page


def test_plain_studies_show_two_pictures(exported):
    told = exported(task="any", question="default").page
    assert all("middle" not in pair for pairs in told["lists"] for pair in pairs)
    assert told["question"] == "Which of the two images looks better?"


def test_inpainting_shows_the_hole_in_the_middle(inputs, tmp_path):
    first, second = (write_samples(tmp_path / str(n), IDS, n, channels="mask") for n in (8, 60))
    study = Exported(tmp_path / "public", tmp_path / "key.json")
    list(export(settings(task="inpainting"), first, second, inputs.images, study.public, study.key))
    assert "more realistic inpainted regions" in study.page["question"]
    for pair in study.page["lists"][0]:
        expected = holed(original(IDS[study.trials[pair["trial"]]["source"]]))
        with Image.open(study.public / pair["middle"]) as shown:
            assert shown.tobytes() == expected.resize((64, 64), Image.Resampling.NEAREST).tobytes()


def test_consent_is_asked_in_the_study_s_words(exported):
    assert "random number" in exported("default").page["consent"]
    assert exported("own", consent="Do you agree?").page["consent"] == "Do you agree?"


def test_padding_keeps_a_picture_whole():
    small, large = Image.new("RGB", (8, 8), "red"), original(1)
    padded = same_length({"small": to_png(small), "large": to_png(large)})
    assert len(padded["small"]) == len(padded["large"])
    assert read(padded["small"]).tobytes() == small.tobytes()


def refusal(first, second, images, out, **changes) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        list(export(settings(**changes), first, second, images, out / "public", out / "key.json"))
    message = str(caught.value)
    assert "\n" not in message
    assert not (out / "key.json").exists()
    return message


def test_sets_that_do_not_belong_together_are_refused(inputs, tmp_path):
    few = dict(list(IDS.items())[:12])
    others = {f"other-{i}": i for i in range(10)}
    too_few = write_samples(tmp_path / "few", few, 8)
    strangers = write_samples(tmp_path / "strangers", others, 8)
    larger = write_samples(tmp_path / "larger", IDS, 8, size=32)
    coarser = write_samples(tmp_path / "coarser", IDS, 8, low=2)
    plain = write_samples(tmp_path / "plain", IDS, 8, channels="none")
    elsewhere = write_originals(tmp_path / "elsewhere", others)
    first, second, images = inputs.first, inputs.second, inputs.images
    assert "12 originals in common, the study needs 15" in (told := refusal(first, too_few, images, tmp_path))
    assert told.endswith("or lower trials to 3")
    assert refusal(first, too_few, images, tmp_path, catch=12).endswith("raise the samples' count")
    assert "no original in common" in refusal(first, strangers, images, tmp_path)
    assert "would tell which is which" in refusal(larger, second, images, tmp_path)
    assert "another low-resolution image" in refusal(first, coarser, images, tmp_path)
    assert "made from no low-resolution image" in refusal(plain, second, images, tmp_path)
    assert "set dataset to the one" in refusal(first, second, elsewhere, tmp_path)
    turned = write_samples(tmp_path / "turned", IDS, 8)
    write_json(turned / "sampling.json", {"split": "train", "random_views": True, "condition": {"channels": "none"}})
    write_manifest(turned)
    assert "sample another split" in refusal(first, turned, images, tmp_path)
    assert "run the stage" in refusal(first, tmp_path / "missing", images, tmp_path)
    damaged = write_samples(tmp_path / "damaged", IDS, 8)
    shutil.copyfile(larger / "samples-00000.parquet", damaged / "samples-00000.parquet")
    assert "samples-00000.parquet: damaged" in refusal(first, damaged, images, tmp_path)


def test_a_key_among_the_published_files_is_refused(inputs, tmp_path):
    with pytest.raises(ValueError, match="would be published"):
        list(export(settings(), inputs.first, inputs.second, inputs.images, tmp_path, tmp_path / "key.json"))


def test_a_method_is_not_compared_with_itself():
    with pytest.raises(ValueError, match="name two different samples"):
        settings(first="same", second="same")
