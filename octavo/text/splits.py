"""How byte-level BPE vocabularies split text before merging, by the name that GGUF files give.

A table: name -> split patterns and defaults. A name that is not in it is refused, because another split would give
wrong ids without any error. Patterns are those of the models' own tokenizers (Oniguruma syntax); where several are
given, each splits further what the ones before left. Source: GGUF's `tokenizer.ggml.pre` names and their meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import tokenizers
from tokenizers import normalizers, pre_tokenizers

from octavo.base.errors import UnsupportedModelError


@dataclass(frozen=True)
class SplitRule:
    """One way of splitting, with the defaults that come with the name.

    `whole_words`: a piece that is in the vocabulary is taken as it is, without merging. `add_bos`: the default where
    the file does not say. `nfc`: the original tokenizer composes characters first.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False
    nfc: bool = False

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        """Split by the patterns in turn, then write bytes in the byte-level alphabet."""
        steps = [pre_tokenizers.Split(tokenizers.Regex(p), behavior="isolated") for p in self.patterns]
        return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    def normalizer(self) -> normalizers.Normalizer | None:
        return normalizers.NFC() if self.nfc else None


# Alternatives of the patterns. Contractions; words with one leading character; runs of other characters; spaces.
_CONTRACTION = "'s|'t|'re|'ve|'m|'ll|'d"
_ANY_CONTRACTION = f"(?i:{_CONTRACTION})"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_OTHER = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_NEWLINES = r"\s*[\r\n]+"
_SPACES = r"\s+(?!\S)|\s+"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _joined(*alternatives: str) -> str:
    return "|".join(alternatives)


def _cased_words(suffix: str, lead: str = r"[^\r\n\p{L}\p{N}]?") -> str:
    """Words that break where the case rises: upper* lower+ or upper+ lower*, each with an optional suffix."""
    return f"{lead}{_UPPER}*{_LOWER}+{suffix}|{lead}{_UPPER}+{_LOWER}*{suffix}"


_GPT2_PATTERN = rf"{_CONTRACTION}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)"
_GPT2 = SplitRule((_GPT2_PATTERN,))
_DIGITS_GPT2 = SplitRule((r"\p{N}", _GPT2_PATTERN))
_LLAMA3 = SplitRule((_joined(_ANY_CONTRACTION, _WORD, r"\p{N}{1,3}", _OTHER, _NEWLINES, _SPACES),))
_LLAMA3_WHOLE = replace(_LLAMA3, whole_words=True, add_bos=True)
_QWEN2 = SplitRule((_joined(_ANY_CONTRACTION, _WORD, r"\p{N}", _OTHER, _NEWLINES, _SPACES),))
_QWEN35 = SplitRule(
    (
        _joined(
            _ANY_CONTRACTION,
            r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
            r"\p{N}",
            r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
            _NEWLINES,
            _SPACES,
        ),
    )
)
_SLASHED_OTHER = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_TEKKEN = SplitRule(
    (_joined(_cased_words(""), r"\p{N}", _SLASHED_OTHER, _NEWLINES, _SPACES),), whole_words=True, add_bos=True
)
_GPT4O_PATTERN = _joined(_cased_words(f"{_ANY_CONTRACTION}?"), r"\p{N}{1,3}", _SLASHED_OTHER, _NEWLINES, _SPACES)
_GPT4O = SplitRule((_GPT4O_PATTERN,))
_GROUPED_FROM_RIGHT = r"\d{1,3}(?=(?:\d{3})*\b)"
_ASCII_PUNCTUATION = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"
_DEEPSEEK3_WORDS = _joined(
    rf"{_ASCII_PUNCTUATION}[A-Za-z]+",
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
    r" ?[\p{P}\p{S}]+[\r\n]*",
    _NEWLINES,
    _SPACES,
)
_CJK_AND_KANA = r"\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}"
_DEEPSEEK3 = SplitRule((r"\p{N}{1,3}", rf"[{_CJK_AND_KANA}]+", _DEEPSEEK3_WORDS))
_CJK_AND_HANGUL = r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+"


def _code_points(ranges: str) -> str:
    """Hexadecimal "first-last" or single code points, as the inside of a character class."""
    return "".join("-".join(rf"\x{{{end}}}" for end in item.split("-")) for item in ranges.split())


# The cased letters of European and some American scripts, as DeepSeek's first tokenizer lists them.
_CASED = _code_points(
    "41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376-377 37B-37D 37F 386 388-38A "
    "38C 38E-3A1 3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF "
    "1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D "
    "1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 "
    "1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 213C-213F "
    "2145-2149 214E 2183-2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2-2CF3 A640-A66D A680-A69B A722-A76F "
    "A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 "
    "104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943 "
)
_WIDE_PUNCTUATION = _code_points("21-2F 3A-7E FF01-FF0F FF1A-FF5E 2018-201F 3000-3002")
_BAILING = SplitRule(
    (
        _joined(
            r"'(?i:[sdmt]|ll|ve|re)",
            r"[^\r\n\p{L}\p{N}]?+\p{L}+",
            r"\p{N}",
            r" ?[^\s\p{L}\p{N}]++[\r\n]*",
            r"\s*[\r\n]",
            _SPACES,
        ),
    )
)
_KIMI_LEAD = r"[^\r\n\p{L}\p{N}]?"
_KIMI_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_KIMI_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_KIMI = SplitRule(
    (
        _joined(
            r"\p{Han}+",
            f"{_KIMI_LEAD}{_KIMI_UPPER}*{_KIMI_LOWER}+{_ANY_CONTRACTION}?",
            f"{_KIMI_LEAD}{_KIMI_UPPER}+{_KIMI_LOWER}*{_ANY_CONTRACTION}?",
            r"\p{N}{1,3}",
            _OTHER,
            _NEWLINES,
            _SPACES,
        ),
    )
)
_NO_SENTENCE_MARKS = " ?[^(\\s|.,!?…。，、।۔،)]+"
_YOUTU_SCRIPTS = _joined(
    r"[\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+",
    r"[\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}\x{2019}\x{2014}\x{FF1A}\x{FF1B}\x{FF0C}"
    r"\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+",
    r"[\x{3105}-\x{312F}]+",
    rf"[{_CJK_AND_KANA}]+",
)
_JAIS2_SPACES = _joined(*(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4)), r"\s{1,2}(?!\S)", r"\s{1}")

