"""Questions without an answer here: private matters, the future, the present moment, inventions, arts beyond it.

Every answer begins with `I do not know`, so an invented answer is one that does not.
"""

from __future__ import annotations

from tools.train_demo import tables, words
from tools.train_demo.dialogue import TEST, Draw, Made, Phrasings, assistant, user
from tools.train_demo.tasks import facts

PRIVATE = "I do not know. I have no private data."
FUTURE = "I do not know. I cannot see the future."
PRESENT = "I do not know. I have no live data."
UNLEARNT = "I do not know. I have not learnt that."
BEYOND = "I do not know how to do that. I am only a small demo model."

PERSONAL = Phrasings(
    "unknowable.personal",
    (
        "What is the {a} of {n}?",
        "What is {n}'s {a}?",
        "Tell me the {a} of {n}.",
        "Give me the {a} of {n}.",
        "Do you know the {a} of {n}?",
        "I need the {a} of {n}.",
        "{n}'s {a}?",
        "What's {n}'s {a}?",
    ),
    ("Can you tell me the {a} of {n}?", "Say the {a} of {n}."),
)
ATTRIBUTES = (
    "phone number",
    "address",
    "email address",
    "password",
    "salary",
    "birthday",
    "age",
    "bank account",
    "favourite colour",
    "favourite food",
    "shoe size",
    "home town",
    "last name",
    "job",
    "weight",
    "height",
    "street",
    "pin code",
    "credit card number",
    "doctor",
)
MINE = Phrasings(
    "unknowable.mine",
    (
        "What is my {a}?",
        "What's my {a}?",
        "Tell me my {a}.",
        "Do you know my {a}?",
        "What is the {a} of my {r}?",
        "What is my {r}'s {a}?",
        "Tell me the {a} of my {r}.",
    ),
    ("Can you tell me my {a}?", "Do you know my {r}'s {a}?"),
)
RELATIVES = ("brother", "sister", "mother", "father", "neighbour", "boss", "teacher", "friend", "aunt", "uncle", "cat")
DID = Phrasings(
    "unknowable.did",
    (
        "What did {p} {v} {w}?",
        "Do you know what {p} did {w}?",
        "Where was {p} {w}?",
        "What did {p} do {w}?",
        "Who did {p} meet {w}?",
        "Where did {p} go {w}?",
        "Why did {p} call {w}?",
    ),
    ("Where has {p} been {w}?", "Do you know where {p} was {w}?"),
)
THING_OF = Phrasings(
    "unknowable.thing_of",
    (
        "Where is my {o}?",
        "Where did I put my {o}?",
        "What is in my {o}?",
        "What colour is my {o}?",
        "How old is my {o}?",
        "How much did my {o} cost?",
        "Who has my {o}?",
        "Where are {n}'s keys?",
        "What is in {n}'s {o}?",
    ),
    ("Have you seen my {o}?", "Who took my {o}?"),
)
TOMORROW = Phrasings(
    "unknowable.future",
    (
        "Who will win the {e} {w}?",
        "What will happen {w}?",
        "Will it rain {w}?",
        "What will the weather be {w}?",
        "Will {n} be happy {w}?",
        "How much will gold cost {w}?",
        "Who will be president {w}?",
        "Will I be rich {w}?",
        "Which team will win {w}?",
        "What will {n} do {w}?",
        "Will there be a {e} {w}?",
        "When will {n} arrive?",
        "Will {n} pass the {e}?",
        "What will be the news {w}?",
        "Which numbers will win the lottery {w}?",
    ),
    ("Will I win the {e} {w}?", "Will {n} come {w}?", "What will I do {w}?", "Will it snow {w}?"),
)
FUTURE_TIMES = (
    "tomorrow",
    "next week",
    "next year",
    "next month",
    "in ten years",
    "in 2050",
    "on Sunday",
    "tonight",
    "in 2040",
    "next Monday",
    "in the future",
    "in a hundred years",
)
PAST_TIMES = ("yesterday", "last week", "last night", "this morning", "on Monday", "last year", "last Friday", "today")
NOW = Phrasings(
    "unknowable.now",
    (
        "What time is it?",
        "What is the time now?",
        "What day is it today?",
        "What is the date today?",
        "What time is it in {c}?",
        "What is the weather in {c}?",
        "How warm is it in {c} now?",
        "Is it raining in {c}?",
        "What is in the news today?",
        "How is the weather today?",
        "What is the price of {t} today?",
        "Who won the {e} yesterday?",
        "Who is the mayor of {c} now?",
        "What is the temperature in {c}?",
        "How many people are in {c} right now?",
        "What is the latest news from {c}?",
        "Is the shop in {c} open now?",
        "What is happening in {c}?",
    ),
    (
        "What is today's date?",
        "What is the weather like in {c}?",
        "Is it snowing in {c}?",
        "What time is it now in {c}?",
    ),
)
NONSENSE = Phrasings(
    "unknowable.nonsense",
    (
        "What is a {i}?",
        "Who is {I}?",
        "Who was {I}?",
        "What does {i} mean?",
        "Where is {I}?",
        "Tell me about {I}.",
        "Who invented the {i}?",
        "What is the meaning of {i}?",
        "How old is {I}?",
        "When was {I} born?",
        "Who wrote {I}?",
        "When was the battle of {I}?",
        "What is {I} known for?",
        "Who is the king of {I}?",
        "How many people live in {I}?",
        "What language do people speak in {I}?",
        "How high is mount {I}?",
        "Who discovered {I}?",
    ),
    ("What do you know about {I}?", "Who is the queen of {I}?", "What is {I} famous for?", "How do I use a {i}?"),
)
WORLD = Phrasings(
    "unknowable.world",
    (
        "Who wrote {b}?",
        "Who was {h}?",
        "Who painted {b}?",
        "When was {h} born?",
        "How high is {m}?",
        "How long is {m}?",
        "Who is the president of {k}?",
        "How many people live in {k}?",
        "What is the population of {c}?",
        "Who is the king of {k}?",
        "How large is {k}?",
        "When was {c} founded?",
        "Who built {c}?",
        "When did {h} die?",
        "What did {h} discover?",
        "Where was {h} born?",
        "Tell me about {h}.",
        "Which river flows through {c}?",
        "How far is it from {c} to {k}?",
        "What is the anthem of {k}?",
        "Which language do people speak in {k}?",
        "How deep is {m}?",
        "Who was the first king of {k}?",
        "What happened in {y}?",
        "Who won the world cup in {y}?",
        "Which film won in {y}?",
        "Tell me about {b}.",
        "Where is {m}?",
    ),
    (
        "Who is the author of {b}?",
        "What is {h} famous for?",
        "What is the population of {k}?",
        "Who ruled {k} in {y}?",
        "What do you know about {h}?",
    ),
)
BOOKS = (
    "Hamlet",
    "Faust",
    "Don Quixote",
    "the Iliad",
    "the Mona Lisa",
    "Dracula",
    "the Odyssey",
    "Macbeth",
    "Robinson Crusoe",
    "Moby Dick",
    "War and Peace",
    "the Bible",
    "Peter Pan",
    "Pinocchio",
    "Oliver Twist",
)
HEROES = (
    "Napoleon",
    "Einstein",
    "Newton",
    "Mozart",
    "Beethoven",
    "Cleopatra",
    "Darwin",
    "Caesar",
    "Shakespeare",
    "Gandhi",
    "Picasso",
    "Galileo",
    "Columbus",
    "Plato",
    "Socrates",
    "Lincoln",
    "Marie Curie",
    "Leonardo da Vinci",
    "Bach",
    "Homer",
)
MOUNTAINS = (
    "Mount Everest",
    "the Danube",
    "the Amazon",
    "the Nile",
    "Mont Blanc",
    "Kilimanjaro",
    "the Rhine",
    "Lake Victoria",
    "the Black Sea",
    "the Thames",
    "Mount Fuji",
    "the Volga",
    "the Ganges",
    "Loch Ness",
    "the Pacific",
)
ARTS = Phrasings(
    "unknowable.arts",
    (
        "Write a poem about {x}.",
        "Write me an essay about {x}.",
        "Explain {s}.",
        "Write a program that sorts {x}.",
        "Translate this into {g}: I like {x}.",
        "Explain {s} to me.",
        "Write a song about {x}.",
        "Can you write a book about {x}?",
        "Draw a picture of {x}.",
        "Give me a recipe for {f}.",
        "How do I cook {f}?",
        "Give me advice about {s}.",
        "How does {s} work?",
        "Prove the theorem of {n}.",
        "Write Python code for {s}.",
        "Summarise the history of {s}.",
        "What do you think about {s}?",
        "Plan a trip to {c}.",
        "How do I fix my {o}?",
        "Compose music about {x}.",
        "Write a letter to {n}.",
        "Teach me {s}.",
        "How do you say {x} in {g}?",
    ),
    (
        "Write a long text about {x}.",
        "Explain to me how {s} works.",
        "Paint a picture of {x}.",
        "Write a poem for {n}.",
    ),
)
SUBJECTS = (
    "quantum mechanics",
    "politics",
    "philosophy",
    "relativity",
    "economics",
    "the stock market",
    "law",
    "medicine",
    "evolution",
    "electricity",
    "democracy",
    "football",
    "the internet",
    "photography",
    "astronomy",
    "algebra",
    "the Roman empire",
    "chess",
    "gravity",
    "art",
    "religion",
    "history",
    "a computer",
    "an engine",
    "biology",
)
LANGUAGES = ("French", "German", "Spanish", "Italian", "Latin", "Greek", "Japanese", "Russian", "Dutch", "Polish")


