"""A folder and an archive of it are the same tree; what is wrong with one is said in one line."""

import io
import os
import re
import tarfile
import unicodedata

import pytest

from ldm.sources.tree import Tree


def listing(raw):
    return [path for path in sorted(raw.rglob("*")) if path.is_file()]


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
def test_an_archive_reads_as_the_folder_it_was_made_of(raw, tmp_path, pack, ending):
    packed = Tree(pack(tmp_path / f"all{ending}", [(path, str(path.relative_to(raw))) for path in listing(raw)]))
    folder = Tree(raw)
    assert packed.names == folder.names == sorted(folder.names)
    assert contents(packed) == contents(folder)
    assert [name for name, _ in packed.read({"cat/01.png"})] == ["cat/01.png"]


def test_archives_in_the_folder_count_as_unpacked_and_deeper_ones_as_files(raw, pack):
    names = Tree(raw).names
    pack(raw / "more.tar", [(raw / "cat/00.png", "birds/a.png")])
    pack(raw / "cat/kept.tar", [(raw / "cat/00.png", "b.png")])
    assert Tree(raw).names == sorted([*names, "birds/a.png", "cat/kept.tar"])


def test_hidden_files_and_what_macs_leave_behind_are_passed_over(raw, tmp_path, pack):
    names = Tree(raw).names
    (raw / ".DS_Store").write_bytes(b"x")
    (raw / ".git").mkdir()
    (raw / ".git/a.png").write_bytes(b"x")
    assert Tree(raw).names == names
    a = raw / "cat/00.png"
    archive = pack(tmp_path / "a.tar", [(a, "x/a.png"), (a, "x/._a.png"), (a, "__MACOSX/x/a.png"), (a, ".h/a.png")])
    assert Tree(archive).names == ["x/a.png"]


def test_names_are_composed_unicode_whatever_wrote_them(raw, tmp_path, pack):
    decomposed = unicodedata.normalize("NFD", "Käse/crème brûlée 🍮.png")
    (raw / decomposed).parent.mkdir()
    (raw / decomposed).write_bytes(b"x")
    composed = unicodedata.normalize("NFC", decomposed)
    assert composed != decomposed
    assert composed in Tree(raw).names
    assert Tree(pack(tmp_path / "u.tar", [(raw / decomposed, decomposed)])).names == [composed]
    (raw / composed).parent.mkdir()
    (raw / composed).write_bytes(b"y")
    assert mistake(raw) == f"{raw}: duplicate id '{composed}': two files whose names look the same"


def test_the_order_of_reading_is_that_of_composed_names(tmp_path):
    """Of which a file system may keep either form; the decomposed one would come first."""
    orders = []
    for form in ("NFC", "NFD"):
        for name in ("é/1.png", "f/1.png", "é.png", "f.png"):
            path = tmp_path / form / unicodedata.normalize(form, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        tree = Tree(tmp_path / form)
        orders.append([name for name, _ in tree.read(tree.names)])
    assert orders == [["f.png", "é.png", "f/1.png", "é/1.png"]] * 2


def contents(tree: Tree) -> dict[str, bytes | str]:
    return {name: read() for name, read in tree.read(tree.names)}


def mistake(raw) -> str:
    with pytest.raises(ValueError, match=re.escape(str(raw))) as error:
        contents(Tree(raw))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_no_folder_and_no_archive_is_said(tmp_path):
    assert mistake(tmp_path / "nowhere").startswith(f"{tmp_path}/nowhere: not found; put the pictures there")
    (tmp_path / "a.zip").write_bytes(b"PK")
    assert mistake(tmp_path / "a.zip").startswith(f"{tmp_path}/a.zip: neither a folder nor an archive (.tar, .tar.gz")


def test_a_name_in_two_archives_is_said(raw, pack):
    for archive in ("a.tar", "b.tar"):
        pack(raw / archive, [(raw / "cat/00.png", "new.png")])
    assert mistake(raw) == f"{raw}: duplicate id 'new.png': it occurs twice, in archives or in a folder and an archive"


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/etc/evil.png"])
def test_an_archive_that_leads_outside_is_refused(tmp_path, name):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert mistake(archive) == f"{archive}: member '{name}' leads outside of the archive; pack it again"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_an_archive_with_links_is_refused(tmp_path, kind):
    archive, member = tmp_path / "a.tar", tarfile.TarInfo("a.png")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(member)
    assert mistake(archive) == f"{archive}: member 'a.png' is not a plain file; pack it again without links"


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_a_cut_archive_is_said(raw, tmp_path, pack, ending):
    archive = pack(tmp_path / f"a{ending}", [(path, path.name) for path in listing(raw)])
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2 + 100])
    assert mistake(archive).startswith(f"{archive}: corrupt or truncated archive (")
    archive.write_bytes(os.urandom(5000))
    assert mistake(archive).startswith(f"{archive}: corrupt or truncated archive (")


def test_a_name_that_is_not_utf8_is_said(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    with open(os.path.join(os.fsencode(raw), b"caf\xe9.png"), "wb"):  # noqa: PTH118, PTH123 (Path knows no bytes)
        pass
    assert mistake(raw) == f"{raw}: the name 'caf\\udce9.png' is not UTF-8; rename the file"


def test_a_file_too_large_for_a_picture_is_said_or_skipped(raw, prepared):
    with (raw / "huge.png").open("wb") as file:
        file.truncate((1 << 28) + 1)
    [skipped] = prepared(raw, on_bad_image="skip").info["skipped"]
    assert skipped == {"path": "huge.png", "reason": "268,435,457 bytes, more than 268,435,456"}
