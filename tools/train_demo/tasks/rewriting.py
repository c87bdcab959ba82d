"""Rewriting: case, tense, politeness, negation, questions, replacement."""

from __future__ import annotations

from tools.train_demo import words
from tools.train_demo.dialogue import Draw, Made, Phrasings, assistant, user
from tools.train_demo.tasks.facts import capitalised

UPPER = Phrasings(
    "rewriting.upper",
    (
        "Write in upper case: {s}",
        "Convert to upper case: {s}",
        "Make this upper case: {s}",
        "Upper case: {s}",
        "Write this in capital letters: {s}",
        "Change to capitals: {s}",
        "Put this in upper case: {s}",
        "uppercase: {s}",
    ),
    ("Write this in upper case: {s}", "Convert this to capital letters: {s}"),
)
LOWER = Phrasings(
    "rewriting.lower",
    (
        "Write in lower case: {s}",
        "Convert to lower case: {s}",
        "Make this lower case: {s}",
        "Lower case: {s}",
        "Write this in small letters: {s}",
        "Put this in lower case: {s}",
        "lowercase: {s}",
    ),
    ("Write this in lower case: {s}", "Change to lower case: {s}"),
)
PAST = Phrasings(
    "rewriting.past",
    (
        "Put into the past tense: {s}",
        "Write in the past tense: {s}",
        "Past tense: {s}",
        "Change to the past tense: {s}",
        "Rewrite in the past tense: {s}",
        "Make this past tense: {s}",
        "Turn this into the past: {s}",
    ),
    ("Put this into the past tense: {s}", "Convert to the past tense: {s}"),
)
POLITE = Phrasings(
    "rewriting.polite",
    (
        "Make this polite: {s}",
        "Say this politely: {s}",
        "Rewrite politely: {s}",
        "Make it more polite: {s}",
        "Turn this into a polite request: {s}",
        "Be more polite: {s}",
        "Write this as a polite question: {s}",
    ),
    ("Make this more polite: {s}", "Rewrite this as a polite request: {s}"),
)
NEGATE = Phrasings(
    "rewriting.negate",
    (
        "Make this negative: {s}",
        "Negate this sentence: {s}",
        "Write the negative of: {s}",
        "Negate: {s}",
        "Say the contrary with not: {s}",
        "Turn this into a negative sentence: {s}",
    ),
    ("Make this sentence negative: {s}", "Write this as a negative sentence: {s}"),
)
QUESTION = Phrasings(
    "rewriting.question",
    (
        "Make this a question: {s}",
        "Turn this into a question: {s}",
        "Write as a question: {s}",
        "Change this sentence into a question: {s}",
        "Ask this as a question: {s}",
    ),
    ("Turn this sentence into a question: {s}", "Write this as a question: {s}"),
)
REPLACE = Phrasings(
    "rewriting.replace",
    (
        "Replace {a} by {b}: {s}",
        "Replace {a} with {b}: {s}",
        "Replace the word {a} by {b}: {s}",
        "Write {b} instead of {a}: {s}",
        "Change {a} to {b}: {s}",
        "Use {b} instead of {a}: {s}",
    ),
    ("Replace the word {a} with {b}: {s}", "Put {b} instead of {a}: {s}"),
)
REPEAT = Phrasings(
    "rewriting.repeat",
    (
        "Repeat: {s}",
        "Repeat after me: {s}",
        "Say: {s}",
        "Say this: {s}",
        "Repeat this sentence: {s}",
        "Copy: {s}",
        "Write exactly this: {s}",
        "Please repeat: {s}",
    ),
    ("Repeat this: {s}", "Say exactly this: {s}"),
)


def sentence_parts(draw: Draw) -> tuple[str, tuple[str, str, str], str]:
    """Subject, verb forms, object; the three together are the combination."""
    subject, verb, noun = draw.pick(words.SUBJECTS), draw.pick(words.VERBS), draw.pick(words.NOUNS)
    draw.combo("sentence", subject, verb[0], noun)
    return subject, verb, f"the {noun}"


CASE_WORDS = (*words.ANIMALS, *words.FOODS, *words.COLOUR_WORDS)


def case(draw: Draw) -> Made:
    """Upper or lower case of two to four words, or of a sentence."""
    if draw.chance(0.5):
        s = " ".join(draw.rng.sample(CASE_WORDS, draw.rng.randrange(1, 5)))
        draw.combo("case", s)
    else:
        subject, verb, obj = sentence_parts(draw)
        s = f"{subject} {verb[draw.rng.randrange(1, 3)]} {obj}."
    if draw.chance(0.55):
        return Made([user(draw.phrase(UPPER, s=s)), assistant(s.upper())])
    return Made([user(draw.phrase(LOWER, s=s.upper() if draw.chance(0.6) else s.title())), assistant(s.lower())])