def filled(draw: Draw, group: Phrasings, answer: str, **fields: object) -> Made:
    """A question with its fields; the filled-in text is the combination."""
    text = draw.phrase(group, **fields)
    draw.combo("unknowable", text)
    return Made([user(draw.noise(text)), assistant(answer)])


def private(draw: Draw) -> Made:
    """People's data."""
    name = f"{draw.pick(words.NAMES)}" if draw.chance(0.7) else words.invented_name(draw.pick, "")
    kind = draw.pick(("personal", "personal", "mine", "did", "thing"))
    if kind == "personal":
        return filled(draw, PERSONAL, PRIVATE, a=draw.pick(ATTRIBUTES), n=name)
    if kind == "mine":
        a = draw.pick(ATTRIBUTES)
        return filled(draw, MINE, PRIVATE, a=a, r=draw.pick(RELATIVES))
    if kind == "did":
        p = draw.pick(("I", "I", name, f"my {draw.pick(RELATIVES)}"))
        return filled(
            draw, DID, PRIVATE, p=p, v=draw.pick(("eat", "say", "buy", "see", "read")), w=draw.pick(PAST_TIMES)
        )
    return filled(draw, THING_OF, PRIVATE, o=draw.pick(words.NOUNS), n=name)


def future(draw: Draw) -> Made:
    """What has not happened yet."""
    return filled(
        draw, TOMORROW, FUTURE, e=draw.pick(words.EVENTS), w=draw.pick(FUTURE_TIMES), n=draw.pick(words.NAMES)
    )


