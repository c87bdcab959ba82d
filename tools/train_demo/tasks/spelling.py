"""Counting and spelling: letters of a word, items of a list, orders."""

from __future__ import annotations

from tools.train_demo import words
from tools.train_demo.dialogue import Draw, Made, Phrasings, assistant, user
from tools.train_demo.tables import NUMBER_WORDS, ORDINALS

SPELL = Phrasings(
    "spelling.spell",
    (
        "Spell {w}.",
        "Spell the word {w}.",
        "How do you spell {w}?",
        "spell {w}",
        "Spell {w} with dashes.",
        "How is {w} spelled?",
        "Please spell the word {w}.",
        "Write {w} letter by letter.",
        "Can you spell {w}?",
        'Spell "{w}".',
    ),
    ("How is the word {w} spelled?", "Can you spell the word {w}?", "Spell out {w}."),
)
LETTERS = Phrasings(
    "spelling.letters",
    (
        "How many letters are in {w}?",
        "How many letters does {w} have?",
        "Count the letters of {w}.",
        "How many letters are in the word {w}?",
        "Count the letters in the word {w}.",
        "number of letters in {w}?",
        "How long is the word {w}?",
        'How many letters are in "{w}"?',
    ),
    ("How many letters does the word {w} have?", "Count the letters in {w}."),
)
FIRST = Phrasings(
    "spelling.first",
    (
        "What is the first letter of {w}?",
        "first letter of {w}?",
        "With which letter does {w} start?",
        "Which letter does {w} begin with?",
        "Tell me the first letter of {w}.",
        "What's the first letter of the word {w}?",
    ),
    ("What is the first letter of the word {w}?", "Which letter does {w} start with?"),
)
LAST = Phrasings(
    "spelling.last",
    (
        "What is the last letter of {w}?",
        "last letter of {w}?",
        "With which letter does {w} end?",
        "Which letter does {w} finish with?",
        "Tell me the last letter of {w}.",
        "What's the last letter of the word {w}?",
    ),
    ("What is the last letter of the word {w}?", "Which letter does {w} end with?"),
)
BACKWARDS = Phrasings(
    "spelling.backwards",
    (
        "Spell {w} backwards.",
        "What is {w} backwards?",
        "Reverse the word {w}.",
        "Write {w} backwards.",
        "Reverse the letters of {w}.",
        "spell {w} backwards",
    ),
    ("Spell the word {w} backwards.", "Turn the letters of {w} around."),
)
ITEMS = Phrasings(
    "spelling.items",
    (
        "Count the items: {l}",
        "How many items are in this list: {l}?",
        "How many words are here: {l}?",
        "Count these: {l}",
        "How many are these: {l}?",
        "How many things are in the list {l}?",
        "Count the words: {l}",
    ),
    ("How many items are here: {l}?", "Count the things in this list: {l}"),
)
REVERSE = Phrasings(
    "spelling.reverse",
    (
        "Reverse this list: {l}",
        "Reverse the list: {l}",
        "Write this list backwards: {l}",
        "Reverse the order of {l}",
        "Turn this list around: {l}",
        "Say these in reverse order: {l}",
    ),
    ("Write these in reverse order: {l}", "Reverse the order of this list: {l}"),
)
NTH = Phrasings(
    "spelling.nth",
    (
        "What is the {n} item of {l}?",
        "Which is the {n} in this list: {l}?",
        "Give me the {n} word of: {l}",
        "The {n} item in {l}?",
        "Name the {n} item of this list: {l}",
        "What is the {n} word in {l}?",
    ),
    ("What is the {n} item in this list: {l}?", "Name the {n} word of: {l}"),
)
RANGE = Phrasings(
    "spelling.range",
    (
        "Count from {a} to {b}.",
        "Count up from {a} to {b}.",
        "List the numbers from {a} to {b}.",
        "Say the numbers from {a} to {b}.",
        "count from {a} to {b}",
        "Can you count from {a} to {b}?",
    ),
    ("Write the numbers from {a} to {b}.", "Can you count up from {a} to {b}?"),
)
DOWN = Phrasings(
    "spelling.down",
    (
        "Count down from {a} to {b}.",
        "Count backwards from {a} to {b}.",
        "Make a countdown from {a} to {b}.",
        "Count from {a} down to {b}.",
    ),
    ("Can you count down from {a} to {b}?",),
)
ALPHABET = Phrasings(
    "spelling.alphabet",
    (
        "Which letter comes after {x}?",
        "What letter follows {x} in the alphabet?",
        "letter after {x}?",
        "What is the letter after {x}?",
        "Which letter comes after {x} in the alphabet?",
    ),
    ("What letter comes after {x}?", "Name the letter after {x}."),
)
WORDS_OF = Phrasings(
    "spelling.number_word",
    (
        "Write {a} as a word.",
        "Write the number {a} in letters.",
        "How do you write {a} in words?",
        "{a} in words?",
        "What is {a} as a word?",
    ),
    ("Write {a} in words.",),
)

