"""The report's page: whole, offline, the same bytes from the same files, honest about what there is."""

import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest

from ldm.config import load
from ldm.files import read_json, sha256
from ldm.report.build import build

Built = Callable[[Path, Path], str]
NAMES = [
    (table, name)
    for table in ("datasets", "autoencoders", "latents", "diffusion", "samples", "studies")
    for name in load(Path(__file__).parents[2] / "presets/scenes.yaml")[table]
]


class Page(HTMLParser):
    """Tags with their attributes in order, and the text of each heading."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def everything_in(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def text_of(page: str) -> str:
    """What a reader reads, with the parameters left out: they name everything, made or not."""
    return re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL)


def test_same_files_give_the_same_bytes_wherever_they_lie(whole_run: Path, own_run: Path, tmp_path: Path, built: Built):
    built(whole_run, tmp_path / "first")
    built(own_run, tmp_path / "elsewhere" / "second")
    assert everything_in(tmp_path / "first") == everything_in(tmp_path / "elsewhere" / "second")


def test_the_manifest_lists_the_page_and_every_plot(whole_run: Path, tmp_path: Path, built: Built):
    built(whole_run, tmp_path / "report")
    found = everything_in(tmp_path / "report")
    found.pop("manifest.json")
    assert read_json(tmp_path / "report" / "manifest.json") == found
    assert "plots/diffusion-text-f4-loss.png" in found


def test_what_an_earlier_report_left_is_gone(whole_run: Path, tmp_path: Path, built: Built):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "old.png").write_bytes(b"")
    built(whole_run, tmp_path / "report")
    assert not (tmp_path / "report" / "old.png").exists()


def test_progress_counts_to_its_total(whole_run: Path, tmp_path: Path):
    records = list(build(whole_run, tmp_path / "report"))
    assert [record.done for record in records] == list(range(1, records[-1].total + 1))


def test_nothing_is_fetched_from_anywhere(page: str):
    parsed = Page(page)
    assert not parsed.all("script", "link", "iframe", "object", "embed", "base")
    sources = [tag[key] or "" for tag in parsed.all("img", "source") for key in ("src", "srcset") if key in tag]
    assert sources
    assert all(re.match("data:image/(png|jpeg);base64,", source) for source in sources)
    assert not re.search(r"https?://|@import|url\(", page)


@pytest.mark.parametrize(("table", "name"), NAMES)
def test_every_name_in_params_is_shown(page: str, table: str, name: str):
    assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text_of(page)), f"{table}.{name}"


def test_markup_in_a_caption_stays_text(page: str):
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#39;caption&#39;)&lt;/script&gt; &amp; a &#34;quoted&#34; square" in page


def test_every_picture_says_what_it_shows_and_every_link_leads_somewhere(page: str):
    parsed = Page(page)
    assert all(tag.get("alt") for tag in parsed.all("img"))
    ids = {tag["id"] for _, tag in parsed.tags if "id" in tag}
    inside = [link["href"] or "" for link in parsed.all("a") if (link["href"] or "").startswith("#")]
    assert inside
    assert {href.removeprefix("#") for href in inside} <= ids
    outside = {link["href"] for link in parsed.all("a") if link["href"] not in inside}
    beside = {path for path in outside if str(path).startswith(("pictures/", "plots/"))}
    assert outside - beside == {"../studies/super-resolution/public/index.html", "run.html"}


def test_pictures_beside_the_page_are_those_it_links_to(rich_report: Path):
    page = (rich_report / "index.html").read_text(encoding="utf-8")
    links = {unquote(link["href"] or "") for link in Page(page).all("a")}
    files = {f"pictures/{path.name}" for path in (rich_report / "pictures").iterdir()}
    assert files == {link for link in links if link.startswith("pictures/")}
    assert all((rich_report / link).is_file() for link in links if link.startswith("plots/"))


def test_headings_descend_one_level_at_a_time(page: str):
    levels = [int(tag[1]) for tag, _ in Page(page).tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_figures_stand_with_bicubic_floor_and_how_they_were_measured(page: str):
    heads = re.findall(r'<th scope="col">([^<]*)</th>', page)
    assert heads.count("bicubic") == 3  # reconstruction; super-resolution's figures once for both models, and its strip
    beside = r"<small>\[2\.9, 3\.6\]</small> <small>floor 0\.35, train–held-out 0\.51</small>"
    assert re.search(rf"<td>3\.2 {beside}</td>", page)
    assert re.search(r"<td>81\.2 % <small>\[76\.0 %, 85\.5 %\]</small> <small>originals 99\.2 %</small></td>", page)
    assert re.search(r"Kurtosis \(3: Gaussian\)</th>\s*(<td>2\.900</td>\s*){3}", page)
    assert "Fréchet distance, random conv features" in page
    assert "LPIPS, random trunk" in page
    assert "the covariance is singular." in page
    for words in ("pictures measured", "sampling steps", "eta", "guidance", "seed"):
        assert re.search(rf'<th scope="row">{words}</th>', page), words


def test_params_stand_in_full_and_identities_with_them(page: str, whole_run: Path):
    assert "# The one place to edit." in page
    assert sha256(whole_run / "samples" / "sr-f4" / "manifest.json") in page


def test_trials_of_the_study_are_counted_from_its_key(page: str):
    assert (
        "8 forced choices a rater (sr-f4 | original 2, sr-f1 | original 2, sr-f4 | sr-f1 2, attention checks 2)" in page
    )


def test_leftovers_of_other_names_are_not_shown(own_run: Path, tmp_path: Path, built: Built):
    shutil.copytree(own_run / "samples" / "text-f4", own_run / "samples" / "leftover")
    shutil.copytree(own_run / "models" / "diffusion" / "text-f4", own_run / "models" / "diffusion" / "leftover")
    assert "leftover" not in built(own_run, tmp_path / "report")


@pytest.mark.parametrize(
    ("folder", "section"),
    [
        ("data/prepared", "data"),
        ("models/autoencoders", "first-stages"),
        ("models/diffusion", "diffusion"),
        ("samples", "task-text"),
        ("studies", "studies"),
    ],
)
def test_what_has_not_been_made_is_not_shown(own_run: Path, tmp_path: Path, built: Built, folder: str, section: str):
    shutil.rmtree(own_run / folder)
    page = built(own_run, tmp_path / "report")
    assert section not in {tag.get("id") for _, tag in Page(page).tags}
    assert f'href="#{section}"' not in page


def test_without_metrics_the_pictures_still_stand(own_run: Path, tmp_path: Path, built: Built):
    shutil.rmtree(own_run / "metrics")
    page = built(own_run, tmp_path / "report")
    assert "How it was measured" not in page
    assert 'id="task-low_resolution"' in page


def test_an_incomplete_folder_is_not_shown(own_run: Path, tmp_path: Path, built: Built):
    (own_run / "samples" / "sr-f1" / "manifest.json").unlink()
    page = built(own_run, tmp_path / "report")
    assert '<th scope="col">sr-f4</th>' in page
    assert "Contact sheet of sr-f1" not in page


def test_a_report_of_nothing_says_how_to_make_something(own_run: Path, tmp_path: Path, built: Built):
    (tmp_path / "bare").mkdir()
    shutil.copy(own_run / "params.yaml", tmp_path / "bare")
    assert "No stage has run yet" in built(tmp_path / "bare", tmp_path / "report")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def emptied(path: Path) -> None:
    path.write_bytes(b"{}" if path.suffix == ".json" else b"")


def flipped(path: Path) -> None:
    """One bit in the middle: of pictures, what they look like, though they still open."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def garbled(path: Path) -> None:
    path.write_text("step,loss\nten,0.1\n")


@pytest.mark.parametrize(
    ("path", "broken"),
    [
        ("data/prepared/scenes/dataset.json", emptied),
        ("data/prepared/scenes/dataset.json", truncated),
        ("data/prepared/scenes/train-00000.parquet", truncated),
        ("models/autoencoders/kl-f4/reconstructions.png", truncated),
        ("models/autoencoders/kl-f4/model.safetensors", emptied),
        ("models/diffusion/sr-f1/history.csv", garbled),
        ("models/diffusion/sr-f1/samples.png", Path.unlink),
        ("models/diffusion/sr-f1/samples.png", flipped),
        ("data/prepared/scenes/test-00000.parquet", flipped),
        ("samples/sr-f4/samples-00000.parquet", truncated),
        ("samples/sr-f4/samples-00000.parquet", flipped),
        ("samples/text-f4/sampling.json", emptied),
        ("metrics/sr-f4.json", emptied),
        ("studies/super-resolution/key.json", Path.unlink),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(own_run: Path, tmp_path: Path, path: str, broken: Callable):
    broken(own_run / path)
    with pytest.raises(ValueError, match=re.escape(path)) as error:
        list(build(own_run, tmp_path / "report"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "report").exists()
