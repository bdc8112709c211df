"""What an exported study promises: it is blind, balanced, repeatable, and refuses sets that do not belong together."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from ldm.data.pictures import read, to_png
from ldm.files import read_json, sha256, write_json, write_manifest
from ldm.study.export import export
from ldm.study.pictures import mosaic, same_length
from ldm.study.trials import plan
from tests.study.samples import IDS, original, settings, write_originals, write_samples


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


@pytest.mark.parametrize("trials", [1, 5, 8])
def test_each_comparison_stands_on_either_side_equally_often(trials):
    planned = plan(settings(trials=trials, catch=6), sorted(IDS))
    left = Counter((frozenset((t.left, t.right)), t.left) for t in planned.trials)
    for pair, count in Counter(frozenset((t.left, t.right)) for t in planned.trials).items():
        assert count == (6 if "mosaic" in pair else trials)
        assert abs(2 * max(left[pair, side] for side in pair) - count) <= 1


def test_no_original_comes_twice_where_there_are_enough():
    planned = plan(settings(trials=8, catch=6, practice=2), sorted(IDS))
    sources = [t.source for t in (*planned.practice, *planned.trials)]
    assert len(sources) == len(set(sources)) == 3 * 8 + 6 + 2


def test_no_original_comes_twice_in_a_comparison_even_where_there_are_few():
    planned = plan(settings(trials=8, catch=0), sorted(IDS)[:8])
    seen = Counter((frozenset((t.left, t.right)), t.source) for t in planned.trials)
    assert set(seen.values()) == {1}


def test_the_order_mixes_the_comparisons():
    planned = plan(settings(trials=8), sorted(IDS))
    kinds = [frozenset((t.left, t.right)) for t in planned.trials]
    assert sum(a != b for a, b in pairwise(kinds)) > len(kinds) / 3


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
    page = (study.public / "index.html").read_text()
    told = json.loads(page.split('id="study">')[1].split("</script>")[0])
    assert {key for trial in told["trials"] for key in trial} == {"trial", "left", "middle", "right"}


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
    page = (study.public / "index.html").read_text()
    told = json.loads(page.split('id="study">')[1].split("</script>")[0])
    checked = 0
    for trial in told["trials"]:
        entry = study.trials[trial["trial"]]
        for side in ("left", "right"):
            if entry[side] in ("original", "mosaic"):
                image = original(IDS[entry["source"]])
                expected = mosaic(image) if entry[side] == "mosaic" else image
                with Image.open(study.public / trial[side]) as shown:
                    assert shown.tobytes() == expected.resize((64, 64), Image.Resampling.NEAREST).tobytes()
                checked += 1
    assert checked == 2 * 4 + 2 * 2


def test_the_manifest_lists_every_file(exported):
    public = exported().public
    listed = read_json(public / "manifest.json")
    assert listed == {name: sha256(public / name) for name in files(public) if name != "manifest.json"}


def test_a_question_is_text_not_markup(exported):
    page = (exported(question="Which </script><b>one</b>?").public / "index.html").read_text()
    assert "</script><b>" not in page


def test_plain_studies_show_two_pictures(exported):
    page = (exported(task="any", question="default").public / "index.html").read_text()
    assert '"middle"' not in page.split('id="study">')[1].split("</script>")[0]
    assert "Which of the two images looks better?" in page


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
    few = dict(list(IDS.items())[:3])
    others = {f"other-{i}": i for i in range(10)}
    too_few = write_samples(tmp_path / "few", few, 8)
    strangers = write_samples(tmp_path / "strangers", others, 8)
    larger = write_samples(tmp_path / "larger", IDS, 8, size=32)
    coarser = write_samples(tmp_path / "coarser", IDS, 8, low=2)
    plain = write_samples(tmp_path / "plain", IDS, 8, low=0)
    elsewhere = write_originals(tmp_path / "elsewhere", others)
    first, second, images = inputs.first, inputs.second, inputs.images
    assert "3 originals in common, the study needs 4" in refusal(first, too_few, images, tmp_path)
    assert "no original in common" in refusal(first, strangers, images, tmp_path)
    assert "would tell which is which" in refusal(larger, second, images, tmp_path)
    assert "another low-resolution image" in refusal(first, coarser, images, tmp_path)
    assert "no low-resolution image" in refusal(plain, second, images, tmp_path)
    assert "set dataset to the one" in refusal(first, second, elsewhere, tmp_path)
    turned = write_samples(tmp_path / "turned", IDS, 8)
    write_json(turned / "sampling.json", {"split": "train", "random_views": True})
    write_manifest(turned)
    assert "sample another split" in refusal(first, turned, images, tmp_path)
    assert "run the stage" in refusal(first, tmp_path / "missing", images, tmp_path)


def test_a_key_among_the_published_files_is_refused(inputs, tmp_path):
    with pytest.raises(ValueError, match="would be published"):
        list(export(settings(), inputs.first, inputs.second, inputs.images, tmp_path, tmp_path / "key.json"))


def test_a_method_is_not_compared_with_itself():
    with pytest.raises(ValueError, match="name two different samples"):
        settings(first="same", second="same")
