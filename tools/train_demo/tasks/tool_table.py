"""The tools that dialogues offer: names and argument names vary, so that the model must read the schema. Data only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tools.train_demo import tables, words
from tools.train_demo.dialogue import Draw, Phrasings


@dataclass(frozen=True)
class Argument:
    """One argument: the role used in wordings, its possible names, JSON type and a draw of its value."""

    role: str
    names: tuple[str, ...]
    kind: str
    value: Callable[[Draw], object]


@dataclass(frozen=True)
class Tool:
    """One ability under several names; `result` draws what the tool returns and `reply` words it."""

    names: tuple[str, ...]
    description: str
    arguments: tuple[Argument, ...]
    ask: Phrasings
    result: Callable[[Draw], dict[str, object]]
    reply: str
    extra_names: tuple[str, ...] = field(default=())


def _of(items: tuple[str, ...]) -> Callable[[Draw], object]:
    return lambda draw: draw.pick(items)


def _number(low: int, high: int) -> Callable[[Draw], object]:
    return lambda draw: draw.rng.randrange(low, high)


def _time(draw: Draw) -> str:
    return f"{draw.rng.randrange(7, 22)}:{draw.pick(('00', '15', '30', '45'))}"


def _message(draw: Draw) -> str:
    return str(
        draw.pick(
            (
                "I am late",
                "see you soon",
                "call me",
                "the train is late",
                "dinner is ready",
                "thank you",
                "I am at home",
                "the meeting is over",
                "happy birthday",
                "bring the book",
            )
        )
    )


CITY = Argument("city", ("city", "location", "place", "town"), "string", _of(words.CITIES))
PERSON = Argument("person", ("person", "name", "to", "recipient", "contact"), "string", _of(words.NAMES))
ROOM = Argument(
    "room",
    ("room", "area", "where"),
    "string",
    _of(("kitchen", "bedroom", "bathroom", "garage", "office", "hall", "garden", "cellar")),
)
DAY = Argument("day", ("day", "date", "weekday"), "string", _of(tables.DAYS))

TOOLS = (
    Tool(
        ("get_weather", "weather", "weather_lookup", "current_weather", "fetch_weather", "find_weather"),
        "Weather of a city",
        (CITY,),
        Phrasings(
            "tools.weather",
            (
                "What is the weather in {city}?",
                "How is the weather in {city}?",
                "Is it raining in {city}?",
                "weather in {city}?",
                "Tell me the weather in {city}.",
                "How warm is it in {city}?",
                "I need the weather for {city}.",
            ),
            ("What is the weather like in {city}?", "Check the weather in {city}."),
        ),
        lambda d: {
            "temperature": d.rng.randrange(0, 36),
            "sky": d.pick(("sunny", "cloudy", "rainy", "windy", "foggy")),
        },
        "It is {sky} with {temperature} degrees in {city}.",
    ),
    Tool(
        ("get_time", "time_in", "clock", "local_time", "current_time", "what_time"),
        "Local time of a city",
        (CITY,),
        Phrasings(
            "tools.time",
            (
                "What time is it in {city}?",
                "Tell me the time in {city}.",
                "What is the time in {city}?",
                "time in {city}?",
                "How late is it in {city}?",
                "Which time is it in {city} now?",
            ),
            ("What is the local time in {city}?", "Do you know the time in {city}?"),
        ),
        lambda d: {"time": _time(d)},
        "It is {time} in {city}.",
    ),
    Tool(
        ("set_timer", "start_timer", "timer", "new_timer", "countdown"),
        "Start a timer",
        (Argument("minutes", ("minutes", "duration", "length", "mins"), "integer", _number(1, 60)),),
        Phrasings(
            "tools.timer",
            (
                "Set a timer for {minutes} minutes.",
                "Start a timer of {minutes} minutes.",
                "timer {minutes} minutes",
                "Please set a {minutes} minute timer.",
                "Wake me in {minutes} minutes.",
                "I need a timer for {minutes} minutes.",
            ),
            ("Start a {minutes} minute timer.", "Set the timer to {minutes} minutes."),
        ),
        lambda d: {"status": "started"},
        "The timer runs for {minutes} minutes.",
    ),
    Tool(
        ("send_message", "send_text", "message", "text_person", "write_message", "send_sms"),
        "Send a message to a person",
        (PERSON, Argument("text", ("text", "message", "body", "content"), "string", _message)),
        Phrasings(
            "tools.message",
            (
                "Send {person} the message: {text}",
                "Tell {person}: {text}",
                "Write to {person}: {text}",
                "Text {person}: {text}",
                "Send a message to {person}: {text}",
                "Message {person}: {text}",
                "Please tell {person}: {text}",
            ),
            ("Send this to {person}: {text}", "Write a message to {person}: {text}"),
        ),
        lambda d: {"status": "sent"},
        "The message to {person} is sent.",
    ),
    Tool(
        ("convert_currency", "exchange", "change_money", "currency_convert", "convert_money"),
        "Convert money",
        (
            Argument("amount", ("amount", "value", "sum"), "integer", _number(2, 100)),
            Argument("source", ("from", "source", "from_currency"), "string", _of(("euro", "dollar", "pound"))),
            Argument(
                "target", ("to", "target", "to_currency"), "string", _of(("yen", "franc", "krona", "peso", "zloty"))
            ),
        ),
        Phrasings(
            "tools.currency",
            (
                "Convert {amount} {source} to {target}.",
                "How much is {amount} {source} in {target}?",
                "Change {amount} {source} into {target}.",
                "{amount} {source} in {target}?",
                "What are {amount} {source} in {target}?",
            ),
            ("Exchange {amount} {source} for {target}.", "Please convert {amount} {source} into {target}."),
        ),
        lambda d: {"result": d.rng.randrange(2, 900)},
        "{amount} {source} are {result} {target}.",
    ),
    Tool(
        ("set_light", "switch_light", "light", "light_control", "turn_light", "lamp"),
        "Switch a light",
        (ROOM, Argument("state", ("state", "power", "mode"), "string", _of(("on", "off")))),
        Phrasings(
            "tools.light",
            (
                "Turn {state} the light in the {room}.",
                "Turn the light in the {room} {state}.",
                "Switch {state} the {room} light.",
                "Light {state} in the {room}.",
                "Please turn {state} the {room} light.",
                "{room} light {state}",
            ),
            ("Switch the light in the {room} {state}.", "Turn the {room} light {state}."),
        ),
        lambda d: {"status": "done"},
        "The light in the {room} is {state}.",
    ),
    Tool(
        ("book_table", "reserve_table", "table_booking", "reserve", "book_dinner"),
        "Book a table in a restaurant",
        (
            Argument("people", ("people", "guests", "seats", "persons"), "integer", _number(2, 13)),
            DAY,
            Argument("time", ("time", "hour", "at"), "string", _time),
        ),
        Phrasings(
            "tools.table",
            (
                "Book a table for {people} on {day} at {time}.",
                "Reserve a table for {people} people on {day} at {time}.",
                "I need a table on {day} at {time} for {people}.",
                "A table for {people} on {day}, {time}.",
                "We are {people} and want a table on {day} at {time}.",
            ),
            (
                "Please book a table for {people} people on {day} at {time}.",
                "Get a table for {people} on {day} at {time}.",
            ),
        ),
        lambda d: {"status": "booked"},
        "The table for {people} on {day} at {time} is booked.",
    ),
    Tool(
        ("find_flight", "search_flights", "flights", "flight_search", "get_flights"),
        "Find a flight",
        (
            Argument("origin", ("origin", "from", "start", "departure"), "string", _of(words.CITIES)),
            Argument("goal", ("destination", "to", "goal", "arrival"), "string", _of(words.CITIES)),
        ),
        Phrasings(
            "tools.flight",
            (
                "Find a flight from {origin} to {goal}.",
                "Search flights from {origin} to {goal}.",
                "I want to fly from {origin} to {goal}.",
                "flights from {origin} to {goal}",
                "Is there a flight from {origin} to {goal}?",
                "How can I fly from {origin} to {goal}?",
            ),
            ("Show me flights from {origin} to {goal}.", "I need a flight from {origin} to {goal}."),
        ),
        lambda d: {"price": d.rng.randrange(50, 600), "departure": _time(d)},
        "There is a flight from {origin} to {goal} at {departure} for {price} dollars.",
    ),
    Tool(
        ("play_music", "play", "music_player", "start_music", "play_songs"),
        "Play music of a kind",
        (
            Argument(
                "kind",
                ("genre", "kind", "style", "type"),
                "string",
                _of(("jazz", "rock", "pop", "folk", "blues", "opera", "soul", "metal", "disco", "tango")),
            ),
        ),
        Phrasings(
            "tools.music",
            (
                "Play some {kind}.",
                "Play {kind} music.",
                "I want to hear {kind}.",
                "Put on some {kind}.",
                "Start {kind} music.",
                "play {kind}",
            ),
            ("Please play {kind} music.", "I would like to hear some {kind}."),
        ),
        lambda d: {"status": "playing"},
        "Now playing {kind}.",
    ),
    Tool(
        ("add_event", "create_event", "new_event", "calendar_add", "schedule"),
        "Add an event to the calendar",
        (Argument("title", ("title", "event", "name", "subject"), "string", _of(words.EVENTS)), DAY),
        Phrasings(
            "tools.event",
            (
                "Add a {title} on {day}.",
                "Put the {title} on {day} in my calendar.",
                "Create the event {title} on {day}.",
                "I have a {title} on {day}. Write it down.",
                "New event: {title}, {day}.",
                "Add {title} to my calendar for {day}.",
            ),
            ("Write the {title} on {day} into my calendar.", "Create a {title} on {day}."),
        ),
        lambda d: {"status": "saved"},
        "The {title} on {day} is in your calendar.",
    ),
    Tool(
        ("set_temperature", "heating", "thermostat", "heat_room", "set_heating"),
        "Set the temperature of a room",
        (ROOM, Argument("degrees", ("degrees", "temperature", "level", "celsius"), "integer", _number(12, 28))),
        Phrasings(
            "tools.heat",
            (
                "Set the {room} to {degrees} degrees.",
                "Heat the {room} to {degrees} degrees.",
                "Make it {degrees} degrees in the {room}.",
                "I want {degrees} degrees in the {room}.",
                "{room}: {degrees} degrees",
            ),
            ("Set the temperature in the {room} to {degrees} degrees.", "Please heat the {room} to {degrees} degrees."),
        ),
        lambda d: {"status": "done"},
        "The {room} is set to {degrees} degrees.",
    ),
    Tool(
        ("find_recipe", "recipe", "recipe_search", "cook_book", "get_recipe"),
        "Find a recipe",
        (Argument("food", ("food", "dish", "ingredient", "query"), "string", _of(words.FOODS)),),
        Phrasings(
            "tools.recipe",
            (
                "Find a recipe with {food}.",
                "I want to cook something with {food}.",
                "recipe with {food}",
                "Search a recipe for {food}.",
                "What can I cook with {food}?",
                "Look for a {food} recipe.",
            ),
            ("Show me a recipe with {food}.", "Find me a {food} recipe."),
        ),
        lambda d: {"recipe": d.pick(("soup", "pie", "salad", "stew", "cake", "toast"))},
        "You can make a {food} {recipe}.",
    ),
)
