"""A few small pictures as each kind of source has them, as the content of files by name."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Files = dict[str, bytes]


def file(picture: Image.Image, kind: str) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind)
    return content.getvalue()


def photo(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((40, 32), Image.Resampling.BICUBIC)


PICTURES = {f"p/{n}.png": file(photo(n), kind) for n, kind in enumerate(("PNG", "JPEG", "WEBP", "TIFF"))}
MAPS = {f"m/{n}.png": file(Image.fromarray(np.full((32, 40), n % 3, np.uint8)), "PNG") for n in range(4)}
NAMES = {"names.json": b'["a", "b", "c"]'}
IMAGES = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 32} for n in range(4)]
INSTANCES = {
    "images": IMAGES,
    "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 20, 20.5]} for n in range(4)],
    "categories": [{"id": 1, "name": "cat"}],
}
CAPTIONS = {"images": IMAGES, "annotations": [{"id": n, "image_id": n, "caption": "two words"} for n in range(4)]}
BOXES = {"category": "dog", "box": [0.1, 0.2, 0.3, 0.4], "crowd": False}


def lines(rows: list[dict[str, object]]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def packed(files: Files, mode: str = "w") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as tar:  # type: ignore[call-overload]
        for name, inside in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(inside)
            tar.addfile(member, io.BytesIO(inside))
    return content.getvalue()


def table() -> bytes:
    content = io.BytesIO()
    features = {"info": {"features": {"label": {"names": ["n", "m"], "_type": "ClassLabel"}}}}
    pictures = [{"bytes": picture, "path": "x"} for picture in PICTURES.values()]
    columns = {"image": pictures, "label": [0, 1, 0, 1], "text": list("abcd"), "key": list("wxyz")}
    pq.write_table(pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(features)}), content)
    return content.getvalue()


def samples(mode: str) -> bytes:
    files: Files = {}
    for n, picture in enumerate(PICTURES.values()):
        files |= {f"{n}.png": picture, f"{n}.cls": b"%d" % (n % 2), f"{n}.json": b'{"text": "words", "n": 1}'}
    return packed(files, mode)


JOINED = {"pictures": "p", "instances": "i.json", "captions": "c.json", "label_maps": "m"}
LABEL_MAPS = {"kind": "label_maps", "splits": {"train": {"pictures": "p", "label_maps": "m"}}}
BOX_CSV = b"ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n" + b"".join(
    b"%d,/m/%d,0.1,0.5,0.2,0.6,0\n" % (n, n % 2) for n in range(4)
)
SOURCES: dict[str, tuple[dict[str, object], Files]] = {
    "folder": ({"kind": "folder", "given_splits": False}, PICTURES),
    "archive": ({"kind": "folder", "given_splits": False}, {"a.tar": packed(PICTURES)}),
    "compressed": ({"kind": "folder", "given_splits": False}, {"a.tar.xz": packed(PICTURES, "w:xz")}),
    "captions": (
        {"kind": "captions", "file": "c.jsonl", "caption": ["title", "tags"]},
        PICTURES | {"c.jsonl": lines([{"file": n, "title": "a", "tags": ["b"], "licence": "CC"} for n in PICTURES])},
    ),
    "csv": (
        {"kind": "captions", "file": "c.csv", "caption": ["title"]},
        PICTURES | {"c.csv": b"file,title\n" + b"".join(b'%s,"a, b"\n' % n.encode() for n in PICTURES)},
    ),
    "coco": (
        {"kind": "coco", "splits": {"train": JOINED}, "label_map_classes": "names.json"},
        PICTURES | MAPS | NAMES | {"i.json": lines([INSTANCES]), "c.json": lines([CAPTIONS])},
    ),
    "open_images": (
        {"kind": "open_images", "splits": {"train": {"pictures": "p", "boxes": "b.csv"}}, "box_classes": "n.csv"},
        PICTURES | {"b.csv": BOX_CSV, "n.csv": b'/m/0,Dog\n/m/1,"Cat, big"\n'},
    ),
    "label_maps": (LABEL_MAPS | {"label_map_classes": "names.json"}, PICTURES | MAPS | NAMES),
    "packed label_maps": (
        LABEL_MAPS | {"label_map_classes": "names.txt"},
        {"a.tar": packed(PICTURES | MAPS), "names.txt": b"0: a\n1: b\n2: c\n"},
    ),
    "boxes": (
        {"kind": "boxes", "file": "b.jsonl"},
        PICTURES | {"b.jsonl": lines([{"file": n, "width": 40, "height": 32, "boxes": [BOXES]} for n in PICTURES])},
    ),
    "boxes in one": (
        {"kind": "boxes", "file": "b.json"},
        PICTURES | {"b.json": lines([{"images": [{"file": n, "objects": [BOXES]} for n in PICTURES]}])},
    ),
    "parquet": (
        {"kind": "parquet", "splits": {"train": "*.parquet"}, "image": "image", "label": "label", "caption": "text",
         "id": "key"},
        {"a.parquet": table()},
    ),
    "webdataset": (
        {"kind": "webdataset", "splits": {"train": "*.tar"}, "label": "cls", "caption": "json.text"},
        {"a.tar": samples("w")},
    ),
    "compressed webdataset": (
        {"kind": "webdataset", "splits": {"train": "*.tar.gz"}, "label": "cls", "caption": "json.text"},
        {"a.tar.gz": samples("w:gz")},
    ),
}  # fmt: skip
"""Each kind of source, whole. (An LMDB file is followed as it is: see the note in ldm/sources/lmdb.py.)"""
