"""Which tokens end a generation.

The end-of-generation set is derived, not read from one field: ids that the model's files name, and tokens whose text
is a known end marker. Knows texts and ids only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

END_MARKERS: frozenset[str] = frozenset(
    (
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|calls|>",
        "<|flush|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|tool_response>",
        "<turn|>",
        "<end_of_turn>",
        "<end_of_utterance>",
        "<eos>",
        "</s>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "<｜end▁of▁sentence｜>",
    )
)
# A model never writes these inside an answer: padding, and the marks between the files of a repository.
FILE_MARKERS: frozenset[str] = frozenset(
    (
        "<|fim_pad|>",
        "<fim-pad>",
        "<fim_pad>",
        "<|fim_repo|>",
        "<fim-repo>",
        "<|repo_name|>",
        "<REPO>",
        "<reponame>",
        "<|file_sep|>",
    )
)
# Where the first set of tokens exists together, the second one is a mark inside an answer (Harmony's channels).
_EXCEPTIONS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset(("<|return|>", "<|call|>")), "<|end|>"),
    (frozenset(("<|calls|>", "<|flush|>")), "<|end|>"),
    (frozenset(("<|tool_response>",)), "</s>"),
)


def end_of_generation(added: Mapping[str, int], declared: Iterable[int]) -> frozenset[int]:
    """The ids that end a generation.

    `added` maps the texts of tokens that stand outside ordinary text (control and user-defined) to their ids;
    `declared` are the ids that the model's files name as end of sequence, turn or message, and always count.
    """
    found = {text for text in added if text in END_MARKERS or text in FILE_MARKERS}
    for together, inner in _EXCEPTIONS:
        if together <= found:
            found.discard(inner)
    return frozenset(added[text] for text in found) | frozenset(declared)
