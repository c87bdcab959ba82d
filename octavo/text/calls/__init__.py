"""Tool calls in the text of a model: streaming parsers, one per format, and which format a chat template means."""

from octavo.text.calls.events import CallArguments, CallBegin, Event, Said
from octavo.text.calls.formats import FORMATS, CallFormat, format_of_template
from octavo.text.calls.parser import CallParser

__all__ = [
    "FORMATS",
    "CallArguments",
    "CallBegin",
    "CallFormat",
    "CallParser",
    "Event",
    "Said",
    "format_of_template",
]
