"""Stop strings: the same result whatever the pieces, and nothing held back that could be shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.stops import StopMatcher

ALPHABET = st.text("ab", max_size=12)
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3)


def by_character(text: str, stops: list[str], include: bool, blind: int) -> tuple[str, str | None]:
    """The rule in plain words: the first character at which a stop string is complete decides."""
    for end in range(blind + 1, len(text) + 1):
        for stop in stops:
            if text[:end].endswith(stop):
                return text[: end if include else end - len(stop)], stop
    return text, None


def feed(matcher: StopMatcher, pieces: list[str], num_unarmed: int) -> tuple[str, str | None]:
    shown = ""
    for i, piece in enumerate(pieces):
        text, stop = matcher.push(piece, armed=i >= num_unarmed)
        shown += text
        if stop is not None:
            return shown, stop
    return shown + matcher.flush(), None


@given(st.lists(ALPHABET, max_size=6), STOPS, st.booleans(), st.integers(0, 3))
def test_pieces_do_not_matter(pieces: list[str], stops: list[str], include: bool, num_unarmed: int) -> None:
    blind = len("".join(pieces[:num_unarmed]))
    got = feed(StopMatcher(stops, include=include), pieces, num_unarmed)
    want = by_character("".join(pieces), stops, include, blind)
    if want[1] is not None and len(want[0]) < blind and not include:
        # text that was shown while stop strings were ignored is not taken back
        assert got[1] == want[1] and "".join(pieces).startswith(got[0])
    else:
        assert got == want


@given(ALPHABET, STOPS)
def test_only_what_may_become_a_stop_string_is_held_back(text: str, stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    shown, stop = matcher.push(text)
    if stop is None:
        held = matcher.flush()
        assert shown + held == text
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


def test_include_shows_the_stop_string_and_cuts_behind_it() -> None:
    assert StopMatcher(["END"], include=True).push("the END of") == ("the END", "END")
    assert StopMatcher(["END"]).push("the END of") == ("the ", "END")


def test_the_first_complete_one_wins_and_ties_go_to_the_first_named() -> None:
    assert StopMatcher(["bcd", "c"]).push("abcd") == ("ab", "c")
    assert StopMatcher(["b", "ab"]).push("ab") == ("a", "b")
    assert StopMatcher(["ab", "b"]).push("ab") == ("", "ab")


def test_a_stop_that_begins_while_ignored_counts_when_complete() -> None:
    matcher = StopMatcher(["ab"])
    assert matcher.push("xaba", armed=False) == ("xab", None)
    assert matcher.push("b") == ("", "ab")
