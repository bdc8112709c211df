"""WordPiece tokens: the same in every process, and never the silent tokenizer that knows no word."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ldm.data.tokens import encode, load_tokenizer, load_vocabulary, save_tokenizer, train_tokenizer

CAPTIONS = [f"a {size} {colour} circle at the top left" for size in ("small", "large") for colour in ("red", "blue")]
WORDS = [f"{a}{b} {b}{a}{c}" for a in "pqrst" for b in ("in", "one", "ate", "ul") for c in ("s", "ly", "ness")]
TRAIN = f"""
import sys
from pathlib import Path
from ldm.data.tokens import save_tokenizer, train_tokenizer
save_tokenizer(train_tokenizer({CAPTIONS + WORDS!r}, 200, 16), Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CAPTIONS, 200, 16)


def test_words_of_the_captions_are_single_tokens(tokenizer):
    row = encode(tokenizer, ["a large red circle at the top left"])[0]
    assert (row != tokenizer.pad_token_id).sum() == 8 + 2
    assert tokenizer.decode(row, skip_special_tokens=True) == "a large red circle at the top left"
    assert tokenizer.unk_token_id not in row


def test_the_null_condition_is_the_empty_caption(tokenizer):
    [row] = encode(tokenizer, [""]).tolist()
    assert row == [tokenizer.cls_token_id, tokenizer.sep_token_id] + [tokenizer.pad_token_id] * 14


def test_long_captions_are_cut(tokenizer):
    [row] = encode(tokenizer, ["red " * 100]).tolist()
    assert len(row) == 16
    assert row[-1] == tokenizer.sep_token_id


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    encode(tokenizer, CAPTIONS)  # its padding must not be saved
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert len(loaded) == len(tokenizer)
    assert encode(loaded, [*CAPTIONS, "zebra", ""]).tolist() == encode(tokenizer, [*CAPTIONS, "zebra", ""]).tolist()


def test_two_processes_write_the_same_bytes(tmp_path):
    root = Path(__file__).parents[2]
    runs = [  # without care the ids of WordPiece follow a hash map's order
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(tmp_path / seed)],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": str(seed == "1").lower()},
        )
        for seed in ("1", "2")
    ]
    assert [run.wait() for run in runs] == [0, 0]
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / seed).iterdir()} for seed in ("1", "2"))
    assert first == second
    assert set(first) == {"tokenizer.json", "tokenizer_config.json"}


def test_the_order_of_the_captions_does_not_matter(tokenizer):
    assert train_tokenizer(reversed(CAPTIONS), 200, 16).get_vocab() == tokenizer.get_vocab()
    assert "##r" in tokenizer.get_vocab()
    assert tokenizer.tokenize("##red") == ["[UNK]", "[UNK]", "red"], "a part of words is not a special token of its own"


def test_a_published_vocabulary(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "circle", "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = load_vocabulary(tmp_path / "vocab.txt", 6)
    assert encode(tokenizer, ["Red circles dance"]).tolist() == [[2, 5, 6, 7, 1, 3]]


@pytest.mark.parametrize("content", ["", "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])])
def test_a_vocabulary_without_words_is_refused(tmp_path, content):
    (tmp_path / "vocab.txt").write_text(content)
    with pytest.raises(ValueError, match="not a BERT vocabulary"):
        load_vocabulary(tmp_path / "vocab.txt", 6)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(ValueError, match="no vocabulary there"):
        load_vocabulary(tmp_path / "vocab.txt", 6)
    with pytest.raises(ValueError, match=r"no tokenizer\.json there"):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="no captions to make a vocabulary from"):
        train_tokenizer(["", " "], 100, 8)
    with pytest.raises(ValueError, match="vocabulary_size 8 is too small"):
        train_tokenizer(CAPTIONS, 8, 8)
