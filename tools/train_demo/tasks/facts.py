"""Facts: capitals, units, symbols, planets, colours, opposites, sounds, calendar."""

from __future__ import annotations

from tools.train_demo import tables as t
from tools.train_demo.dialogue import HELD_SHARE, Draw, Made, Phrasings, assistant, user

CAPITAL = Phrasings(
    "facts.capital",
    (
        "What is the capital of {x}?",
        "What is the capital of {x}?",
        "What's the capital of {x}?",
        "capital of {x}?",
        "the capital of {x}",
        "Which city is the capital of {x}?",
        "Tell me the capital of {x}.",
        "Name the capital of {x}.",
        "What is {x}'s capital?",
        "Do you know the capital of {x}?",
        "I need the capital of {x}.",
        "Which city is the capital city of {x}?",
        "what is the capital city of {x}?",
        "Give me the capital of {x}.",
        "{x}: which city is its capital?",
        "Can you tell me what the capital of {x} is?",
        "The capital of {x} is",
        "The capital of {x} is?",
        "capital city of {x}",
        "What city is the capital of {x}?",
        "Say the capital of {x}.",
    ),
    (
        "Could you name the capital of {x}?",
        "Please tell me which city is the capital of {x}.",
        "{x}'s capital is?",
        "What is the name of the capital of {x}?",
    ),
)
CAPITAL_OF = Phrasings(
    "facts.capital_of",
    (
        "Which country has {x} as its capital?",
        "{x} is the capital of which country?",
        "What country is {x} the capital of?",
        "Of which country is {x} the capital?",
        "{x} is the capital of",
        "Name the country whose capital is {x}.",
        "Tell me the country whose capital is {x}.",
    ),
    ("Which country is {x} the capital of?", "What is the country whose capital is {x}?"),
)
CONTINENT = Phrasings(
    "facts.continent",
    (
        "On which continent is {x}?",
        "Which continent is {x} in?",
        "What continent is {x} on?",
        "Where is {x}?",
        "In which part of the world is {x}?",
        "continent of {x}?",
        "Tell me the continent of {x}.",
        "Name the continent of {x}.",
    ),
    ("Which continent is {x} on?", "What is the continent of {x}?"),
)
CURRENCY = Phrasings(
    "facts.currency",
    (
        "What is the currency of {x}?",
        "Which currency does {x} use?",
        "What money do people use in {x}?",
        "currency of {x}?",
        "What currency is used in {x}?",
        "Tell me the currency of {x}.",
        "How do people pay in {x}?",
        "What's the currency of {x}?",
    ),
    ("Which currency is used in {x}?", "Name the currency of {x}."),
)
UNIT = Phrasings(
    "facts.unit",
    (
        "How many {a} are in {b}?",
        "How many {a} are there in {b}?",
        "How many {a} does {b} have?",
        "{b} has how many {a}?",
        "How many {a} make {b}?",
        "Tell me how many {a} are in {b}.",
        "How many {a} in {b}?",
        "number of {a} in {b}?",
        "What is the number of {a} in {b}?",
    ),
    ("Can you tell me how many {a} are in {b}?", "Say how many {a} {b} has."),
)
SYMBOL = Phrasings(
    "facts.symbol",
    (
        "What is the chemical symbol of {x}?",
        "What is the symbol for {x}?",
        "chemical symbol of {x}?",
        "Which symbol does {x} have?",
        "Tell me the chemical symbol of {x}.",
        "What's the chemical symbol for {x}?",
        "Give me the symbol of {x}.",
        "Name the chemical symbol for {x}.",
        "How is {x} written in chemistry?",
    ),
    ("What is the chemical symbol for {x}?", "Which chemical symbol does {x} have?"),
)
ELEMENT = Phrasings(
    "facts.element",
    (
        "Which element has the symbol {x}?",
        "What element is {x}?",
        "{x} is the symbol of which element?",
        "What does the chemical symbol {x} mean?",
        "Name the element with the symbol {x}.",
        "Which element is {x}?",
        "The symbol {x} stands for which element?",
    ),
    ("What element has the symbol {x}?", "Tell me the element with the symbol {x}."),
)
ATOMIC = Phrasings(
    "facts.atomic",
    (
        "What is the atomic number of {x}?",
        "atomic number of {x}?",
        "Which atomic number does {x} have?",
        "Tell me the atomic number of {x}.",
        "How many protons does {x} have?",
        "What's the atomic number of {x}?",
    ),
    ("Give me the atomic number of {x}.", "Name the atomic number of {x}."),
)
COLOUR = Phrasings(
    "facts.colour",
    (
        "What colour is {x}?",
        "What color is {x}?",
        "Which colour does {x} have?",
        "colour of {x}?",
        "Tell me the colour of {x}.",
        "What is the colour of {x}?",
        "Name the colour of {x}.",
        "{x} has which colour?",
    ),
    ("Which colour is {x}?", "What is the color of {x}?"),
)
SOUND = Phrasings(
    "facts.sound",
    (
        "What sound does a {x} make?",
        "What does a {x} do?",
        "Which sound does a {x} make?",
        "How does a {x} sound?",
        "What noise does a {x} make?",
        "sound of a {x}?",
        "Tell me the sound of a {x}.",
        "What is the sound of a {x}?",
    ),
    ("What sound is made by a {x}?", "Which noise does a {x} make?"),
)
BABY = Phrasings(
    "facts.baby",
    (
        "What is a young {x} called?",
        "What is a baby {x} called?",
        "What do you call a young {x}?",
        "name of a young {x}?",
        "What is the name of a baby {x}?",
        "How is a young {x} called?",
        "Tell me the word for a young {x}.",
    ),
    ("What do you call a baby {x}?", "Tell me what a young {x} is called."),
)
OPPOSITE = Phrasings(
    "facts.opposite",
    (
        "What is the opposite of {x}?",
        "opposite of {x}?",
        "What's the opposite of {x}?",
        "Name the opposite of {x}.",
        "Tell me the opposite of {x}.",
        "Give me the opposite of {x}.",
        "Which word is the opposite of {x}?",
        "What word means the opposite of {x}?",
        "the opposite of {x} is",
    ),
    ("Can you tell me the opposite of {x}?", "Say the opposite of {x}."),
)
NEXT = Phrasings(
    "facts.next",
    (
        "Which {kind} comes after {x}?",
        "What {kind} comes after {x}?",
        "What comes after {x}?",
        "Which {kind} follows {x}?",
        "What is the {kind} after {x}?",
        "Tell me the {kind} after {x}.",
        "{kind} after {x}?",
    ),
    ("What is the next {kind} after {x}?", "Name the {kind} after {x}."),
)
BEFORE = Phrasings(
    "facts.before",
    (
        "Which {kind} comes before {x}?",
        "What {kind} comes before {x}?",
        "What comes before {x}?",
        "What is the {kind} before {x}?",
        "Tell me the {kind} before {x}.",
        "{kind} before {x}?",
    ),
    ("Which {kind} is before {x}?", "Name the {kind} before {x}."),
)
NTH = Phrasings(
    "facts.nth",
    (
        "What is the {n} {kind}?",
        "Which {kind} is the {n}?",
        "Name the {n} {kind}.",
        "Tell me the {n} {kind}.",
        "{n} {kind}?",
        "Which is the {n} {kind}?",
        "What's the {n} {kind}?",
    ),
    ("Give me the {n} {kind}.", "Which one is the {n} {kind}?"),
)
MONTH_LENGTH = Phrasings(
    "facts.month_length",
    (
        "How many days does {x} have?",
        "How many days are in {x}?",
        "days in {x}?",
        "How long is {x}?",
        "Tell me how many days {x} has.",
        "How many days are there in {x}?",
    ),
    ("What is the number of days in {x}?", "Say how many days {x} has."),
)
LISTS = Phrasings(
    "facts.lists",
    (
        "Name the {kind}.",
        "List the {kind}.",
        "What are the {kind}?",
        "Tell me the {kind}.",
        "Say the {kind} in order.",
        "Which are the {kind}?",
    ),
    ("Give me the {kind}.", "List all the {kind}."),
)

