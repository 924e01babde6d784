"""What a hostile client sends, and the watch over what it gets.

`document` describes every door as OpenAPI, so that schemathesis makes requests for all of them: ours as the product
describes it, the compatible ones by the fields that their programs send. `planted` puts hostile values into such a
request. `Watch` fails on what no request may cause: a 5xx, a traceback in the log, an answer that is no JSON.
"""

import base64
import json
import logging
import os
import random
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx

LONG: Final = bool(os.environ.get("TEST_ATTACKS"))  # make test-attacks: many times the requests
_RAW: Final = re.compile(r'"@@(.*?)@@"', re.DOTALL)


def raw(text: str) -> str:
    """A value that is written into JSON as it stands."""
    return f"@@{text}@@"


def json_text(body: Any) -> str:
    return _RAW.sub(lambda found: json.loads(f'"{found[1]}"'), json.dumps(body))


def bomb(side: int = 20_000) -> str:
    """The base64 of a PNG that says that it has side x side pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")).decode()


TEXTS: Final = (
    "", " ", "\0", "a\0b", "\ud800", "cat \udfff\ud83d", "nan", "NaN", "inf", "-Infinity", "1e999", "9" * 5000, "٣",
    "4", "4.5", "-1", "😀" * 50, "\u202e", "\r\n", "../../etc/passwd", "%00", "'; --", "<lora:a:1.2.3>", "<lora:a:.>",
    "<lora:::>", "<lora:a:1e400>", "x <lora:a:-1>", "data:image/png;base64,", "data:,", "data:image/png;base64,%GG",
    "http://[::1", "http://127.0.0.1:1/", "https://x\r\ny.example/", "0001-01-02", "9999-12-31", "2026-13-45",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-11-26T10:00:00 02:00", "((((a:9", "256x256",
    "99999999999x8", "mini", "png", "true", bomb(), "data:image/png;base64," + bomb(14_000), "x" * 20_000,
)  # fmt: skip
VALUES: Final[tuple[Any, ...]] = (
    *TEXTS, None, True, False, 0, -1, 0.5, -0.0, 1e308, -1e308, 2**31, 2**63, 2**64, 10**400, -(10**400), [], {}, [[]],
    [None], [{}], {"a": {}}, {"": ""}, ["\ud800"], {"\ud800": "\udc00"}, ["x"] * 300,
    {"kind": "image", "image": bomb()},
    {"kind": "text", "text": "\0"}, {"image_url": 7}, {"name": "a", "weight": raw("1e400")},
    raw("NaN"), raw("Infinity"), raw("-Infinity"), raw("1e400"), raw("-1e999"), raw("9" * 5000), raw("1e"),
    raw("[" * 300),
    raw("[" * 5000 + "]" * 5000), raw('{\\"a\\":' * 300 + "1" + "}" * 300), raw('{\\"a\\":1,\\"a\\":2}'),
)  # fmt: skip
NAMES: Final = ("\ud800", "\0", "", "x" * 3000, "__proto__", "params.steps", "😀", "a\nb")
HEADERS: Final[tuple[dict[str, bytes], ...]] = (
    *({"authorization": value} for value in (
        b"Bearer", b"Bearer igx__", b"Bearer igx_\xff_x", b"Bearer \xed\xa0\x80", b"Basic \xff",
        b"Basic " + b"A" * 9000,
        b"Basic " + base64.b64encode(b"a:igx_\0_\0"), b"Basic " + base64.b64encode(b"\xff:\xff"), b"Digest x", b"",
    )),
    *({"x-signature": b"v1=x", "x-key-id": b"a", "x-nonce": nonce, "x-timestamp": stamp}
      for nonce in (b"12345678", b"\xff" * 9) for stamp in (b"9" * 5000, b"-1", b"1e400", b"\xb2", b"")),
    *({"idempotency-key": value} for value in (b"a", b"\xff", b'"\\ud83d"', b"x" * 300, b"\xed\xa0\x80", b"\t")),
    *({"content-type": value} for value in (
        b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/form-data; boundary=" + b"x" * 300,
        b"application/json; charset=klingon", b"application/json; charset=utf-16", b"text/plain", b"\xff", b"a/b/c",
        b"application/x-www-form-urlencoded", b"multipart/form-data; charset=klingon; boundary=x",
    )),
    *({"if-none-match": value} for value in (b"*", b'W/"a", "b"', b"\xff", b'"', b"," * 3000)),
    *({"prefer": value} for value in (b"wait=99999", b"wait=-1", b"wait=\xb2", b"wait=nan")),
    *({"cancel-after": value} for value in (b"0", b"99999h", b"-1s", b"\xb2s", b"nan")),
    *({"last-event-id": value} for value in (b"9" * 300, b"0-0", b"\xff", b"1-1; x")),
    *({"range": value} for value in (b"bytes=0-", b"bytes=9-1", b"bytes=" + b"9" * 300)),
    *({"host": value} for value in (b"a b", b"[::1", b"x:99999999", b"\xff", b"x\\y")),
    *({"cookie": value} for value in (b"sessionid=\xff", b"csrftoken=" + b"x" * 3000, b"=;=;", b"messages=[[")),
    {"accept": b"text/event-stream"}, {"accept": b"\xff"}, {"accept": b"application/problem+json"},
    {"accept-language": b"x" * 3000}, {"x-request-id": b"\xed\xa0\x80"}, {"x-forwarded-for": b"\xff, ,"},
    {"x-forwarded-for": b"1" * 3000}, {"x-forwarded-proto": b"gopher"}, {"x-stainless-retry-count": b"\xff"},
    {"content-encoding": b"gzip"}, {"x-http-method-override": b"DELETE"}, {"origin": b"null"}, {"referer": b"\xff"},
    {"expect": b"100-continue"}, {"upgrade": b"h2c", "connection": b"upgrade"}, {"traceparent": b"00-x-y-z"},
)  # fmt: skip
SEGMENTS: Final = (
    "x", "%00", "%ED%A0%80", "%FF", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c", "9" * 300, "9" * 5000, "-1",
    "0", "%D9%A3", "x" * 300, "img%00", "img" + "f" * 32, "bat" + "0" * 32, "a%0Ab", "%", "%zz", "~", "😀",
    "00000000-0000-0000-0000-000000000000", "ink@1", "1",
)  # fmt: skip
QUERIES: Final = (
    "%00", "%ED%A0%80", "%FF", "%", "9" * 5000, "-1", "0", "", "x", "nan", "1e999", "0001-01-02", "9999-12-31",
    "0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59", "2026-11-26T10:00:00Z", "[]", "{}", "%D9%A3",
    "x" * 3000,
    "2026-11-26T10:00:00+02:00", "*", "True", "../..", "256x256", "img" + "f" * 32,
)  # fmt: skip


# ---- the doors


def _object(fields: str) -> dict[str, Any]:
    kinds = {"i": "integer", "n": "number", "t": "string", "b": "boolean", "o": "object", "a": "array"}
    named = (field.split(":") for field in fields.split())
    return {"type": "object", "properties": {name: {"type": kinds[kind]} for name, kind in named}}


_SDAPI: Final = (
    "prompt:t negative_prompt:t steps:i seed:i width:i height:i cfg_scale:n batch_size:i n_iter:i sampler_name:t "
    "sampler_index:t scheduler:t override_settings:o denoising_strength:n alwayson_scripts:o enable_hr:b hr_scale:n "
    "hr_upscaler:t hr_resize_x:i hr_resize_y:i subseed_strength:n styles:a script_name:t"
)
_OPENAI: Final = (
    "prompt:t model:t n:i size:t quality:t output_format:t output_compression:i background:t stream:b "
    "response_format:t user:t style:t negative_prompt:t seed:i steps:i cfg_scale:n strength:n partial_images:i "
    "sampler:t style_name:t loras:a"
)
_COMPATIBLE: Final = {
    "/v1/images/generations": _OPENAI,
    "/v1/images/edits": _OPENAI + " image:t images:a mask:o",
    "/sdapi/v1/txt2img": _SDAPI,
    "/sdapi/v1/img2img": _SDAPI + " init_images:a mask:t inpainting_mask_invert:i mask_blur:i",
    "/v1/images/variations": _OPENAI + " image:t images:a",
    "/sdapi/v1/png-info": "image:t",
    "/api/v2/generate/async": (
        "prompt:t params:o models:a source_image:t source_processing:t source_mask:t r2:b dry_run:b"
    ),
    "/prompt": "prompt:o client_id:t",
    "/queue": "clear:b delete:a",
    "/history": "clear:b delete:a",
    "/interrupt": "prompt_id:t",
    "/sdapi/v1/options": "sd_model_checkpoint:t CLIP_stop_at_last_layers:i",
    "/sdapi/v1/interrupt": "",
}


def document(native: dict[str, Any]) -> dict[str, Any]:
    """The product's own OpenAPI document, with the compatible doors beside it."""
    answers = {"default": {"description": "Anything."}}
    beside = {
        path: {
            "post": {
                "requestBody": {"content": {"application/json": {"schema": _object(fields)}}},
                "responses": answers,
            }
        }
        for path, fields in _COMPATIBLE.items()
    }
    paths = {path: methods for path, methods in native["paths"].items() if not path.endswith("/events")}
    return {**native, "paths": {**paths, **beside}}


