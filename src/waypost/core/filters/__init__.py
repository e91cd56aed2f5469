"""Payload filters: three dialects, one tree of questions, one compiled form (specification, section 4.2.6).

    compiled = compile_filter({"data": {"variants": {"price": {"$gte": 10}}}})
    document = Document(event)
    compiled.passes(document), compiled.explain(document)

A `Document` is made once for an event and shown to any number of filters: the event's data is decoded when the first of
them looks, and all of them spend its steps (`price.py`). The dialects and where Waypost departs from its models are
described in `docs/filters.md`.
"""

from waypost.core.filters.document import Document, TooCostly
from waypost.core.filters.errors import FilterError
from waypost.core.filters.filter import (
    CompiledFilter,
    Dialect,
    ParsedFilter,
    compile_filter,
    convert,
    measured,
    normalise,
    parse,
)
from waypost.core.filters.filter import write as write_filter
from waypost.core.filters.limits import DEFAULT_LIMITS, Allowance, FilterLimits, Size

__all__ = [
    "DEFAULT_LIMITS",
    "Allowance",
    "CompiledFilter",
    "Dialect",
    "Document",
    "FilterError",
    "FilterLimits",
    "ParsedFilter",
    "Size",
    "TooCostly",
    "compile_filter",
    "convert",
    "measured",
    "normalise",
    "parse",
    "write_filter",
]
