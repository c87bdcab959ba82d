"""Arithmetic within what seven million parameters can learn: sums and differences to 99, products to 12 x 12."""

from __future__ import annotations

from tools.train_demo import words
from tools.train_demo.dialogue import Draw, Made, Phrasings, assistant, user

PLUS = Phrasings(
    "arithmetic.plus",
    (
        "What is {a} + {b}?",
        "{a} + {b}",
        "{a}+{b}",
        "{a} + {b} = ?",
        "{a}+{b}=?",
        "What is {a} plus {b}?",
        "Add {a} and {b}.",
        "How much is {a} plus {b}?",
        "Calculate {a} + {b}.",
        "{a} plus {b}?",
        "What is the sum of {a} and {b}?",
        "Compute {a}+{b}.",
        "What's {a} + {b}?",
        "How much is {a} + {b}?",
        "{a} + {b} =",
    ),
    ("Tell me the sum of {a} and {b}.", "Compute {a} plus {b}.", "What do you get when you add {a} and {b}?"),
)
MINUS = Phrasings(
    "arithmetic.minus",
    (
        "What is {a} - {b}?",
        "{a} - {b}",
        "{a}-{b}",
        "{a} - {b} = ?",
        "{a}-{b}=?",
        "What is {a} minus {b}?",
        "Subtract {b} from {a}.",
        "How much is {a} minus {b}?",
        "Calculate {a} - {b}.",
        "{a} minus {b}?",
        "What is the difference of {a} and {b}?",
        "Compute {a}-{b}.",
        "Take {b} from {a}.",
        "How much is {a} - {b}?",
        "{a} - {b} =",
    ),
    ("Tell me the difference of {a} and {b}.", "Compute {a} minus {b}."),
)
TIMES = Phrasings(
    "arithmetic.times",
    (
        "What is {a} * {b}?",
        "{a} * {b}",
        "{a}*{b}",
        "{a} x {b}",
        "{a} * {b} = ?",
        "What is {a} times {b}?",
        "Multiply {a} by {b}.",
        "How much is {a} times {b}?",
        "Calculate {a} * {b}.",
        "{a} times {b}?",
        "What is {a} x {b}?",
        "What is the product of {a} and {b}?",
        "Compute {a}*{b}.",
        "Multiply {a} and {b}.",
        "{a}x{b}=?",
    ),
    ("Tell me the product of {a} and {b}.", "Compute {a} times {b}."),
)
LARGER = Phrasings(
    "arithmetic.larger",
    (
        "Which is larger, {a} or {b}?",
        "Which number is bigger, {a} or {b}?",
        "What is larger: {a} or {b}?",
        "Is {a} or {b} larger?",
        "Which is greater, {a} or {b}?",
        "Name the larger number: {a}, {b}.",
    ),
    ("Which number is larger, {a} or {b}?", "Is {a} or {b} greater?"),
)
PARITY = Phrasings(
    "arithmetic.parity",
    (
        "Is {a} even or odd?",
        "Is the number {a} even or odd?",
        "{a}: even or odd?",
        "Tell me if {a} is even or odd.",
        "Is {a} an even or an odd number?",
    ),
    ("Say whether {a} is even or odd.", "even or odd: {a}?"),
)
GAIN = Phrasings(
    "arithmetic.gain",
    (
        "{n} has {a} {t} and gets {b} more. How many {t} does {n} have?",
        "{n} has {a} {t} and buys {b} more. How many {t} does {n} have now?",
        "{n} had {a} {t}. Then {n} found {b} {t}. How many {t} are there now?",
        "There are {a} {t} in the box. {n} adds {b}. How many {t} are in the box?",
    ),
    ("{n} has {a} {t} and finds {b} more. How many {t} does {n} have now?",),
)
LOSS = Phrasings(
    "arithmetic.loss",
    (
        "{n} has {a} {t} and loses {b}. How many {t} does {n} have?",
        "{n} has {a} {t} and gives {b} away. How many {t} are left?",
        "{n} had {a} {t}. Then {n} sold {b} {t}. How many {t} are left?",
        "There are {a} {t} in the box. {n} takes {b}. How many {t} are in the box?",
    ),
    ("{n} has {a} {t} and sells {b}. How many {t} are left?",),
)