_LISTS = (words.ANIMALS, words.FOODS, words.COLOUR_WORDS, words.OBJECTS, words.NAMES)


def plural(count: int, noun: str) -> str:
    """`1 letter`, `2 letters`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def the_word(draw: Draw) -> str:
    """A word of the list, sometimes written with a capital, sometimes a name."""
    if draw.chance(0.2):
        return str(draw.pick(words.NAMES))
    return str(draw.pick(words.SPELLING))


def letters_task(draw: Draw) -> Made:
    """One word, one question on its letters; (question, word) is the combination."""
    word = the_word(draw)
    dashed = "-".join(word)
    kind = draw.pick(("spell", "spell", "letters", "letters", "first", "last", "backwards"))
    draw.combo(kind, word)
    if kind == "spell":
        text, answer = draw.phrase(SPELL, w=word), dashed
    elif kind == "letters":
        text, answer = draw.phrase(LETTERS, w=word), f"{dashed}: {plural(len(word), 'letter')}."
    elif kind == "first":
        text, answer = draw.phrase(FIRST, w=word), f"The first letter of {word} is {word[0].upper()}."
    elif kind == "last":
        text, answer = draw.phrase(LAST, w=word), f"The last letter of {word} is {word[-1].upper()}."
    else:
        text, answer = draw.phrase(BACKWARDS, w=word), f"{dashed} backwards is {'-'.join(reversed(word))}"
    return Made([user(draw.noise(text)), assistant(answer)])


def lists(draw: Draw) -> Made:
    """A short list: how many, which one, in reverse; the items together are the combination."""
    pool = draw.pick(_LISTS)
    kind = draw.pick(("items", "items", "reverse", "reverse", "nth"))
    count = draw.rng.randrange(2, 8 if kind != "reverse" else 6)
    items = draw.rng.sample(pool, count)
    joined = ", ".join(items)
    draw.combo(kind, joined, share=0.3)
    if kind == "items":
        numbered = ", ".join(f"{i} {w}" for i, w in enumerate(items, 1))
        return Made(
            [user(draw.noise(draw.phrase(ITEMS, l=joined))), assistant(f"{numbered}: {plural(count, 'item')}.")]
        )
    if kind == "reverse":
        return Made([user(draw.noise(draw.phrase(REVERSE, l=joined))), assistant(", ".join(reversed(items)))])
    i = draw.rng.randrange(min(count, 5))
    n = "last" if draw.chance(0.2) else ORDINALS[i]
    item = items[-1] if n == "last" else items[i]
    return Made([user(draw.noise(draw.phrase(NTH, n=n, l=joined))), assistant(f"The {n} one is {item}.")])


def ranges(draw: Draw) -> Made:
    """Counting up and down; (start, end) is the combination."""
    a = draw.rng.randrange(0, 40) if draw.chance(0.6) else 1
    b = a + draw.rng.randrange(2, 20)
    if draw.chance(0.3):
        b = min(b, a + 10)
        draw.combo("down", b, a)
        text, values = draw.phrase(DOWN, a=b, b=a), range(b, a - 1, -1)
    else:
        draw.combo("up", a, b)
        text, values = draw.phrase(RANGE, a=a, b=b), range(a, b + 1)
    return Made([user(draw.noise(text)), assistant(", ".join(map(str, values)))])


def alphabet(draw: Draw) -> Made:
    """The letter after a letter, and numbers as words."""
    if draw.chance(0.5):
        i = draw.rng.randrange(25)
        a, b = chr(65 + i), chr(66 + i)
        text = draw.phrase(ALPHABET, x=a)
        draw.combo(draw.phrasings[-1], a)
        return Made([user(draw.noise(text)), assistant(f"{b} comes after {a}.")])
    n = draw.rng.randrange(21)
    text = draw.phrase(WORDS_OF, a=n)
    draw.combo(draw.phrasings[-1], n)
    return Made([user(draw.noise(text)), assistant(NUMBER_WORDS[n])])


DRILL = Phrasings(
    "spelling.drill",
    (
        "Spell these words: {l}",
        "Spell: {l}",
        "Spell each of {l}",
        "Spell every word: {l}",
        "Write these letter by letter: {l}",
    ),
)


def drill(draw: Draw) -> Made:
    """Several words in one request: practice, in training only."""
    chosen = [the_word(draw) for _ in range(draw.rng.randrange(2, 5))]
    for word in chosen:
        draw.combo("spell", word)
    return Made([user(draw.phrase(DRILL, l=", ".join(chosen))), assistant(", ".join("-".join(w) for w in chosen))])


DRILLS = ((drill, 3.0),)
TASKS = ((letters_task, 5.0), (lists, 3.0), (ranges, 1.0), (alphabet, 0.8))