def grammar(draw: Draw) -> Made:
    """Past tense, negation, question."""
    subject, verb, obj = sentence_parts(draw)
    s = f"{subject} {verb[1]} {obj}."
    kind = draw.pick(("past", "negate", "question"))
    if kind == "past":
        return Made([user(draw.phrase(PAST, s=s)), assistant(f"{subject} {verb[2]} {obj}.")])
    if kind == "negate":
        return Made([user(draw.phrase(NEGATE, s=s)), assistant(f"{subject} does not {verb[0]} {obj}.")])
    subject = subject if subject.startswith("My") else subject[:1].lower() + subject[1:]
    subject = subject.replace("My", "my")
    return Made([user(draw.phrase(QUESTION, s=s)), assistant(f"Does {subject} {verb[0]} {obj}?")])


def polite(draw: Draw) -> Made:
    """An order as a polite question."""
    action, noun = draw.pick(words.POLITE_ACTIONS), draw.pick(words.NOUNS)
    draw.combo("polite", action, noun)
    text = action.format(noun=noun)
    return Made([user(draw.phrase(POLITE, s=capitalised(text) + ".")), assistant(f"Could you please {text}?")])


def replace(draw: Draw) -> Made:
    """Put one word in the place of another."""
    subject, verb, obj = sentence_parts(draw)
    other = draw.pick(words.NOUNS)
    if obj == f"the {other}":
        other = "tree"
    colour = draw.pick(words.COLOUR_WORDS)
    s = f"{subject} {verb[2]} the {colour} {obj[4:]}."
    if draw.chance(0.3):
        new = draw.pick([c for c in words.COLOUR_WORDS if c != colour])
        return Made([user(draw.phrase(REPLACE, a=colour, b=new, s=s)), assistant(s.replace(colour, new))])
    return Made(
        [user(draw.phrase(REPLACE, a=obj[4:], b=other, s=s)), assistant(f"{subject} {verb[2]} the {colour} {other}.")]
    )


def repeat(draw: Draw) -> Made:
    """Copy what was said."""
    if draw.chance(0.5):
        s = " ".join(draw.rng.sample(words.SPELLING, draw.rng.randrange(1, 6)))
        draw.combo("repeat", s)
    else:
        subject, verb, obj = sentence_parts(draw)
        s = f"{subject} {verb[draw.rng.randrange(1, 3)]} {obj}."
    return Made([user(draw.phrase(REPEAT, s=s)), assistant(s)])


COPY = Phrasings(
    "rewriting.copy_drill",
    (
        "Repeat: {s}",
        "Copy: {s}",
        "Repeat this list: {s}",
        "Copy these words: {s}",
        "Say all of this: {s}",
        "{s} Repeat it.",
    ),
)
LOOK_UP = Phrasings(
    "rewriting.look_up_drill",
    ("{s}. Look up {k}.", "Look up {k} in: {s}", "{s}. What are {k}?", "Find {k}: {s}", "Given {s}, give {k}."),
)


def some_words(draw: Draw, count: int) -> list[str]:
    """Different words of all kinds: names, places, things, numbers, inventions."""
    pools = (words.NAMES, words.CITIES, words.SPELLING, words.SPELLING, words.THINGS, words.JOBS, words.EVENTS)
    out: dict[str, None] = {}
    while len(out) < count:
        roll = draw.rng.random()
        if roll < 0.2:
            out[str(draw.rng.randrange(100))] = None
        elif roll < 0.3:
            out[words.invented_name(draw.pick, "")] = None
        else:
            out[str(draw.pick(draw.pick(pools)))] = None
    return list(out)


def copy_drill(draw: Draw) -> Made:
    """Copy a row of words: practice, in training only. What it teaches, every other copying task uses."""
    s = (", " if draw.chance(0.4) else " ").join(some_words(draw, draw.rng.randrange(4, 14)))
    draw.combo("repeat", s)
    return Made([user(draw.phrase(COPY, s=s)), assistant(s)])


def look_up_drill(draw: Draw) -> Made:
    """Pairs of words, and some of them asked for by the first: practice, in training only."""
    count = draw.rng.randrange(2, 7)
    row = some_words(draw, 2 * count)
    sign = draw.pick((" = ", ": ", " is ", " has "))
    pairs = dict(zip(row[:count], row[count:], strict=True))
    keys = draw.rng.sample(row[:count], draw.rng.randrange(1, count + 1))
    text = draw.phrase(LOOK_UP, s=", ".join(f"{k}{sign}{v}" for k, v in pairs.items()), k=", ".join(keys))
    return Made([user(text), assistant(", ".join(f"{k}{sign}{pairs[k]}" for k in keys))])


def case_drill(draw: Draw) -> Made:
    """Many words in upper or lower case: practice, in training only."""
    pool = (*CASE_WORDS, *words.NOUNS)
    s = " ".join(draw.rng.sample(pool, draw.rng.randrange(4, 10)))
    draw.combo("case", s)
    if draw.chance(0.55):
        return Made([user(draw.phrase(UPPER, s=s)), assistant(s.upper())])
    return Made([user(draw.phrase(LOWER, s=s.upper() if draw.chance(0.6) else s.title())), assistant(s)])


DRILLS = ((copy_drill, 2.0), (look_up_drill, 3.0), (case_drill, 4.0))
TASKS = ((case, 3.0), (grammar, 3.0), (polite, 1.2), (replace, 1.5), (repeat, 1.0))
