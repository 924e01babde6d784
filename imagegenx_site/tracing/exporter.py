"""From our spans to OpenTelemetry's and to the receiver (OTLP over HTTP). The only module that imports OpenTelemetry;
loaded by the side thread of spans.py. Where to, with what headers, how often, how many: the standard OTEL_ variables.
"""

import os
import re
import socket
from collections.abc import Mapping
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from imagegenx_site.tracing.values import TaskSpan, root_of

_KINDS: Final = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_SCOPE: Final = InstrumentationScope("imagegenx")
_RANDOM: Final = (1 << 62) - 1
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


class Exporter:
    """Used by one thread."""

    def __init__(self) -> None:
        self._processor = BatchSpanProcessor(OTLPSpanExporter())
        self._part = sampled_part(os.environ)
        self._resource = resource()
        self._new_id = RandomIdGenerator().generate_span_id

    def send(self, span: TaskSpan) -> None:
        """Hands a sampled span to OpenTelemetry."""
        trace_id = span.task_id.int
        if not is_sampled(trace_id, self._part):
            return
        root = root_of(span.task_id)
        own = span.span_id or self._new_id()
        parent = None if own == root else SpanContext(trace_id, span.parent or root, is_remote=True)
        made = ReadableSpan(
            span.name,
            context=SpanContext(trace_id, own, is_remote=False, trace_flags=_SAMPLED),
            parent=parent,
            resource=self._resource,
            attributes=dict(span.attributes),
            links=[Link(context) for text in span.links if (context := parse_traceparent(text))],
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error[:300]) if span.error else Status(),
            start_time=int(span.began * 1e9),
            end_time=int(max(span.began, span.ended) * 1e9),
            instrumentation_scope=_SCOPE,
        )
        self._processor.on_end(made)

    def close(self) -> None:
        """Sends what is left."""
        self._processor.shutdown()


def sampled_part(env: Mapping[str, str]) -> float:
    """0 to 1, as OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG say; 1 for what they can't mean."""
    sampler = env.get("OTEL_TRACES_SAMPLER", "").strip().lower().removeprefix("parentbased_")
    if sampler != "traceidratio":
        return 0.0 if sampler == "always_off" else 1.0
    try:
        part = float(env.get("OTEL_TRACES_SAMPLER_ARG", ""))
    except ValueError:
        part = 1.0
    return part if 0 <= part <= 1 else 1.0


def is_sampled(trace_id: int, part: float) -> bool:
    """The same in every process. By the last 62 bits, which are random: OpenTelemetry's own samplers compare 64, of
    which the first two are fixed in a UUID, so that a ratio below one half would choose nothing.
    """
    return (trace_id & _RANDOM) < part * (_RANDOM + 1)


def parse_traceparent(text: str) -> SpanContext | None:
    """The caller's span, of a W3C traceparent header; None for anything else."""
    found = _TRACEPARENT.fullmatch(text.strip())
    if found is None or text.startswith("ff"):
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags & 1))
    return context if context.is_valid else None


def resource() -> Resource:
    """Who sends: the service, `imagegenx` unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise, and
    which of its processes on which host.
    """
    process = os.environ.get("PROCESS_NAME") or "python"
    own = {"imagegenx.process": process, "service.instance.id": f"{socket.gethostname()}:{process}:{os.getpid()}"}
    found = Resource.create(own)
    named = str(found.attributes.get("service.name", ""))
    return found.merge(Resource({"service.name": "imagegenx"})) if named.startswith("unknown_service") else found
