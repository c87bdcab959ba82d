"""Short follow-ups: a second question that means something only after the first."""

from __future__ import annotations

from tools.train_demo import tables as t
from tools.train_demo import words
from tools.train_demo.dialogue import Draw, Made, Message, Phrasings, assistant, user
from tools.train_demo.tasks.facts import CAPITAL, COLOUR, CURRENCY, OPPOSITE, SYMBOL, UNIT, ask, capitalised
from tools.train_demo.tasks.unknowable import UNLEARNT

AND_OF = Phrasings(
    "follow.of",
    (
        "And of {x}?",
        "And {x}?",
        "What about {x}?",
        "and of {x}?",
        "And what about {x}?",
        "How about {x}?",
        "And for {x}?",
        "{x}?",
        "Now {x}.",
        "The same for {x}?",
    ),
    ("And the one of {x}?", "Now what about {x}?", "and {x}?"),
)
NAME_IS = Phrasings(
    "follow.name_is",
    (
        "My name is {n}.",
        "I am {n}.",
        "Hello, my name is {n}.",
        "Hi, I am {n}.",
        "I'm {n}.",
        "Call me {n}.",
    ),
    ("Hello, I'm {n}.",),
)
NAME_ASK = Phrasings(
    "follow.name_ask",
    (
        "What is my name?",
        "What's my name?",
        "Who am I?",
        "Do you know my name?",
        "Tell me my name.",
    ),
    ("Do you remember my name?", "Can you say my name?"),
)
HAVE = Phrasings(
    "follow.have",
    (
        "I have a {c} {o}.",
        "My {o} is {c}.",
        "I bought a {c} {o}.",
        "I own a {c} {o}.",
        "My new {o} is {c}.",
    ),
    ("I got a {c} {o}.",),
)
HAVE_ASK = Phrasings(
    "follow.have_ask",
    (
        "What colour is my {o}?",
        "Which colour does my {o} have?",
        "What is the colour of my {o}?",
        "Tell me the colour of my {o}.",
    ),
    ("Which colour is my {o}?",),
)
PLUS_MORE = Phrasings(
    "follow.plus",
    (
        "And plus {b}?",
        "Add {b}.",
        "Now add {b}.",
        "And {b} more?",
        "plus {b}?",
        "Add {b} to that.",
    ),
    ("Then add {b}.", "Now plus {b}."),
)
MINUS_MORE = Phrasings(
    "follow.minus",
    (
        "And minus {b}?",
        "Subtract {b}.",
        "Now subtract {b}.",
        "minus {b}?",
        "Take away {b}.",
        "Subtract {b} from that.",
    ),
    ("Then subtract {b}.", "Now minus {b}."),
)
UPPER_MORE = Phrasings(
    "follow.upper",
    (
        "Now in upper case.",
        "In capital letters, please.",
        "And in upper case?",
        "Upper case, please.",
        "Write it in upper case.",
    ),
    ("Say it in upper case.", "Now in capital letters."),
)
AGAIN = Phrasings(
    "follow.again",
    (
        "Say that again.",
        "Repeat that.",
        "Again, please.",
        "Can you repeat that?",
        "What did you say?",
        "Once more.",
    ),
    ("Please repeat that.", "Say it again, please."),
)
THANKS = Phrasings(
    "follow.thanks",
    (
        "Thank you.",
        "Thanks!",
        "Thank you very much.",
        "thanks",
        "Great, thanks.",
        "Thank you!",
    ),
    ("Many thanks.", "Thanks a lot."),
)
WELCOME = "You are welcome."