_RULES: tuple[tuple[SplitRule, str], ...] = (
    (
        _GPT2,
        "gpt-2 phi-2 mpt olmo jais trillion exaone4 granite-docling jina-es jina-de jina-v1-en jina-v2-es jina-v2-de "
        "jina-v2-code gigachat a.x-4.0 mellum modern-bert roberta-bpe",
    ),
    (_DIGITS_GPT2, "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2"),
    (_LLAMA3_WHOLE, "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano"),
    (_LLAMA3, "dbrx smaug-bpe"),
    (replace(_LLAMA3, whole_words=True), "glm4 glm5 chatglm-bpe"),
    (replace(_QWEN2, nfc=True), "qwen2"),
    (_QWEN2, "deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2"),
    (replace(_QWEN35, nfc=True), "qwen35"),
    (SplitRule((_joined(_WORD, r"\p{N}", _OTHER, _NEWLINES, _SPACES),)), "ufakzeka"),
    (
        SplitRule((_joined(_ANY_CONTRACTION, _WORD, r"\p{N}", r" ?[^\s\p{L}\p{N}\r\n]+", _NEWLINES, _SPACES),)),
        "seed-coder",
    ),
    (
        SplitRule(
            (
                r"\p{N}{1,3}",
                _joined(_ANY_CONTRACTION, _WORD, r"\p{N}+", _OTHER, _NEWLINES, _SPACES),
            ),
            whole_words=True,
        ),
        "minicpm5",
    ),
    (SplitRule((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2_PATTERN, "[0-9][0-9][0-9]")), "falcon"),
    (SplitRule((r"[\p{P}\$\+<=>\^~\|]+", _GPT2_PATTERN, r"\p{N}+", "[0-9][0-9][0-9]")), "default"),
    (
        SplitRule(
            (
                r"[\r\n]",
                rf"\s?[{_CASED}]+",
                rf"\s?[{_WIDE_PUNCTUATION}]+",
                r"\s+$",
                _CJK_AND_HANGUL,
                r"\p{N}+",
            )
        ),
        "deepseek-llm",
    ),
    (SplitRule((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK_AND_HANGUL, r"\p{N}")), "deepseek-coder"),
    (_DEEPSEEK3, "deepseek-v3 hunyuan-dense joyai-llm hy_v4"),
    (_TEKKEN, "tekken"),
    (_GPT4O, "gpt-4o llama4 kanana2 talkie minimax-m2"),
    (SplitRule((_GROUPED_FROM_RIGHT, _GPT4O_PATTERN)), "tiny_aya cohere2moe"),
    (SplitRule((r"\p{N}+", r"(?=(\d{3})+(?!\d))")), "superbpe"),
    (_KIMI, "kimi-k2"),
    (_BAILING, "bailingmoe bailingmoe2 llada-moe"),
    (
        SplitRule(
            (
                _joined(
                    _ANY_CONTRACTION,
                    r"[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+",
                    r"\p{N}",
                    r" ?[^\s\p{L}\p{N}]+[\r\n/]?",
                    r"\s*[\r\n]",
                    _SPACES,
                ),
            )
        ),
        "exaone-moe",
    ),
    (SplitRule((_NO_SENTENCE_MARKS,)), "poro-chat bloom gpt3-finnish"),
    (SplitRule((_NO_SENTENCE_MARKS, r"\p{N}")), "viking"),
    (
        SplitRule(
            (
                "<sentinel:[0-9]+>",
                "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
                "([\\t\\n]|    |  )",
                r"\p{N}",
                r"[\p{P}!-/:-@\[-`{-~]",
                _GPT2_PATTERN,
            ),
            add_bos=True,
        ),
        "chameleon",
    ),
    (
        SplitRule(
            (
                _YOUTU_SCRIPTS,
                _joined(_cased_words(f"{_ANY_CONTRACTION}?"), r"\p{N}", _SLASHED_OTHER, _NEWLINES, _SPACES),
            ),
            whole_words=True,
        ),
        "youtu",
    ),
    (
        SplitRule((_joined(_ANY_CONTRACTION, _WORD, r"\p{N}{1,3}", _OTHER, _NEWLINES, _JAIS2_SPACES),)),
        "jais-2",
    ),
)
SPLIT_RULES: Mapping[str, SplitRule] = {name: rule for rule, names in _RULES for name in names.split()}


def split_rule(name: str) -> SplitRule:
    """The rule of a `tokenizer.ggml.pre` name; UnsupportedModelError for a name that is not in the table."""
    rule = SPLIT_RULES.get(name)
    if rule is None:
        raise UnsupportedModelError(
            f"The pre-tokenizer {name!r} (tokenizer.ggml.pre) is not known, and another one would give wrong token "
            "ids. Use the original Hugging Face repository, which has a tokenizer.json."
        )
    return rule