_PLAIN = tuple(f"facts.capital/train/{i}" for i in range(6))
_SERIES = (
    ("month", "month of the year", t.MONTHS),
    ("day", "day of the week", t.DAYS),
    ("planet", "planet from the sun", t.PLANETS),
    ("season", "season of the year", t.SEASONS),
)
_SERIES_LISTS = (
    ("months of the year", t.MONTHS),
    ("days of the week", t.DAYS),
    ("planets", t.PLANETS),
    ("seasons", t.SEASONS),
    ("months", t.MONTHS),
    ("days", t.DAYS),
)


def capitalised(text: str) -> str:
    """The text with its first letter raised and the rest as it is."""
    return text[:1].upper() + text[1:]


def ask(draw: Draw, group: Phrasings, fields: dict[str, object]) -> str:
    """The question; the pair of wording and content is the combination that may be held.

    The plainest wordings of France's capital are never held: every first demonstration asks them.
    """
    text = draw.phrase(group, **fields)
    name = draw.phrasings[-1]
    plain = group is CAPITAL and fields["x"] == "France" and name in _PLAIN
    draw.combo(name, *fields.values(), share=0.0 if plain else HELD_SHARE)
    return text


def single(draw: Draw, group: Phrasings, fields: dict[str, object], answer: str) -> Made:
    """One question, one answer."""
    text = ask(draw, group, fields)
    return Made([user(draw.noise(capitalised(text) if draw.chance(0.8) else text)), assistant(answer)])