def number(draw: Draw, top: int) -> int:
    """0..top, short numbers a little more often than their share."""
    return draw.rng.randrange(min(top, 20) + 1) if draw.chance(0.3) else draw.rng.randrange(top + 1)


def plus(draw: Draw) -> Made:
    """Sums of two numbers to 99; the ordered pair is the combination."""
    a, b = number(draw, 99), number(draw, 99)
    draw.combo("plus", a, b)
    return Made([user(draw.noise(draw.phrase(PLUS, a=a, b=b))), assistant(f"{a} + {b} = {a + b}")])


def minus(draw: Draw) -> Made:
    """Differences that do not fall below zero."""
    a, b = sorted((number(draw, 99), number(draw, 99)), reverse=True)
    draw.combo("minus", a, b)
    return Made([user(draw.noise(draw.phrase(MINUS, a=a, b=b))), assistant(f"{a} - {b} = {a - b}")])


def claim_product(draw: Draw, a: int, b: int) -> None:
    """Of a held ordered pair only the mirror image is taught: a product cannot be derived, only remembered."""
    draw.combo("times", a, b, share=0.2 if a > b > 1 else 0.0)


def times(draw: Draw) -> Made:
    """Products to 12 x 12."""
    a, b = draw.rng.randrange(13), draw.rng.randrange(13)
    claim_product(draw, a, b)
    return Made([user(draw.noise(draw.phrase(TIMES, a=a, b=b))), assistant(f"{a} * {b} = {a * b}")])


def compare(draw: Draw) -> Made:
    """The larger of two numbers, or whether one is even."""
    a, b = number(draw, 99), number(draw, 99)
    if draw.chance(0.3):
        draw.combo("parity", a)
        return Made([user(draw.noise(draw.phrase(PARITY, a=a))), assistant(f"{a} is {'odd' if a % 2 else 'even'}.")])
    if a == b:
        b = a + 1
    draw.combo("larger", a, b)
    return Made(
        [user(draw.noise(draw.phrase(LARGER, a=a, b=b))), assistant(f"{max(a, b)} is larger than {min(a, b)}.")]
    )


def story(draw: Draw) -> Made:
    """A sum or difference to 30 told as a story."""
    name, thing = draw.pick(words.NAMES), draw.pick(words.THINGS)
    a, b = draw.rng.randrange(2, 21), draw.rng.randrange(1, 11)
    gain = draw.chance(0.5)
    if not gain and b > a:
        a, b = b, a
    if not gain and a - b == 1:
        a += 1
    draw.combo("plus" if gain else "minus", a, b)
    text = draw.phrase(GAIN if gain else LOSS, n=name, t=thing, a=a, b=b)
    result = f"{a} + {b} = {a + b}" if gain else f"{a} - {b} = {a - b}"
    return Made([user(text), assistant(f"{result}, so there are {a + b if gain else a - b} {thing}.")])


DRILL = Phrasings(
    "arithmetic.drill",
    (
        "Compute: {l}",
        "Calculate: {l}",
        "Solve: {l}",
        "{l}",
        "Work these out: {l}",
        "What are {l}?",
    ),
)


def drill(draw: Draw) -> Made:
    """Several sums or products in one request: practice, in training only."""
    questions, answers = [], []
    for _ in range(draw.rng.randrange(3, 7)):
        kind = draw.pick(("plus", "plus", "minus", "minus", "times"))
        if kind == "times":
            a, b = draw.rng.randrange(2, 13), draw.rng.randrange(2, 13)
            claim_product(draw, a, b)
            questions.append(f"{a} * {b}")
            answers.append(f"{a} * {b} = {a * b}")
            continue
        a, b = number(draw, 99), number(draw, 99)
        if kind == "minus" and b > a:
            a, b = b, a
        draw.combo(kind, a, b)
        questions.append(f"{a} {'-' if kind == 'minus' else '+'} {b}")
        answers.append(f"{questions[-1]} = {a - b if kind == 'minus' else a + b}")
    return Made([user(draw.phrase(DRILL, l=", ".join(questions))), assistant(", ".join(answers))])


DRILLS = ((drill, 6.0),)
TASKS = ((plus, 3.5), (minus, 3.5), (times, 1.5), (compare, 1.0), (story, 1.0))
