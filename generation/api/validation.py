"""Bodies parsed and validated by forms: unknown fields are refused, every fault has its path and one of our codes."""

import difflib
import json
import math
import re
import threading
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from rest_framework import parsers, serializers
from rest_framework.exceptions import ParseError

from generation.api.bounds import documents
from imagegenx_site.errors import Fault, InvalidRequest

FIRST_DAY: Final = date(1970, 1, 2)
LAST_DAY: Final = date(9998, 12, 30)  # days beyond these have no ids
_SHOWN: Final = 15  # characters before and after the place of a fault
_HOW: Final = 'Send one object in UTF-8 with `Content-Type: application/json`, such as {"text": "a red circle"}.'
_UNESCAPED_PLUS: Final = re.compile(r"(T[\d:.]+) (?=\d\d:?\d\d$)")


class JSONParser(parsers.BaseParser):
    """UTF-8 JSON, for documents that cost no more to check than they may and that can be kept (bounds/documents.py)."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """The value. Raises ParseError, InvalidRequest, RequestDataTooBig."""
        text = stream.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        if len(text) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise RequestDataTooBig("The body is larger than this server takes.")
        try:
            return documents.parse(text)
        except ValueError as error:
            raise ParseError(_where(error, text)) from error


def _where(error: ValueError, text: bytes) -> str:
    """Where a text stops being JSON, and how one is sent."""
    if not text.strip():
        return f"The body is empty. {_HOW}"
    if isinstance(error, UnicodeDecodeError):
        return f"The body is not UTF-8: byte {error.start + 1} is none. {_HOW}"
    if not isinstance(error, json.JSONDecodeError):
        return f"The body is not JSON: {error} {_HOW}"
    near = " ".join(error.doc[max(0, error.pos - _SHOWN) : error.pos + _SHOWN].split())
    place = f"line {error.lineno}, column {error.colno}"
    return f"The body is not JSON: {error.msg} at {place}, near `{near}`. {_HOW}"


class MultiPartParser(parsers.MultiPartParser):
    """DRF's, with the same bounds on its texts."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """The form. Raises ParseError, TooMuch."""
        try:
            form = super().parse(stream, media_type, parser_context)
        except ParseError as error:
            raise ParseError(f"The body is not a form: {error.detail}") from error
        documents.check_value(dict(form.data.lists()))
        return form


class NumberField(serializers.FloatField):
    """A finite number. DRF's field lets "nan" through, and breaks on whole numbers that no float holds."""

    def to_internal_value(self, data: Any) -> float:
        try:
            number = super().to_internal_value(data)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.fail("invalid")
        return number


class DayField(serializers.DateField):
    """A day (UTC), also written as a time, of which it is the day."""

    def to_internal_value(self, value: Any) -> date:
        text = _UNESCAPED_PLUS.sub(r"\1+", value) if isinstance(value, str) else value
        try:
            moment = datetime.fromisoformat(text) if isinstance(text, str) and "T" in text else None
            day = moment.astimezone(UTC).date() if moment and moment.tzinfo else moment and moment.date()
        except (ValueError, OverflowError):
            day = None
        found: date = day or super().to_internal_value(text)
        found = max(found, FIRST_DAY)  # nothing is older
        if found > LAST_DAY:
            raise serializers.ValidationError(f"The last day is {LAST_DAY}.", "out_of_range")
        return found


_GUESSES: Final = 10  # unknown fields of one object for which the one that was meant is searched


class StrictSerializer(serializers.Serializer):
    """Refuses fields that it does not know, and suggests the one that was probably meant."""

    def to_internal_value(self, data: Any) -> Any:
        faults: dict[str, Any] = {}
        if isinstance(data, Mapping):
            for number, name in enumerate(data.keys() - self.fields.keys()):
                guess = number < _GUESSES  # each takes as long as a small request
                near = difflib.get_close_matches(str(name), list(self.fields), n=1) if guess else []
                hint = f" Did you mean `{near[0]}`?" if near else f" Known: {', '.join(self.fields)}."
                faults[str(name)] = [serializers.ErrorDetail(f"There is no such field.{hint}", "unknown_field")]
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            raise serializers.ValidationError({**error.detail, **faults}) from None  # type: ignore[dict-item]
        if faults:
            raise serializers.ValidationError(faults)
        return value


def checked(form: type[serializers.Serializer], data: Any, **context: Any) -> dict[str, Any]:
    """The values of a small request body. Raises InvalidRequest with every fault."""
    values, faults = validated(form, data, context)
    if faults:
        raise InvalidRequest(faults)
    return values


_built = threading.local()  # form -> its serializer; each thread has its own, because a serializer keeps its context


def validated(
    form: type[serializers.Serializer], data: Any, context: dict[str, Any]
) -> tuple[dict[str, Any], list[Fault]]:
    """The checked values of a body, and what is wrong with it. Building a serializer copies every field it declares:
    that takes longer than checking, so each thread builds each form once (docs/decisions/0006).
    """
    forms: dict[Any, serializers.Serializer] = _built.__dict__
    serializer = forms.get(form)
    if serializer is None:
        serializer = forms[form] = form()
    serializer._context = context
    try:
        return serializer.run_validation(data), []
    except serializers.ValidationError as error:
        return {}, flattened(error.detail)
    finally:
        serializer._context = {}


_CODES: Final = {
    "invalid": "wrong_type",
    "max_value": "out_of_range",
    "min_value": "out_of_range",
    "invalid_choice": "not_allowed",
    "null_characters_not_allowed": "malformed",
}


def flattened(errors: Any, path: str = "") -> list[Fault]:
    """DRF's nested errors as a flat list, with the field's path and our codes."""
    if isinstance(errors, Mapping):
        faults = []
        for name, inner in errors.items():
            here = path if name == "non_field_errors" else f"{path}.{name}" if path else str(name)
            faults += flattened(inner, here)
        return faults
    faults = []
    for number, entry in enumerate(errors):
        if isinstance(entry, Mapping):
            faults += flattened(entry, f"{path}[{number}]")
        else:
            faults.append(Fault(path, _CODES.get(entry.code, entry.code), str(entry)))
    return faults
