"""Folders and archives that were made to do harm: refused in one line, or read as the pictures they hold."""

import gzip
import io
import os
import shutil
import tarfile
import tracemalloc
import unicodedata
from pathlib import Path

import pytest

from ldm.sources import tree

OUTSIDE = "/etc/passwd"


def packed(archive: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(archive, "w") as tar:
        for member, content in members:
            member.size = member.size or len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


def member(name: str, **about: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in about.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "name",
    ["-rf.png", "$(id).png", "a'b\"c;d|e.png", "مرحبا \u200f.png", "👨‍👩‍👧.png", "a" * 250 + ".png", "...png",
     "CON.png", "a\\..\\b.png", "%2e%2e%2fa.png", "<script>.png"],
)  # fmt: skip
def test_an_odd_name_is_an_id_like_any_other(raw, photo, pack, tmp_path, prepared, name):
    photo(50).save(raw / "x.png")
    (raw / "x.png").rename(raw / name)
    if name.startswith("."):
        assert name not in prepared(raw).part  # hidden
        return
    whole = prepared(raw)
    assert name in whole.part
    files = [(path, path.relative_to(raw).as_posix()) for path in raw.rglob("*.png")]
    assert prepared(pack(tmp_path / "all.tar.gz", files)).manifest == whole.manifest


@pytest.mark.parametrize("name", ["a\nb.png", "a\x1b[2Jb.png", "a\rb.png", "a\u2028b.png", "a\x9bb.png"])
def test_a_name_that_would_break_the_line_is_refused(raw, photo, tmp_path, mistake, name):
    photo(50).save(raw / "x.png")
    (raw / "x.png").rename(raw / name)
    mending = f"the name {name!a} has a line break or a control character in it; rename the file"
    assert mistake(raw) == f"{raw}: {mending}"
    archive = packed(tmp_path / "a.tar", (member(name), b"x"))
    assert mistake(archive) == f"{archive}: {mending}"


def test_names_in_an_archive_that_are_no_names(tmp_path, mistake):
    latin = packed(tmp_path / "latin.tar", (member("caf\udce9.png"), b"x"))
    assert mistake(latin) == f"{latin}: the name 'caf\\udce9.png' is not UTF-8; rename the file"
    composed, decomposed = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    twins = packed(tmp_path / "twins.tar", (member(composed), b"x"), (member(decomposed), b"y"))
    assert "duplicate id 'é.png'" in mistake(twins)


def test_a_link_to_a_file_is_that_file_as_dvc_links_into_its_cache(raw, tmp_path, prepared):
    whole = prepared(raw).manifest
    (tmp_path / "cache").mkdir()
    for path in list(raw.rglob("*.png")):
        kept = tmp_path / "cache" / path.name
        path.rename(kept)
        path.symlink_to(kept) if path.name < "06" else path.hardlink_to(kept)
    assert prepared(raw).manifest == whole


def test_a_link_to_a_folder_is_refused_for_dvc_does_not_look_behind_it(raw, tmp_path, mistake):
    shutil.move(raw / "dog", tmp_path / "dog")
    (raw / "dog").symlink_to(tmp_path / "dog")
    message = mistake(raw)
    assert message == f"{raw}/dog: a link to a folder, behind which DVC does not look; put the folder itself there"
    assert mistake(raw, "parquet", splits={"train": "*"}, image="image") == message


def test_what_is_no_file_is_a_bad_image_and_is_not_waited_for(raw, prepared, mistake):
    os.mkfifo(raw / "pipe.png")
    assert mistake(raw).startswith(f"{raw}/pipe.png: a broken link, a pipe or a device, not a file; mend or remove it")
    (raw / "zeros.png").symlink_to("/dev/zero")
    (raw / "gone.png").symlink_to("nowhere.png")
    (raw / "round.png").symlink_to("round.png")
    (raw / "secret.png").symlink_to(OUTSIDE)
    found = prepared(raw, on_bad_image="skip").info["skipped"]
    reasons = {entry["path"]: entry["reason"] for entry in found}
    assert set(reasons) == {"gone.png", "pipe.png", "round.png", "secret.png", "zeros.png"}
    assert reasons["zeros.png"] == reasons["pipe.png"]
    assert reasons["gone.png"] == "cannot be read: No such file or directory"
    assert reasons["secret.png"].startswith("not a picture (")


def test_a_pipe_in_the_place_of_annotations_or_tables_is_not_waited_for(raw, mistake):
    os.mkfifo(raw / "captions.jsonl")
    assert mistake(raw, "captions").startswith(f"{raw}/captions.jsonl: a broken link, a pipe or a device")
    os.mkfifo(raw / "a.parquet")
    message = mistake(raw, "parquet", splits={"train": "*.parquet"}, image="image")
    assert message.startswith(f"{raw}/a.parquet: a broken link, a pipe or a device")


@pytest.mark.parametrize("mode", ["folder", "webdataset"])
def test_devices_and_sparse_files_in_an_archive_are_refused(tmp_path, mistake, mode):
    given = {"splits": {"train": "*.tar"}} if mode == "webdataset" else {}
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        (tmp_path / "raw").mkdir(exist_ok=True)
        packed(tmp_path / "raw/a.tar", (member("a.png", type=kind, linkname=OUTSIDE), b""))
        assert "member 'a.png' is not a plain file; pack it again without links" in mistake(
            tmp_path / "raw", mode, **given
        )


def test_an_archive_that_unpacks_without_end_is_refused_before_it_is_unpacked(tmp_path, mistake, monkeypatch):
    bomb = tmp_path / "bomb.tar.gz"
    with gzip.open(bomb, "wb") as file:
        file.write(member("a.png", size=1 << 40).tobuf())
        file.write(bytes(1 << 20))
    assert mistake(bomb).endswith("1,099,511,627,776 bytes unpacked, more than 17,179,869,184; pack less into it")
    monkeypatch.setattr(tree, "MAX_UNPACKED", 1000)
    many = packed(tmp_path / "many.tar", *((member(f"{n}.png"), bytes(10)) for n in range(200)))
    assert tree.Tree(many).names  # 2,000 bytes, of which the archive itself is the larger part


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_name_of_gigabytes_does_not_fill_the_memory(tmp_path, mistake, kind):
    bomb = tmp_path / "bomb.tar.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(member("x", type=kind, size=1 << 28).tobuf())
        for _ in range(1 << 8):
            file.write(b"a" * (1 << 20))
    tracemalloc.start()
    message = mistake(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message == f"{bomb}: corrupt or truncated archive (a header of 268,435,456 bytes)"
    assert peak < 16 << 20


@pytest.mark.parametrize("source", ["folder", "webdataset"])
def test_a_negative_size_does_not_go_round_in_circles(tmp_path, mistake, source):
    given = {"splits": {"train": "*.tar"}} if source == "webdataset" else {}
    (tmp_path / "raw").mkdir()
    header = bytearray(member("a.png").tobuf())
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"  # base 256: -1024
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "raw/a.tar").write_bytes(bytes(header) + bytes(10240))
    assert "corrupt or truncated archive (" in mistake(tmp_path / "raw", source, **given)
    packed(tmp_path / "raw/a.tar", (member("a.png", pax_headers={"size": "-1536"}), b"x"))
    assert ": claims -1,536 bytes" in mistake(tmp_path / "raw", source, **given)


def test_a_member_too_large_for_a_picture_is_skipped(raw, pack, tmp_path, prepared, monkeypatch):
    files = [(path, path.name) for path in sorted(raw.rglob("*.png"))]
    (tmp_path / "big.png").write_bytes(bytes(50_000))
    archive = pack(tmp_path / "all.tar", [*files, (tmp_path / "big.png", "big.png")])
    monkeypatch.setattr(tree.extract, "__defaults__", (40_000,))
    [skipped] = prepared(archive, on_bad_image="skip").info["skipped"]
    assert skipped == {"path": "big.png", "reason": "50,000 bytes, more than 40,000"}
