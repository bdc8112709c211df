"""BERT-style WordPiece tokens: a vocabulary trained on the captions, or a published one."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import BertWordPieceTokenizer
from torch import Tensor
from transformers import BertTokenizer

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # all that transformers makes of a folder without vocabulary


def train_tokenizer(captions: Iterable[str], vocabulary_size: int, length: int) -> BertTokenizer:
    """Lower-case WordPiece of at most `vocabulary_size` tokens, the same for the same captions in any order.

    Raises ValueError where there is no caption, or more characters than `vocabulary_size` has room for.
    """
    ordered = sorted(caption for caption in captions if caption.strip())
    if not ordered:
        raise ValueError("no captions to make a vocabulary from; choose a data set with captions or another condition")
    wordpiece = BertWordPieceTokenizer(lowercase=True)
    wordpiece.train_from_iterator(
        ordered,
        vocab_size=vocabulary_size,
        min_frequency=1,
        limit_alphabet=len({*"".join(ordered)}) + 1,
        special_tokens=[*_SPECIAL, *_continuations(wordpiece, ordered)],
        show_progress=False,
    )
    tokenizer = BertTokenizer(vocab=wordpiece.get_vocab(), model_max_length=length)
    if len(tokenizer) > vocabulary_size:
        raise ValueError(
            f"tokens.vocabulary_size {vocabulary_size} is too small: the characters of the captions alone are "
            f"{len(tokenizer)} tokens; make it larger"
        )
    return tokenizer


def _continuations(wordpiece: BertWordPieceTokenizer, captions: Iterable[str]) -> list[str]:
    """All `##c` with which the training of WordPiece begins, in order.

    Left to itself it numbers them as a hash map yields the words, which differs from process to process, and breaks
    ties between merges by those numbers.
    """
    tail: set[str] = set()
    for caption in captions:
        words = wordpiece.pre_tokenizer.pre_tokenize_str(wordpiece.normalizer.normalize_str(caption))
        tail.update(character for word, _ in words for character in word[1:])
    return [f"##{character}" for character in sorted(tail)]


def load_vocabulary(path: Path, length: int) -> BertTokenizer:
    """The lower-case WordPiece tokenizer of a published vocab.txt, one token a line."""
    if not path.is_file():
        raise ValueError(f"{path}: no vocabulary there; put a vocab.txt into this folder or say vocabulary: none")
    return _whole(BertTokenizer(vocab=str(path), model_max_length=length), path)


def save_tokenizer(tokenizer: BertTokenizer, folder: Path) -> None:
    """As transformers saves it; `load_tokenizer` and `BertTokenizer.from_pretrained` read it."""
    tokenizer.backend_tokenizer.no_padding()  # the last call's padding is not part of the tokenizer
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(folder)


def load_tokenizer(folder: Path) -> BertTokenizer:
    if not (folder / "tokenizer.json").is_file():  # transformers would make up an empty tokenizer instead
        raise ValueError(f"{folder}: no tokenizer.json there; run the stage that writes it (dvc repro)")
    return _whole(BertTokenizer.from_pretrained(folder, local_files_only=True), folder)


def _whole(tokenizer: BertTokenizer, path: Path) -> BertTokenizer:
    if len(tokenizer) <= len(_SPECIAL) or None in (
        tokenizer.pad_token_id,
        tokenizer.unk_token_id,
        tokenizer.cls_token_id,
    ):
        raise ValueError(f"{path}: not a BERT vocabulary (it makes {len(tokenizer)} tokens)")
    return tokenizer


def encode(tokenizer: BertTokenizer, captions: Sequence[str]) -> Int[Tensor, "b length"]:
    """[CLS] tokens [SEP] [PAD]..., int32, cut to the tokenizer's length. The null condition is the empty caption."""
    rows = tokenizer(list(captions), padding="max_length", truncation=True, max_length=tokenizer.model_max_length)
    return torch.tensor(rows["input_ids"], dtype=torch.int32).reshape(len(captions), -1)
