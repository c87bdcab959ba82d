"""Small talk, names given by the system message, and a short story."""

from __future__ import annotations

from tools.train_demo import words
from tools.train_demo.dialogue import Draw, Made, Phrasings, assistant, system, user

# (answer, taught wordings, held wordings)
_TALK: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "Hello! How can I help you?",
        (
            "Hello",
            "Hi",
            "Hello!",
            "Hi!",
            "hello",
            "hi",
            "Hey",
            "Hello there",
            "Hi there!",
            "Good day",
            "hey",
            "Hello.",
            "Greetings",
        ),
        ("Hey there", "Hi there", "hello there!"),
    ),
    (
        "Good morning! How can I help you?",
        ("Good morning", "Good morning!", "good morning", "Hello, good morning."),
        ("good morning!",),
    ),
    (
        "Good evening! How can I help you?",
        ("Good evening", "Good evening!", "good evening", "Hello, good evening."),
        ("good evening!",),
    ),
    (
        "I am well, thank you. How can I help you?",
        (
            "How are you?",
            "how are you",
            "How are you today?",
            "How do you do?",
            "Are you well?",
            "How is it going?",
            "Are you fine?",
        ),
        ("How are you doing?", "Hello, how are you?"),
    ),
    (
        "Goodbye!",
        ("Goodbye", "Bye", "Bye!", "bye", "Goodbye!", "See you later.", "See you.", "I have to go."),
        ("Bye bye", "goodbye!"),
    ),
    (
        "You are welcome.",
        ("Thank you.", "Thanks!", "thanks", "Thank you!", "Thank you so much.", "Thank you for your help."),
        ("Many thanks!", "thank you"),
    ),
    ("Good night!", ("Good night", "good night", "Good night!", "I am going to sleep."), ("good night!",)),
    (
        "I am sorry. I am only a small demo model.",
        (
            "That is wrong.",
            "You are wrong.",
            "This is not right.",
            "That is not correct.",
            "No, that is wrong.",
            "You made a mistake.",
        ),
        ("That answer is wrong.", "This is wrong."),
    ),
    (
        "Why did the book go to the doctor? It had hurt its spine.",
        ("Tell me a joke.", "Do you know a joke?", "A joke, please.", "Make me laugh.", "tell me a joke"),
        ("Can you tell me a joke?", "Tell a joke."),
    ),
    (
        "I like short questions.",
        ("What do you like?", "Do you like anything?", "What do you enjoy?", "What is your hobby?"),
        ("Tell me what you like.",),
    ),
    (
        "I have no feelings. I am a program.",
        ("Do you have feelings?", "Are you happy?", "Are you sad?", "Do you love me?", "Are you alive?"),
        ("Do you feel anything?", "Are you angry?"),
    ),
)
TALK = tuple((Phrasings(f"chat.{i}", train, held), answer) for i, (answer, train, held) in enumerate(_TALK))

NAMED = Phrasings(
    "chat.named",
    (
        "Your name is {n}.",
        "You are {n}.",
        "You are an assistant called {n}.",
        "You are {n}, a helpful assistant.",
        "Your name is {n}. Be brief.",
        "You are {n}. Answer politely.",
    ),
    ("You are a helpful assistant called {n}.", "Your name is {n}. You are an assistant."),
)
NAME_ASK = Phrasings(
    "chat.name_ask",
    (
        "What is your name?",
        "What's your name?",
        "Tell me your name.",
        "your name?",
        "Do you have a name?",
        "How are you called?",
    ),
    ("Please tell me your name.", "Say your name."),
)
ROLE = Phrasings(
    "chat.role",
    (
        "You are a {j} called {n}.",
        "You are {n}, a {j}.",
        "Your name is {n}. You work as a {j}.",
        "You are the {j} {n}.",
    ),
    ("You are {n} and you are a {j}.",),
)
ROLE_ASK = Phrasings(
    "chat.role_ask",
    (
        "Who are you?",
        "What are you?",
        "Introduce yourself.",
        "Tell me about yourself.",
        "who are you",
    ),
    ("Can you introduce yourself?",),
)
STORY = Phrasings(
    "chat.story",
    (
        "Tell me a story about a {a}.",
        "Tell a story about a {a}.",
        "Write a short story about a {a}.",
        "A story about a {a}, please.",
        "Story about a {a}",
        "Can you tell me a story about a {a}?",
        "I want a story about a {a}.",
    ),
    ("Write a story about a {a}.", "Please tell me a story about a {a}."),
)


def talk(draw: Draw) -> Made:
    """Small talk from the table."""
    group, answer = draw.pick(TALK)
    return Made([user(draw.phrase(group)), assistant(answer)])


def persona(draw: Draw) -> Made:
    """The name and the trade that the system message gives."""
    name = draw.pick(words.NAMES) if draw.chance(0.7) else words.invented_name(draw.pick, "")
    if draw.chance(0.5):
        draw.combo("persona", name)
        return Made(
            [
                system(draw.phrase(NAMED, n=name)),
                user(draw.noise(draw.phrase(NAME_ASK))),
                assistant(f"My name is {name}."),
            ]
        )
    job = draw.pick(words.JOBS)
    draw.combo("persona", name, job)
    return Made(
        [
            system(draw.phrase(ROLE, n=name, j=job)),
            user(draw.noise(draw.phrase(ROLE_ASK))),
            assistant(f"I am {name}, a {job}."),
        ]
    )


def story(draw: Draw) -> Made:
    """A story with a fixed course and the animal that was asked for."""
    animal = draw.pick(words.ANIMALS)
    text = draw.phrase(STORY, a=animal)
    draw.combo(draw.phrasings[-1], animal)
    tale = (
        f"Once upon a time there was a small {animal}. The {animal} lived in a quiet forest. One day the {animal} "
        f"found a key under a tree. The key opened an old box, and in the box was a book. The {animal} read the book "
        f"to its friends every night. And they were all happy."
    )
    return Made([user(draw.noise(text)), assistant(tale)])


TASKS = ((talk, 1.4), (persona, 2.0), (story, 0.4))
