"""A collector of traces: a real receiver of OTLP over HTTP, which keeps what it is told."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """Enter it to listen on loopback. `spans` are (name of the service, span), as they came."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self.raw = b""

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(receiver) -> None:  # noqa: N805 - `self` is the collector here
                body = receiver.rfile.read(int(receiver.headers["content-length"]))
                assert receiver.path == "/v1/traces"
                self._take(body)
                receiver.send_response(200)
                receiver.send_header("content-length", "0")
                receiver.end_headers()

            def log_message(receiver, *words: Any) -> None:  # noqa: N805
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)

    def _take(self, body: bytes) -> None:
        self.raw += body
        for told in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(a.value.string_value for a in told.resource.attributes if a.key == "service.name")
            self.spans += [(service, span) for scope in told.scope_spans for span in scope.spans]

    def of_trace(self, trace_id: str) -> list[tuple[str, Span]]:
        """The spans of a trace."""
        return [(service, span) for service, span in self.spans if span.trace_id.hex() == trace_id]