def planted(chance: random.Random, body: Any, value: Any) -> Any:
    """The body with the value in place of one of its own, or in a field more."""
    if not isinstance(body, dict):
        return value
    name = chance.choice([*body, *NAMES[:1], chance.choice(NAMES)]) if chance.random() < 0.9 or not body else None
    if name is None:
        return value
    inner = body.get(name)
    deeper = isinstance(inner, dict) and inner and chance.random() < 0.7
    return {**body, name: planted(chance, inner, value) if deeper else value}


# ---- the watch


class Watch(logging.Handler):
    """Keeps what is logged with a traceback or as an error while it watches, and judges answers."""

    _LOGGERS: Final = ("", "django", "django.request", "uvicorn", "uvicorn.error", "asyncio")

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.noted: list[str] = []
        self.answers = 0

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("django.security"):  # the log gets these without their tracebacks
            return
        if (record.exc_info and record.exc_info[0] is not None) or record.levelno >= logging.ERROR:
            self.noted.append(f"{record.name}: {record.getMessage()[:500]} {record.exc_info and record.exc_info[1]!r}")

    @contextmanager
    def watching(self) -> Iterator[None]:
        loggers = [logging.getLogger(name) for name in self._LOGGERS]
        for logger in loggers:
            logger.addHandler(self)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeHandler(self)

    def judge(self, answer: httpx.Response, asked: str) -> None:
        """Fails with the request that caused it."""
        self.answers += 1
        told = f"{asked[:600]!r}\n-> {answer.status_code} {answer.text[:400]!r}"
        too_late = answer.status_code == 504 and "timeout" in answer.text  # a right request, which nobody works on here
        assert answer.status_code < 500 or too_late, told
        assert not self.noted, f"{told}\nlogged: {self.noted}"
        if "json" in answer.headers.get("content-type", "") and answer.content:
            json.dumps(json.loads(answer.content, parse_constant=_no_json), ensure_ascii=False).encode()


def _no_json(word: str) -> Any:
    raise AssertionError(f"{word} is no JSON")