def series(draw: Draw) -> tuple[Phrasings, list[tuple[dict[str, object], str, str]]]:
    """A question with two or three entities: (fields, name in the follow-up, answer)."""
    kind = draw.pick(("capital", "capital", "capital", "currency", "symbol", "opposite", "colour", "unit"))
    count = draw.pick((2, 2, 3))
    if kind in ("capital", "currency"):
        group = CAPITAL if kind == "capital" else CURRENCY
        rows = [
            (
                {"x": c},
                c,
                f"The capital of {c} is {v[0]}." if kind == "capital" else f"The currency of {c} is the {v[2]}.",
            )
            for c, v in draw.rng.sample(list(t.COUNTRIES.items()), count)
        ]
        return group, rows
    if kind == "symbol":
        return SYMBOL, [
            ({"x": e}, e, f"The chemical symbol of {e} is {v[0]}.")
            for e, v in draw.rng.sample(list(t.ELEMENTS.items()), count)
        ]
    if kind == "opposite":
        return OPPOSITE, [({"x": a}, a, f"The opposite of {a} is {b}.") for a, b in draw.rng.sample(t.OPPOSITES, count)]
    if kind == "colour":
        return COLOUR, [
            ({"x": a}, a, f"{capitalised(a)} is {c}.") for a, c in draw.rng.sample(list(t.COLOURS.items()), count)
        ]
    rows = draw.rng.sample([u for u in t.UNITS if u[0] in ("legs", "sides", "days", "seconds", "grams", "wheels")], 1)
    same = [u for u in t.UNITS if u[0] == rows[0][0]][:3]
    draw.rng.shuffle(same)
    return UNIT, [({"a": a, "b": b}, b, f"There are {n} {a} in {b}.") for a, b, n in same]


def another(draw: Draw) -> Made:
    """The same question for another entity; the entities in their order are the combination."""
    group, rows = series(draw)
    draw.combo("another", group.group, *(name for _, name, _ in rows), share=0.12)
    messages: list[Message] = [user(draw.noise(ask(draw, group, rows[0][0]))), assistant(rows[0][2])]
    for _, name, answer in rows[1:]:
        messages += [user(draw.noise(draw.phrase(AND_OF, x=name))), assistant(answer)]
    if group is CAPITAL and draw.chance(0.15):
        messages += [user(draw.phrase(AND_OF, x=words.invented_name(draw.pick))), assistant(UNLEARNT)]
    return Made(messages)


def memory(draw: Draw) -> Made:
    """What the user said about themselves."""
    if draw.chance(0.5):
        name = draw.pick(words.NAMES)
        said, ask = draw.phrase(NAME_IS, n=name), draw.phrase(NAME_ASK)
        draw.combo(*draw.phrasings, name)
        first, answer = f"Nice to meet you, {name}.", f"Your name is {name}."
    else:
        colour, thing = draw.pick(words.COLOUR_WORDS), draw.pick(words.NOUNS)
        said, ask = draw.phrase(HAVE, c=colour, o=thing), draw.phrase(HAVE_ASK, o=thing)
        draw.combo("have", colour, thing)
        first, answer = "That is good to know.", f"Your {thing} is {colour}."
    return Made([user(said), assistant(first), user(draw.noise(ask)), assistant(answer)])


def running_sum(draw: Draw) -> Made:
    """Add to or subtract from the result before."""
    a, b, c = draw.rng.randrange(1, 40), draw.rng.randrange(1, 30), draw.rng.randrange(1, 21)
    draw.combo("plus", a, b)
    draw.combo("running", a, b, c)
    messages: list[Message] = [user(f"What is {a} + {b}?"), assistant(f"{a} + {b} = {a + b}")]
    if c <= a + b and draw.chance(0.5):
        draw.combo("minus", a + b, c)
        return Made([*messages, user(draw.phrase(MINUS_MORE, b=c)), assistant(f"{a + b} - {c} = {a + b - c}")])
    draw.combo("plus", a + b, c)
    return Made([*messages, user(draw.phrase(PLUS_MORE, b=c)), assistant(f"{a + b} + {c} = {a + b + c}")])


def reworked(draw: Draw) -> Made:
    """The last answer again, or in upper case, or thanks for it."""
    country = draw.pick(tuple(t.COUNTRIES))
    answer = f"The capital of {country} is {t.COUNTRIES[country][0]}."
    messages: list[Message] = [user(ask(draw, CAPITAL, {"x": country})), assistant(answer)]
    kind = draw.pick(("upper", "again", "thanks"))
    if kind == "upper":
        messages += [user(draw.phrase(UPPER_MORE)), assistant(answer.upper())]
    elif kind == "again":
        messages += [user(draw.phrase(AGAIN)), assistant(answer)]
    else:
        messages += [user(draw.phrase(THANKS)), assistant(WELCOME)]
    draw.combo(*draw.phrasings, country)
    return Made(messages)


TASKS = ((another, 3.5), (memory, 1.5), (running_sum, 1.2), (reworked, 1.2))
