"""Traces, for OpenTelemetry to collect: one run as one tree, from the request that asked for it to each call of a tool.

Off, and nothing of it imported, unless the usual variable of OpenTelemetry names a collector. Where a run came from is
kept with it in the record, so that whichever process goes on with it goes on with its trace; nobody asks the agent, who
could say anything. No span tells what was asked or answered.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from longwick.settings import environ_values

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

P = ParamSpec("P")
T = TypeVar("T")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
END_SECONDS = 2.0
PREFIX = "longwick."

_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None


def configure(tier: str) -> None:
    """Have this process tell its spans to the collector of the environment, if it names one."""
    global _provider, _tracer
    if not any(environ_values(ENDPOINTS).values()):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = environ_values(["OTEL_SERVICE_NAME"]).get("OTEL_SERVICE_NAME") or f"longwick-{tier}"
    # Not the global one: libraries of ours would fill it with what they see, and believe what agents send.
    _provider = TracerProvider(resource=Resource.create({"service.name": name}), shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("longwick")


def on() -> bool:
    """Whether anybody collects."""
    return _tracer is not None


def provider() -> "TracerProvider | None":
    """For a library that makes spans of its own, while anybody collects."""
    return _provider


def end() -> None:
    """Tell what has not been told yet, as this process ends; a collector that is away holds it up only so long."""
    if _provider is not None:
        ending = threading.Thread(target=_provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(END_SECONDS)


def span(
    name: str, *, parent: str | None = None, began_at: datetime | None = None, **attributes: Any
) -> AbstractContextManager[None]:
    """A part of the work, below `parent` (a traceparent of the record) or below the part that this thread is at."""
    return nullcontext() if _tracer is None else _span(_tracer, name, parent, began_at, attributes)


@contextmanager
def _span(
    tracer: "Tracer", name: str, parent: str | None, began_at: datetime | None, attributes: dict[str, Any]
) -> Iterator[None]:
    from opentelemetry.trace import StatusCode

    with tracer.start_as_current_span(
        name,
        context=_context(parent),
        attributes=_named(attributes),
        start_time=_nanoseconds(began_at),
        # What an error says may be what somebody has written.
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield
        except Exception as error:
            current.set_status(StatusCode.ERROR, type(error).__name__)
            raise


def passed(name: str, began_at: datetime, *, parent: str | None = None, **attributes: Any) -> None:
    """A part of the work that ends now."""
    with span(name, parent=parent, began_at=began_at, **attributes):
        pass


def traced(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make each call of a function a span."""

    def wrap(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            with span(name):
                return function(*args, **kwargs)

        return call

    return wrap


def note(*, failed: str | None = None, **attributes: Any) -> None:
    """Say more of the part that this thread is at; `failed` is the code of what went wrong."""
    if _tracer is not None:
        from opentelemetry.trace import StatusCode, get_current_span

        current = get_current_span()
        current.set_attributes(_named(attributes))
        if failed:
            current.set_status(StatusCode.ERROR, failed)


def link(traceparent: str | None) -> None:
    """Point from the part that this thread is at to another trace, of which this is not a part."""
    if _tracer is not None and traceparent:
        from opentelemetry.trace import get_current_span

        get_current_span().add_link(get_current_span(_context(traceparent)).get_span_context())


def current() -> str | None:
    """The traceparent of the part that this thread is at, for the record; None where there is none."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def _context(traceparent: str | None) -> "Context | None":
    if not traceparent:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def _named(attributes: dict[str, Any]) -> dict[str, Any]:
    return {PREFIX + name: value for name, value in attributes.items() if value is not None}


def _nanoseconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * 1_000_000) * 1000