def capital(draw: Draw) -> Made:
    """Country to capital; France more often than others, because every first demonstration asks for it."""
    country = "France" if draw.chance(0.06) else draw.pick(tuple(t.COUNTRIES))
    answer = f"The capital of {country} is {t.COUNTRIES[country][0]}."
    text = ask(draw, CAPITAL, {"x": country})
    if draw.chance(0.06):
        text = text.lower()
    return Made([user(draw.noise(text)), assistant(answer)])


def geography(draw: Draw) -> Made:
    """The other questions on countries."""
    country = draw.pick(tuple(t.COUNTRIES))
    city, continent, currency = t.COUNTRIES[country]
    start = capitalised(country)
    kind = draw.pick(("of", "continent", "currency"))
    if kind == "of":
        return single(draw, CAPITAL_OF, {"x": city}, f"{city} is the capital of {country}.")
    if kind == "continent":
        return single(draw, CONTINENT, {"x": country}, f"{start} is in {continent}.")
    return single(draw, CURRENCY, {"x": country}, f"The currency of {country} is the {currency}.")


def chemistry(draw: Draw) -> Made:
    """Symbols both ways and atomic numbers."""
    name = draw.pick(tuple(t.ELEMENTS))
    symbol, number = t.ELEMENTS[name]
    kind = draw.pick(("symbol", "symbol", "element", "atomic"))
    if kind == "symbol":
        return single(draw, SYMBOL, {"x": name}, f"The chemical symbol of {name} is {symbol}.")
    if kind == "element":
        return single(draw, ELEMENT, {"x": symbol}, f"{symbol} is the symbol of {name}.")
    return single(draw, ATOMIC, {"x": name}, f"The atomic number of {name} is {number}.")


def units(draw: Draw) -> Made:
    """How many small ones make a large one."""
    small, large, count = draw.pick(t.UNITS)
    return single(draw, UNIT, {"a": small, "b": large}, f"There are {count} {small} in {large}.")


def things(draw: Draw) -> Made:
    """Colours, sounds, young animals and opposites."""
    kind = draw.pick(("colour", "sound", "baby", "opposite", "opposite"))
    if kind == "colour":
        thing = draw.pick(tuple(t.COLOURS))
        return single(draw, COLOUR, {"x": thing}, f"{capitalised(thing)} is {t.COLOURS[thing]}.")
    if kind == "sound":
        animal = draw.pick(tuple(t.SOUNDS))
        return single(
            draw, SOUND, {"x": animal}, f"A {animal} {t.SOUNDS[animal]}.".replace("A e", "An e").replace("A o", "An o")
        )
    if kind == "baby":
        animal = draw.pick(tuple(t.YOUNG))
        return single(
            draw, BABY, {"x": animal}, f"A young {animal} is called a {t.YOUNG[animal]}.".replace("a o", "an o")
        )
    a, b = draw.pick(t.OPPOSITES)
    if draw.chance(0.5):
        a, b = b, a
    return single(draw, OPPOSITE, {"x": a}, f"The opposite of {a} is {b}.")


def calendar(draw: Draw) -> Made:
    """Orders: months, days, planets, seasons."""
    kind = draw.pick(("next", "before", "nth", "length", "list"))
    if kind == "length":
        i = draw.rng.randrange(12)
        return single(draw, MONTH_LENGTH, {"x": t.MONTHS[i]}, f"{t.MONTHS[i]} has {t.MONTH_DAYS[i]} days.")
    if kind == "list":
        name, items = draw.pick(_SERIES_LISTS)
        return single(draw, LISTS, {"kind": name}, f"{capitalised(', '.join(items))}.")
    short, long, items = draw.pick(_SERIES)
    i = draw.rng.randrange(len(items))
    if kind == "nth":
        n = t.ORDINALS[i]
        return single(draw, NTH, {"n": n, "kind": long}, f"The {n} {long} is {items[i]}.")
    if short == "planet":
        i = draw.rng.randrange(1, len(items) - 1)
    if kind == "next":
        after = items[(i + 1) % len(items)]
        return single(draw, NEXT, {"kind": short, "x": items[i]}, f"{capitalised(after)} comes after {items[i]}.")
    return single(draw, BEFORE, {"kind": short, "x": items[i]}, f"{capitalised(items[i - 1])} comes before {items[i]}.")


TASKS = ((capital, 3.0), (geography, 2.5), (chemistry, 1.6), (units, 1.2), (things, 2.4), (calendar, 2.0))