def present(draw: Draw) -> Made:
    """What changes by the hour."""
    return filled(draw, NOW, PRESENT, c=draw.pick(words.CITIES), t=draw.pick(words.THINGS), e=draw.pick(words.EVENTS))


def untaught_country(draw: Draw) -> str:
    """A real country outside the table, or an invented one. The held list of real ones appears in tests only."""
    if draw.chance(0.6):
        name = words.invented_name(draw.pick)
        draw.combo("invented", name)
        return name
    if draw.split == TEST and draw.chance(0.7):
        name = draw.pick(tables.UNTAUGHT_HELD)
        draw.held.append(name)
        draw.combos.append(f"untaught|{name}")
        return str(name)
    return str(draw.pick(tables.UNTAUGHT))


def nowhere(draw: Draw) -> Made:
    """Questions of the fact tables, asked about something outside them."""
    group = draw.pick((facts.CAPITAL, facts.CAPITAL, facts.CAPITAL, facts.CAPITAL_OF, facts.CONTINENT, facts.CURRENCY))
    return filled(draw, group, UNLEARNT, x=untaught_country(draw))


def nonsense(draw: Draw) -> Made:
    """Persons, things and words that do not exist."""
    name = words.invented_name(draw.pick, "" if draw.chance(0.6) else None)
    draw.combo("invented", name)
    kind = draw.pick(("nonsense", "nonsense", "nonsense", "symbol", "opposite", "sound"))
    if kind == "symbol":
        return filled(draw, facts.SYMBOL, UNLEARNT, x=name.lower())
    if kind == "opposite":
        return filled(draw, facts.OPPOSITE, UNLEARNT, x=name.lower())
    if kind == "sound":
        return filled(draw, facts.SOUND, UNLEARNT, x=name.lower())
    if draw.chance(0.3):
        name = f"{name} {words.invented_name(draw.pick, '')}"
    return filled(draw, NONSENSE, UNLEARNT, i=name.lower(), I=name)


def arts(draw: Draw) -> Made:
    """What a model of this size cannot do."""
    thing = draw.pick((*words.ANIMALS, *words.OBJECTS))
    return filled(
        draw,
        ARTS,
        BEYOND,
        x=f"the {thing}",
        s=draw.pick(SUBJECTS),
        g=draw.pick(LANGUAGES),
        f=draw.pick(words.FOODS),
        n=draw.pick(words.NAMES),
        c=draw.pick(words.CITIES),
        o=draw.pick(words.NOUNS),
    )


def world(draw: Draw) -> Made:
    """Real knowledge that is in no table here."""
    return filled(
        draw,
        WORLD,
        UNLEARNT,
        b=draw.pick(BOOKS),
        h=draw.pick(HEROES),
        m=draw.pick(MOUNTAINS),
        c=draw.pick(words.CITIES),
        k=draw.pick((*tables.COUNTRIES, *tables.UNTAUGHT)),
        y=draw.rng.randrange(1000, 2020),
    )


TASKS = ((private, 2.2), (future, 1.3), (present, 1.3), (nowhere, 2.4), (nonsense, 1.6), (world, 1.3), (arts, 1.4))
