"""Extraction into JSON: a sentence, the keys that are wanted, an object with just those keys."""

from __future__ import annotations

import json

from tools.train_demo import tables, words
from tools.train_demo.dialogue import Draw, Made, Phrasings, assistant, user

ASK = Phrasings(
    "extraction.ask",
    (
        "Extract {k} as JSON: {s}",
        "Extract {k} as JSON. {s}",
        "Give me {k} as JSON: {s}",
        "Return JSON with {k}: {s}",
        "{s} Extract {k} as JSON.",
        "{s} Return JSON with the keys {k}.",
        "JSON with {k}: {s}",
        "Find {k} and answer in JSON: {s}",
        "Write {k} as a JSON object: {s}",
        "{s} Give me {k} as JSON.",
        "From this text, extract {k} as JSON: {s}",
        "Read {k} from the text as JSON: {s}",
        "Turn into JSON with {k}: {s}",
    ),
    ("Extract the keys {k} as JSON: {s}", "{s} Write {k} as a JSON object.", "Return {k} in JSON: {s}"),
)

PERSON = Phrasings(
    "extraction.person",
    (
        "{name} is {age} years old and lives in {city}. {name} works as a {job}.",
        "{name}, {age}, is a {job} from {city}.",
        "My friend {name} is a {age} year old {job} in {city}.",
        "In {city} I met {name}, a {job} who is {age}.",
        "The {job} {name} is {age} years old and comes from {city}.",
        "{name} lives in {city}, is {age} and works as a {job}.",
    ),
    ("{name} is a {job} in {city} and is {age} years old.",),
)
ORDER = Phrasings(
    "extraction.order",
    (
        "{customer} ordered {quantity} {item} for {price} dollars.",
        "{customer} buys {quantity} {item} and pays {price} dollars.",
        "Order: {quantity} {item} at {price} dollars for {customer}.",
        "We sold {quantity} {item} to {customer} for {price} dollars.",
        "For {price} dollars {customer} got {quantity} {item}.",
    ),
    ("{customer} paid {price} dollars for {quantity} {item}.",),
)
EVENT = Phrasings(
    "extraction.event",
    (
        "The {event} is on {day} at {time} in {place}.",
        "On {day} at {time} there is a {event} in {place}.",
        "Come to the {event} in {place} on {day} at {time}.",
        "The {event} in {place} starts on {day} at {time}.",
        "{day}, {time}: {event} in {place}.",
    ),
    ("Our {event} takes place in {place} on {day} at {time}.",),
)
TRIP = Phrasings(
    "extraction.trip",
    (
        "{traveller} flies from {origin} to {destination} in {month}.",
        "In {month} {traveller} goes from {origin} to {destination}.",
        "{traveller} takes the train from {origin} to {destination} in {month}.",
        "A ticket from {origin} to {destination} for {traveller} in {month}.",
    ),
    ("{traveller} will travel from {origin} to {destination} in {month}.",),
)
PET = Phrasings(
    "extraction.pet",
    (
        "{owner} has a {color} {animal} called {pet}.",
        "The {color} {animal} {pet} belongs to {owner}.",
        "{pet} is the {color} {animal} of {owner}.",
        "{owner} bought a {color} {animal} and named it {pet}.",
    ),
    ("{owner} owns a {color} {animal} with the name {pet}.",),
)


def person(draw: Draw) -> tuple[Phrasings, dict[str, object]]:
    """Name, age, city, job."""
    return PERSON, {
        "name": draw.pick(words.NAMES),
        "age": draw.rng.randrange(18, 80),
        "city": draw.pick(words.CITIES),
        "job": draw.pick(words.JOBS),
    }


def order(draw: Draw) -> tuple[Phrasings, dict[str, object]]:
    """Customer, quantity, item, price."""
    return ORDER, {
        "customer": draw.pick(words.NAMES),
        "quantity": draw.rng.randrange(2, 60),
        "item": draw.pick(words.THINGS),
        "price": draw.rng.randrange(2, 100),
    }


def event(draw: Draw) -> tuple[Phrasings, dict[str, object]]:
    """Event, day, time, place."""
    time = f"{draw.rng.randrange(7, 22)}:{draw.pick(('00', '15', '30', '45'))}"
    return EVENT, {
        "event": draw.pick(words.EVENTS),
        "day": draw.pick(tables.DAYS),
        "time": time,
        "place": draw.pick(words.PLACES),
    }


def trip(draw: Draw) -> tuple[Phrasings, dict[str, object]]:
    """Traveller, origin, destination, month."""
    a, b = draw.rng.sample(words.CITIES, 2)
    return TRIP, {"traveller": draw.pick(words.NAMES), "origin": a, "destination": b, "month": draw.pick(tables.MONTHS)}


def pet(draw: Draw) -> tuple[Phrasings, dict[str, object]]:
    """Owner, pet's name, animal, colour."""
    a, b = draw.rng.sample(words.NAMES, 2)
    return PET, {"owner": a, "pet": b, "animal": draw.pick(words.ANIMALS), "color": draw.pick(words.COLOUR_WORDS)}


def ask_keys(keys: list[str]) -> str:
    """`name, age and city`."""
    return keys[0] if len(keys) == 1 else ", ".join(keys[:-1]) + " and " + keys[-1]


def extract(draw: Draw) -> Made:
    """The entities are one combination, the ordered keys (the schema) another; both may be held."""
    group, facts = draw.pick((person, order, event, trip, pet))(draw)
    draw.combo("entities", *facts.values())
    keys = draw.rng.sample(list(facts), draw.rng.randrange(1, 5))
    draw.combo("schema", *keys, share=0.12)
    missing = draw.chance(0.08)
    sentence = draw.phrase(group, **facts)
    values: dict[str, object] = {k: facts[k] for k in keys}
    if missing:
        absent = draw.pick([k for k in ("email", "phone", "country", "size") if k not in keys])
        keys = [*keys, absent]
        values[absent] = None
    names = ask_keys(keys) if draw.chance(0.6) else ", ".join(keys)
    text = draw.phrase(ASK, k=names, s=sentence)
    return Made([user(text), assistant(json.dumps(values))])


SINGLE = Phrasings(
    "extraction.single",
    (
        "{s} What is the {k}?",
        "What is the {k} here? {s}",
        "Find the {k}: {s}",
        "{s} Tell me the {k}.",
        "Read the {k} from this text: {s}",
        "{s} Which {k} is it?",
    ),
    ("Tell me the {k}: {s}", "{s} Name the {k}."),
)


def single(draw: Draw) -> Made:
    """One value, as plain text."""
    group, facts = draw.pick((person, order, event, trip, pet))(draw)
    draw.combo("entities", *facts.values())
    key = draw.pick(list(facts))
    text = draw.phrase(SINGLE, k=key, s=draw.phrase(group, **facts))
    return Made([user(text), assistant(str(facts[key]))])


TASKS = ((extract, 3.5), (single, 1.5))
