"""The inside of a call: JSON objects, a name before its arguments, Python calls, tags. One class per notation.

A body is given the text behind its opening mark as it comes and says what it made of it. A text that turns out to be
no call is given back as words, so that nothing a model says is lost.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from octavo.text.calls.events import CallArguments, CallBegin, Event, Said
from octavo.text.calls.scanner import ObjectScanner

MAX_NAME = 256  # characters before the arguments: a longer "name" is prose
_NAMES = ("name",)
_ARGUMENTS = ("arguments", "parameters")
_CALL_KEYS = frozenset({*_NAMES, *_ARGUMENTS, "type", "id"})
_BETWEEN = " \t\r\n[],;"  # what may stand between the calls of one list

Schemas = Mapping[str, Mapping[str, Any]]  # a tool's name -> the JSON schema of its arguments


class Calls:
    """Numbers the calls of one answer."""

    def __init__(self) -> None:
        self.count = 0

    def begin(self, name: str) -> CallBegin:
        self.count += 1
        return CallBegin(self.count - 1, name)

    def whole(self, name: str, arguments: str) -> list[Event]:
        return [self.begin(name), CallArguments(self.count - 1, arguments)]


class Body(Protocol):
    """Reads what follows an opening mark (`mark`: its text, to be given back where no call follows)."""

    def feed(self, text: str, *, final: bool) -> tuple[list[Event], str | None]:
        """What is known now, and the text behind the body once it has ended (None: it goes on)."""


class JsonBody:
    """One object with a name and its arguments, or a list of such objects, up to a closing mark if there is one.

    `strict`: the text is only a call if its first key belongs to one (formats without an opening mark).
    """

    def __init__(self, calls: Calls, mark: str, ends: Sequence[str], *, strict: bool = False) -> None:
        self._calls, self._mark, self._ends, self._strict = calls, mark, ends, strict
        self._text = ""
        self._at = 0
        self._accepted = False
        self._object: _JsonCall | None = None

    def feed(self, text: str, *, final: bool) -> tuple[list[Event], str | None]:
        self._text += text
        events: list[Event] = []
        while True:
            if self._object is None and not self._next_object():
                rest = self._rest(final=final)
                if rest is not None and self._mark and not self._accepted:  # nothing of it was a call
                    events.append(Said(self._mark + self._text[: self._at]))
                return events, rest
            assert self._object is not None
            events += self._object.feed(self._text)
            if self._object.end is None and not final:
                return events, None
            end = self._object.end or len(self._text)
            ended, accepted = self._object.finish(self._text[self._at : end])
            events += [Said(self._mark + said.text) if isinstance(said, Said) else said for said in ended]
            if not accepted and self._strict:
                return events, self._text[end:]
            self._at, self._object, self._mark = end, None, ""
            self._accepted = self._accepted or accepted

    def _next_object(self) -> bool:
        """Goes to the next opening brace; False if there is none yet, or none more."""
        while self._at < len(self._text) and self._text[self._at] in _BETWEEN:
            self._at += 1
        if not self._text.startswith("{", self._at):
            return False
        self._object = _JsonCall(self._calls, self._at, strict=self._strict)
        return True

    def _rest(self, *, final: bool) -> str | None:
        """What follows the body, if that has ended."""
        left = self._text[self._at :]
        for end in self._ends:
            if left.startswith(end):
                return left[len(end) :]
        if not left or any(end.startswith(left) for end in self._ends):
            return "" if final else None  # an answer that was cut off within its closing mark has ended, too
        return left


class _JsonCall:
    """One object of a JsonBody."""

    def __init__(self, calls: Calls, start: int, *, strict: bool) -> None:
        self._calls, self._strict = calls, strict
        self._scanner = ObjectScanner(start)
        self._index: int | None = None
        self._sent = start
        self._refused = False

    @property
    def end(self) -> int | None:
        return self._scanner.end

    def feed(self, text: str) -> list[Event]:
        self._scanner.feed(text)
        keys = list(self._scanner.spans)
        if self._strict and keys and keys[0] not in _CALL_KEYS:
            self._refused = True
        if self._refused:  # an object for the reader, which need not wait for its end
            words = text[self._sent : self._scanner.seen]
            self._sent = self._scanner.seen
            return [Said(words)] if words else []
        if (name := self._name(text)) is None:
            return []
        span = next((self._scanner.spans[key] for key in _ARGUMENTS if key in self._scanner.spans), None)
        if span is None or text[span.start] != "{":
            return []
        events: list[Event] = []
        if self._index is None:
            begin = self._calls.begin(name)
            self._index = begin.index
            self._sent = span.start
            events.append(begin)
        end = span.end or self._scanner.seen
        if end > self._sent:
            events.append(CallArguments(self._index, text[self._sent : end]))
            self._sent = end
        return events

    def finish(self, text: str) -> tuple[list[Event], bool]:
        """The last of it: `text` is the object. Whether it was a call."""
        if self._index is not None or self._refused:
            return [], not self._refused
        if self.end is None:
            return [Said(text)], False
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return [Said(text)], False
        name, arguments = value.get("name"), next((value[key] for key in _ARGUMENTS if key in value), None)
        if isinstance(arguments, str):  # a JSON text within JSON
            arguments = _object_in(arguments)
        elif arguments is None and not self._strict:
            arguments = {}
        if not isinstance(name, str) or not name or not isinstance(arguments, dict):
            return [Said(text)], False
        return self._calls.whole(name, _json_text(arguments)), True

    def _name(self, text: str) -> str | None:
        span = self._scanner.spans.get("name")
        if span is None or span.end is None:
            return None
        try:
            name = json.loads(text[span.start : span.end])
        except ValueError:
            return None
        return name if isinstance(name, str) and name else None


def _object_in(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


class NamedBody:
    """A name, then its arguments as a JSON object: `add{"a": 1}`. `header` finds the name in the text before it."""

    def __init__(self, calls: Calls, mark: str, header: re.Pattern[str], ends: Sequence[str]) -> None:
        self._calls, self._mark, self._header, self._ends = calls, mark, header, ends
        self._text = ""
        self._scanner: ObjectScanner | None = None
        self._sent = 0

    def feed(self, text: str, *, final: bool) -> tuple[list[Event], str | None]:
        self._text += text
        events: list[Event] = []
        if self._scanner is None:
            brace = self._text.find("{", 0, MAX_NAME)
            named = self._header.fullmatch(self._text[:brace]) if brace >= 0 else None
            if named is None:
                if brace < 0 and len(self._text) < MAX_NAME and not final:
                    return [], None
                words = brace + 1 or MAX_NAME
                return [Said(self._mark + self._text[:words])], self._text[words:]
            events.append(self._calls.begin(named["name"]))
            self._scanner, self._sent = ObjectScanner(brace), brace
        self._scanner.feed(self._text)
        if self._scanner.seen > self._sent:
            events.append(CallArguments(self._calls.count - 1, self._text[self._sent : self._scanner.seen]))
            self._sent = self._scanner.seen
        if self._scanner.end is None:
            return events, "" if final else None
        return events, self._behind(self._scanner.end, final=final)

    def _behind(self, at: int, *, final: bool) -> str | None:
        left = self._text[at:]
        for end in self._ends:
            if left.startswith(end):
                return left[len(end) :]
        if any(end.startswith(left) for end in self._ends):
            return "" if final else None
        return left


class MistralBody:
    """What follows [TOOL_CALLS]: a list of objects (tokenizers to version 7) or a name and its arguments (from 11)."""

    _HEADER = re.compile(r"\s*(?P<name>[\w.\-]+)\s*(\[CALL_ID\]\w*)?(\[ARGS\])?\s*")

    def __init__(self, calls: Calls, mark: str) -> None:
        self._calls, self._mark = calls, mark
        self._text = ""
        self._body: Body | None = None

    def feed(self, text: str, *, final: bool) -> tuple[list[Event], str | None]:
        if self._body is not None:
            return self._body.feed(text, final=final)
        self._text += text
        first = self._text.lstrip()[:1]
        if not first and not final:
            return [], None
        if first in ("[", "{"):
            self._body = JsonBody(self._calls, self._mark, ())
        else:
            self._body = NamedBody(self._calls, self._mark, self._HEADER, ())
        return self._body.feed(self._text, final=final)


class EnclosedBody:
    """Text up to a closing mark, read as a whole: the base of notations that are short or not made of JSON.

    `ended_by_text`: an answer that ends before its closing mark still counts.
    """

    ended_by_text = True

    def __init__(self, calls: Calls, mark: str, ends: tuple[str, ...], schemas: Schemas) -> None:
        self._calls, self._mark, self._ends, self.schemas = calls, mark, ends, schemas
        self._text = ""

    def feed(self, text: str, *, final: bool) -> tuple[list[Event], str | None]:
        searched = max(0, len(self._text) - max(map(len, self._ends)))
        self._text += text
        found = [(at, end) for end in self._ends if (at := self._text.find(end, searched)) >= 0]
        if not found and not final:
            return [], None
        at, end = min(found) if found else (len(self._text), "")
        inside, rest = self._text[:at], self._text[at + len(end) :]
        whole = self._mark + self._text[: at + len(end)]
        if not found and not self.ended_by_text:
            return [Said(whole)], rest
        try:
            read = list(self.read(inside))
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            read = []
        if not read:
            return [Said(whole)], rest
        return [event for name, arguments in read for event in self._calls.whole(name, arguments)], rest

    def read(self, text: str) -> Iterator[tuple[str, str]]:
        """(name, arguments as JSON) of each call; a ValueError says that these are none."""
        raise NotImplementedError


class FunctionTags(EnclosedBody):
    """<function=NAME><parameter=KEY>VALUE</parameter></function>, as Qwen3-Coder writes; values typed by the schema."""

    _FUNCTION = re.compile(r"<function=(?P<name>[^<>\n]+)>(?P<body>.*?)(</function>|\Z)", re.DOTALL)
    _PARAMETER = re.compile(r"<parameter=(?P<key>[^<>\n]+)>(?P<value>.*?)(</parameter>|(?=<parameter=)|\Z)", re.DOTALL)

    def read(self, text: str) -> Iterator[tuple[str, str]]:
        for function in self._FUNCTION.finditer(text):
            name = function["name"].strip()
            values = {
                p["key"].strip(): typed(_unpadded(p["value"]), self.schemas.get(name), p["key"].strip())
                for p in self._PARAMETER.finditer(function["body"])
            }
            yield name, _json_text(values)


class KeyValueTags(EnclosedBody):
    """NAME, then <arg_key>K</arg_key><arg_value>V</arg_value> pairs, as GLM-4.5 writes."""

    ended_by_text = False
    _PAIR = re.compile(r"<arg_key>(?P<key>.*?)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>", re.DOTALL)

    def read(self, text: str) -> Iterator[tuple[str, str]]:
        name = text.split("<arg_key>", 1)[0].strip()
        if not name or len(name) > MAX_NAME or any(c.isspace() for c in name):
            raise ValueError
        pairs = {
            pair["key"].strip(): typed(pair["value"], self.schemas.get(name), pair["key"].strip())
            for pair in self._PAIR.finditer(text)
        }
        yield name, _json_text(pairs)


class PythonCalls(EnclosedBody):
    """Calls in Python's notation, a list of them or one a line; values are literals."""

    def read(self, text: str) -> Iterator[tuple[str, str]]:
        text = text.strip()
        tree = ast.parse(text if text.startswith("[") else f"[{','.join(text.splitlines())}]", mode="eval")
        if not isinstance(tree.body, ast.List) or not tree.body.elts:
            raise ValueError
        for call in tree.body.elts:
            if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
                raise ValueError
            values = {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
            yield ast.unparse(call.func), _json_text(values)


class BarePythonCalls:
    """A list of Python calls that is the whole answer: ends with its own bracket."""

    def __init__(self, calls: Calls, mark: str, ends: tuple[str, ...], schemas: Schemas) -> None:
        self._inner = PythonCalls(calls, mark, ("\0",), schemas)
        self._ends = ends
        self._scanner = _Brackets()
        self._text = ""

    def feed(self, text: str, *, final: bool) -> tuple[list[Event], str | None]:
        self._text += text
        end = self._scanner.end_of(self._text)
        if end is None and not final:
            return [], None
        end = len(self._text) if end is None else end
        events, _ = self._inner.feed(self._text[:end], final=True)
        rest = self._text[end:]
        return events, next((rest[len(e) :] for e in self._ends if rest.startswith(e)), rest)


class _Brackets:
    """Finds where a bracket that opens a text closes, strings aside."""

    def __init__(self) -> None:
        self._at = self._depth = 0
        self._quote = ""

    def end_of(self, text: str) -> int | None:
        while self._at < len(text):
            char = text[self._at]
            self._at += 1
            if self._quote:
                if char == "\\":
                    self._at += 1
                elif char == self._quote:
                    self._quote = ""
            elif char in "'\"":
                self._quote = char
            elif char in "[({":
                self._depth += 1
            elif char in "])}":
                self._depth -= 1
                if self._depth <= 0:
                    return self._at
        return None


def _json_text(values: Mapping[str, Any]) -> str:
    """
    Raises:
        ValueError: a value that JSON does not have, such as an infinity.
    """
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def typed(text: str, schema: Mapping[str, Any] | None, key: str) -> Any:
    """A parameter's text as the tool's schema wants it; text where that says nothing, or where it does not fit."""
    properties = (schema or {}).get("properties")
    wanted = properties.get(key) if isinstance(properties, Mapping) else None
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if kind in (None, "string"):
        return text
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return {"true": True, "false": False, "none": None}.get(text.strip().lower(), text)


def _no_constant(name: str) -> None:
    """NaN and the infinities, which Python reads and JSON does not have."""
    raise ValueError(name)


def _unpadded(text: str) -> str:
    """The value without the line breaks that stand around it."""
    return text.removeprefix("\n").removesuffix("\n")


_JSON_NAMES = {"true": True, "false": False, "null": None}


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _JSON_NAMES:
        return _JSON_NAMES[node.id]
    if isinstance(node, ast.Dict):
        keys = [_literal(key) if key is not None else None for key in node.keys]
        if not all(isinstance(key, str) for key in keys):
            raise ValueError
        return dict(zip(keys, map(_literal, node.values), strict=True))
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    value = ast.literal_eval(node)
    if not isinstance(value, str | int | float | None):
        raise ValueError
    return value
