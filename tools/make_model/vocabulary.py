"""A byte-level BPE vocabulary of any size that is not learnt from text: single bytes, then pairs, then triples.

Real in all that readers look at (every token is reached by merges, as many as a trained one has), so that loading it
takes as long as loading a real one. Splits as the rule that GGUF calls `smollm`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
BOS, EOS = 0, 2
PRE_TOKENIZER = "smollm"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Vocabulary:
    """Token texts by id, the special ones first, and the merges by rank."""

    tokens: list[str]
    merges: list[tuple[str, str]]


def make_vocabulary(size: int) -> Vocabulary:
    """Raises ValueError for sizes below the 256 bytes and the special tokens."""
    alphabet = sorted(
        pre_tokenizers.ByteLevel.alphabet(), key=lambda char: (not char.isalpha(), not char.isascii(), char)
    )
    if size < len(alphabet) + len(SPECIALS):
        raise ValueError(f"a byte-level vocabulary has at least {len(alphabet) + len(SPECIALS)} entries, not {size}")
    pairs = itertools.product(alphabet, alphabet)
    triples = ((a + b, c) for a, b, c in itertools.product(alphabet, alphabet, alphabet))
    count = size - len(alphabet) - len(SPECIALS)
    merges = list(itertools.islice(itertools.chain(pairs, triples), count))
    return Vocabulary([*SPECIALS, *alphabet, *(a + b for a, b in merges)], merges)


def as_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """The vocabulary as Hugging Face's tokenizers have it."""
    ids = {token: id for id, token in enumerate(vocabulary.tokens)}
    tokenizer = Tokenizer(models.BPE(ids, vocabulary.merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIALS])
    return tokenizer
