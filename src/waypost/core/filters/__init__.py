"""Payload filters: three dialects, one tree of questions, one compiled form (specification, section 4.2.6).

    compiled = compile_filter({"data": {"variants": {"price": {"$gte": 10}}}})
    document = Document(event)
    compiled.passes(document), compiled.explain(document)

A `Document` is made once for an event and shown to any number of filters: the event's data is decoded when the first of
them looks. The dialects and where Waypost departs from its models are described in `docs/filters.md`.
"""

from waypost.core.filters.document import Document
from waypost.core.filters.errors import FilterError
from waypost.core.filters.filter import CompiledFilter, Dialect, ParsedFilter, compile_filter, convert, normalise, parse
from waypost.core.filters.filter import write as write_filter
from waypost.core.filters.limits import DEFAULT_LIMITS, FilterLimits

__all__ = [
    "DEFAULT_LIMITS",
    "CompiledFilter",
    "Dialect",
    "Document",
    "FilterError",
    "FilterLimits",
    "ParsedFilter",
    "compile_filter",
    "convert",
    "normalise",
    "parse",
    "write_filter",
]
