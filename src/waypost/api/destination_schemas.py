"""The shapes of destinations in the API's description, derived from the installed types' fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from waypost.api.describe import schema
from waypost.connect.connector import DestinationType
from waypost.connect.fields import Field
from waypost.connect.registry import Registry
from waypost.core.topics import TOPIC_MAX_LENGTH
from waypost.flow.draft import ID_PATTERN, MOST_PATTERNS, MOST_SUBSCRIPTIONS
from waypost.flow.overrides import LARGEST_FACTOR, LONGEST_WAIT_SECONDS, MOST_CODES, MOST_RETRIES, SHORTEST_WAIT_SECONDS

Schema = dict[str, Any]

_WAIT = {"type": "number", "minimum": SHORTEST_WAIT_SECONDS, "maximum": LONGEST_WAIT_SECONDS}
_CODES = {"type": "array", "items": {"type": "string", "examples": ["4xx", "timeout"]}, "maxItems": MOST_CODES}
_TEXT_MAP = {"type": ["object", "null"], "additionalProperties": {"type": "string"}}
_TEXT_MAP_PATCH = {"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}}
_TIME = {"type": "string", "format": "date-time"}
_NULLABLE_TIME = {"type": ["string", "null"], "format": "date-time"}

_SHARED: dict[str, Schema] = {
    "Disabling": {
        "description": "Why a destination is disabled; only there while it is.",
        "type": "object",
        "required": ["reason", "by"],
        "properties": {
            "reason": {"enum": ["manual", "consecutive_failures", "failing_too_long", "gone"]},
            "by": {"type": ["string", "null"], "description": "Who disabled it.", "examples": ["api_key:ci", "system"]},
            "code": {"type": "string", "description": "The code of the last failure."},
            "error": {"type": ["string", "null"], "description": "The last failure as a sentence."},
            "consecutive_failures": {"type": "integer"},
            "failing_since": {"type": ["string", "null"], "format": "date-time"},
        },
    },
    "Topics": {
        "description": "`*` for everything, or topics, in which `*` stands for any run of characters.",
        "oneOf": [
            {"type": "string", "enum": ["*"]},
            {
                "type": "array",
                "items": {"type": "string", "pattern": "^[A-Za-z0-9_.:/*-]+$", "maxLength": TOPIC_MAX_LENGTH},
                "minItems": 1,
                "maxItems": MOST_PATTERNS,
            },
        ],
        "examples": [["order.shipped", "invoice.*"]],
    },
    "Filter": {
        "description": "Only events that match go to the destination. Null or `{}`: no filter.",
        "type": ["object", "null"],
        "additionalProperties": True,
        "examples": [{"data": {"amount": {"$gte": 100}}}],
    },
    "FilterInput": {
        "description": "A filter; a text is short for a Shopify query.",
        "oneOf": [schema("Filter"), {"type": "string", "examples": ["variants.price:>=10.00"]}],
    },
    "Subscription": {
        "description": "Events of these topics that pass the filter.",
        "type": "object",
        "additionalProperties": False,
        "required": ["topics"],
        "properties": {"topics": schema("Topics"), "filter": schema("FilterInput")},
    },
    "Subscriptions": {
        "description": "Several subscriptions in place of `topics` and `filter`: an event is taken when any of them "
        "takes it. Null removes them.",
        "type": ["array", "null"],
        "items": schema("Subscription"),
        "maxItems": MOST_SUBSCRIPTIONS,
    },
    "RetryPolicy": {
        "description": "What this destination does differently from the server's retry policy.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "limit": {"type": "integer", "minimum": 0, "maximum": MOST_RETRIES, "description": "Most retries."},
            "base_seconds": {**_WAIT, "description": "Wait before the first retry."},
            "factor": {
                "type": "number",
                "minimum": 1,
                "maximum": LARGEST_FACTOR,
                "description": "Each further wait is this many times the one before.",
            },
            "max_wait_seconds": {**_WAIT, "description": "Longest wait."},
            "jitter": {"type": "number", "minimum": 0, "maximum": 1, "description": "Random share added to a wait."},
            "schedule": {
                "type": "array",
                "items": _WAIT,
                "minItems": 1,
                "maxItems": MOST_RETRIES,
                "description": "Explicit waits in place of limit, base and factor.",
            },
            "retry_on": {"enum": ["transient", "any"], "description": "Which failures are worth a retry."},
            "retry_codes": {**_CODES, "description": "Codes always worth a retry."},
            "no_retry_codes": {**_CODES, "description": "Codes never worth a retry."},
        },
    },
}


def schemas(registry: Registry) -> dict[str, Schema]:
    """All named schemas about destinations: for each type its three shapes, and the unions over the types."""
    named = _SHARED | {"AttemptDestination": _of_attempt()}
    for kind in registry.values():
        named[_name("Destination", kind)] = _shown(kind)
        named[_name("DestinationCreate", kind)] = _create(kind)
        named[_name("DestinationUpdate", kind)] = _update(kind)
    for union in ("Destination", "DestinationCreate"):
        named[union] = _union(union, registry.values())
    named["DestinationUpdate"] = {
        "anyOf": [schema(_name("DestinationUpdate", kind)) for kind in registry.values()],
        "description": "The shape follows from the type of the destination that is changed.",
    }
    return named


def _name(prefix: str, kind: DestinationType) -> str:
    return prefix + "".join(part.capitalize() for part in kind.type.split("_"))


def _union(prefix: str, kinds: Iterable[DestinationType]) -> Schema:
    references = {kind.type: schema(_name(prefix, kind)) for kind in kinds}
    mapping = {name: reference["$ref"] for name, reference in references.items()}
    return {
        "oneOf": list(references.values()),
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }


def _shown(kind: DestinationType) -> Schema:
    own = {
        "type": {"type": "string", "const": kind.type},
        "config": _values(kind.config_fields, _as_shown),
        "credentials": _values(kind.credential_fields, _as_shown),
    }
    return _object_shown(own) | {"title": kind.label}


def _of_attempt() -> Schema:
    config = {"type": "object", "additionalProperties": {"type": "string"}}
    own: dict[str, Schema] = {"type": {"type": "string"}, "tenant_id": {"type": "string"}}
    own |= {"config": config, "credentials": config | {"description": "Masked, whatever they are."}}
    return _object_shown(own) | {"description": "With `include=destination`: where it went."}


def _object_shown(own: dict[str, Schema]) -> Schema:
    """A destination in an answer: what all have in common and `own`, which is always there."""
    common = {
        "id": {"type": "string", "examples": ["des_1"]},
        "topics": {"type": "array", "items": {"type": "string"}},
        "delivery_metadata": _TEXT_MAP,
        "metadata": _TEXT_MAP,
        "created_at": _TIME,
        "updated_at": _TIME,
        "disabled_at": {**_NULLABLE_TIME, "description": "Since when it is disabled; null while it is enabled."},
        "target": {"type": "string", "description": "What a person calls it."},
    }
    optional = {
        "disabled": schema("Disabling"),
        "filter": schema("Filter"),
        "subscriptions": {
            "type": "array",
            "items": schema("Subscription"),
            "description": "Where there are several; `topics` is then the union of theirs.",
        },
        "retry_policy": schema("RetryPolicy"),
        "target_url": {"type": "string", "description": "A link to it, where there is one."},
    }
    return {"type": "object", "required": sorted(common | own), "properties": common | own | optional}


def _create(kind: DestinationType) -> Schema:
    needs = {"config": kind.config_fields, "credentials": kind.credential_fields}
    required = [name for name, known in needs.items() if any(field.required for field in known)]
    past = " Only with an API key, for imports; not in the future."
    return {
        "type": "object",
        "title": kind.label,
        "required": ["type", *required],
        "anyOf": [{"required": ["topics"]}, {"required": ["subscriptions"]}],
        "additionalProperties": False,
        "properties": {
            "id": {"type": "string", "pattern": f"^{ID_PATTERN}$", "description": "Your own id; made up if left out."},
            "type": {"type": "string", "const": kind.type},
            "topics": schema("Topics"),
            "filter": schema("FilterInput"),
            "subscriptions": schema("Subscriptions"),
            "config": _values(kind.config_fields, _as_sent, with_required=True),
            "credentials": _values(kind.credential_fields, _as_sent, with_required=True),
            "delivery_metadata": {**_TEXT_MAP, "description": "Travels beside every event to this destination."},
            "metadata": {**_TEXT_MAP, "description": "Your notes; never sent."},
            "retry_policy": schema("RetryPolicy"),
            "created_at": {**_NULLABLE_TIME, "description": f"When it was created.{past}"},
            "updated_at": {**_NULLABLE_TIME, "description": f"When it was last changed.{past}"},
            "disabled_at": {**_NULLABLE_TIME, "description": "Creates it disabled since then; not in the future."},
        },
    }


def _update(kind: DestinationType) -> Schema:
    return {
        "type": "object",
        "title": kind.label,
        "properties": {
            "type": {"type": "string", "const": kind.type, "description": "May be sent, may not change."},
            "topics": schema("Topics"),
            "filter": schema("FilterInput"),
            "subscriptions": schema("Subscriptions"),
            "config": _values(kind.config_fields, _as_sent, nullable=True),
            "credentials": _values(kind.credential_fields, _as_sent, nullable=True),
            "delivery_metadata": _TEXT_MAP_PATCH,
            "metadata": _TEXT_MAP_PATCH,
            "retry_policy": {"oneOf": [schema("RetryPolicy"), {"type": "null"}]},
            "disabled_at": {**_NULLABLE_TIME, "description": "An instant disables it, null enables it."},
        },
    }


def _values(known: Sequence[Field], shape: Any, *, with_required: bool = False, nullable: bool = False) -> Schema:
    required = [field.key for field in known if field.required]
    values: Schema = {
        "type": ["object", "null"] if nullable else "object",
        "properties": {field.key: shape(field) | {"title": field.label} for field in known},
    }
    return values | ({"required": required} if with_required and required else {})


def _as_shown(field: Field) -> Schema:
    masked = " Masked." if field.sensitive else ""
    return {"type": "string", "description": field.description + masked}


def _as_sent(field: Field) -> Schema:
    """A value as text; JSON of the field's own kind is understood too."""
    text: Schema = {"type": "string"}
    rules = {
        "minLength": field.minlength or (1 if field.required else None),
        "maxLength": field.maxlength,
        "default": field.default,
    }
    text |= {name: rule for name, rule in rules.items() if rule is not None}
    if field.pattern is not None:
        text["pattern"] = f"^(?:{field.pattern})$"
    if field.options:
        text["enum"] = [option.value for option in field.options]
    described = {"description": field.description, **({"readOnly": True} if field.read_only else {})}
    also = {"checkbox": "boolean", "key_value_map": "object"}.get(field.type)
    return {"anyOf": [text, {"type": also}], **described} if also else text | described
