"""The tracer provider that the environment asks for, and an exporter that can't hurt."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from config.schema import TracingConfig
from workers.telemetry.tracing import SAY_EVERY_S, Tracing, TracingError, Watched, build, choose_exporters, resource

ON = TracingConfig()
ENDPOINT = "http://127.0.0.1:4318"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("OTEL_", "K8S_"))]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("env", "names"),
    [
        ({}, ()),
        ({"OTEL_TRACES_EXPORTER": ""}, ()),
        ({"OTEL_TRACES_EXPORTER": "none"}, ()),
        ({"OTEL_TRACES_EXPORTER": " OTLP "}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "console"}, ("console",)),
        ({"OTEL_TRACES_EXPORTER": "otlp, console,otlp"}, ("otlp", "console")),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{ENDPOINT}/v1/traces"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ()),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": ENDPOINT}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_TRACES_EXPORTER": "console"}, ("console",)),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": " True"}, ()),
        ({"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_SDK_DISABLED": "true"}, ()),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
          "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ("console",)),
    ],
    ids=range(17),
)  # fmt: skip
def test_the_environment_chooses_the_exporters(env: dict[str, str], names: tuple[str, ...]) -> None:
    assert choose_exporters(env) == names


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"},
         "OTEL_TRACES_EXPORTER: 'zipkin' is unknown; choose from otlp, console, none"),
        ({"OTEL_TRACES_EXPORTER": "otlp,none"}, "OTEL_TRACES_EXPORTER: none goes with no other"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "OTEL_EXPORTER_OTLP_ENDPOINT: not a URL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://"}, "OTEL_EXPORTER_OTLP_ENDPOINT: not a URL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"}, "OTEL_EXPORTER_OTLP_ENDPOINT: not a URL"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "grpc://h"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: not a URL"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
         "OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' is not supported; use http/protobuf"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_named_with_what_it_may_hold(env: dict[str, str], message: str) -> None:
    with pytest.raises(TracingError, match=message):
        build(ON, env=env)


def test_an_endpoint_with_credentials_is_not_repeated() -> None:
    with pytest.raises(TracingError) as error:
        choose_exporters({"OTEL_EXPORTER_OTLP_ENDPOINT": "htp://user:hunter2@host"})
    assert "hunter2" not in str(error.value)


def test_an_impossible_batch_size_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with pytest.raises(TracingError, match=r"OTEL_BSP_.*max_queue_size must be a positive integer"):
        build(ON, env={"OTEL_TRACES_EXPORTER": "console"})


@pytest.mark.parametrize(
    ("config", "env"),
    [(ON, {}), (TracingConfig(enabled=False), {"OTEL_TRACES_EXPORTER": "otlp"}), (ON, {"OTEL_SDK_DISABLED": "true"})],
    ids=["no exporter", "disabled in fleet.yaml", "disabled by the environment"],
)
def test_without_an_exporter_no_span_is_recorded_and_the_context_passes(
    config: TracingConfig, env: dict[str, str]
) -> None:
    tracing = build(config, env=env)
    parent = trace.SpanContext(0xA, 0xB, is_remote=True, trace_flags=trace.TraceFlags(1))
    context = trace.set_span_in_context(trace.NonRecordingSpan(parent))
    span = tracing.provider.get_tracer("t").start_span("process q", context=context)
    assert not span.is_recording()
    assert span.get_span_context() == parent
    assert tracing.shutdown(0.0)


@dataclass
class Collector:
    """An OTLP/HTTP receiver."""

    url: str = ""
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        assert request.headers["Content-Type"] == "application/x-protobuf"
        message = ExportTraceServiceRequest()
        message.ParseFromString(await request.read())
        self.requests.append(message)
        return web.Response(content_type="application/x-protobuf")


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    received = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", received.receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    received.url = site.name
    yield received
    await runner.cleanup()


async def test_spans_reach_an_otlp_collector(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=9.9.9")
    monkeypatch.setenv("K8S_POD_NAME", "fleet-7d4b-x")
    tracing = build(ON, service_name="fleet-test")
    with tracing.provider.get_tracer("fleet.worker").start_as_current_span("process email-send"):
        pass
    assert await asyncio.to_thread(tracing.shutdown, 20.0)
    (request,) = collector.requests
    (received,) = request.resource_spans
    attributes = {item.key: item.value.string_value for item in received.resource.attributes}
    assert attributes["service.name"] == "fleet-test"
    assert attributes["service.version"] == "9.9.9"
    assert attributes["k8s.pod.name"] == "fleet-7d4b-x"
    assert attributes["deployment.environment.name"] == "test"
    assert attributes["service.instance.id"]
    assert [span.name for scope in received.scope_spans for span in scope.spans] == ["process email-send"]


@pytest.fixture
def black_hole(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A collector that accepts connections and never says a word, with half a minute to do so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "30")
        yield server


def test_a_collector_that_hangs_holds_shutdown_no_longer_than_asked(
    black_hole: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    tracing = build(ON)
    tracing.provider.get_tracer("t").start_span("process q").end()
    begun = time.monotonic()
    assert not tracing.shutdown(0.2)
    assert not tracing.shutdown(0.0)
    assert time.monotonic() - begun < 15, "waited for the collector's 30 s"
    assert "the last spans could not be sent within 0.2 s" in caplog.text
    black_hole.close()
    assert tracing.shutdown(20.0), "it goes on trying after its end"


def test_a_full_queue_never_blocks_the_code_that_ends_spans(
    black_hole: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")
    tracing = build(ON)
    tracer = tracing.provider.get_tracer("t")
    begun = time.monotonic()
    for _ in range(1000):
        tracer.start_span("process q").end()
    assert time.monotonic() - begun < 15, "waited for the collector's 30 s"
    assert not tracing.shutdown(0.0)
    black_hole.close()
    assert tracing.shutdown(20.0)


@pytest.fixture
def printed() -> Iterator[list[str]]:
    """What a handler of the root logger sees, which is what reaches the log."""
    texts: list[str] = []

    class Printer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    printer = Printer(logging.WARNING)
    logging.getLogger().addHandler(printer)
    yield texts
    logging.getLogger().removeHandler(printer)


def test_a_collector_that_is_down_costs_one_line(monkeypatch: pytest.MonkeyPatch, printed: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")  # shorter than its first pause
    tracing = build(ON)
    assert isinstance(tracing.provider, TracerProvider)
    for _ in range(3):
        tracing.provider.get_tracer("t").start_span("process q").end()
        tracing.provider.force_flush()
    assert tracing.shutdown(20.0)
    (line,) = printed
    assert line.startswith("spans can't be exported (otlp): ")
    assert line.endswith("; 1 lost so far")


async def test_a_collector_that_refuses_is_quoted(monkeypatch: pytest.MonkeyPatch, printed: list[str]) -> None:
    async def refuse(request: web.BaseRequest) -> web.Response:
        return web.Response(status=401)

    runner = web.ServerRunner(web.Server(refuse, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", site.name)
    tracing = build(ON)
    tracing.provider.get_tracer("t").start_span("process q").end()
    assert await asyncio.to_thread(tracing.shutdown, 20.0)
    await runner.cleanup()
    (line,) = printed
    assert "code: 401, reason: Unauthorized" in line


class Flaky(SpanExporter):
    """Does as told."""

    def __init__(self, *results: SpanExportResult | Exception) -> None:
        self.results = list(results)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        logging.getLogger("chatter.of.exporter").warning("attempt refused")
        logging.getLogger("chatter.of.exporter").error("gave up")
        return result


def test_failures_are_told_once_a_minute_and_recovery_once(caplog: pytest.LogCaptureFixture) -> None:
    good, bad = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
    spans = [TracerProvider().get_tracer("t").start_span("x")] * 2
    clock = iter((1.0, 2.0, 1.0 + SAY_EVERY_S))  # asked at each failure
    watched = Watched(
        Flaky(good, bad, bad, OSError("no route"), good, good), "otlp", chatter="chatter.of.exporter",
        clock=lambda: next(clock),
    )  # fmt: skip
    with caplog.at_level(logging.INFO):
        results = [watched.export(spans) for _ in range(6)]  # type: ignore[arg-type]
    assert results == [good, bad, bad, bad, good, good]
    assert [record.getMessage() for record in caplog.records] == [
        "spans can't be exported (otlp): attempt refused; 2 lost so far",
        "spans can't be exported (otlp): OSError: no route; 6 lost so far",
        "spans are exported again (otlp); 6 were lost",
    ]


def test_the_resource_names_the_service_and_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"K8S_POD_NAME": "p", "K8S_POD_UID": "u", "K8S_NAMESPACE": "n", "K8S_NODE_NAME": "", "OTHER": "x"}
    attributes = resource("fleet", env).attributes
    assert attributes["service.name"] == "fleet"
    assert attributes["service.version"]
    assert attributes["service.instance.id"]
    assert {k: v for k, v in attributes.items() if k.startswith("k8s.")} == {
        "k8s.pod.name": "p", "k8s.pod.uid": "u", "k8s.namespace.name": "n",
    }  # fmt: skip
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mail-fleet")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=other,service.instance.id=seven")
    attributes = resource("fleet", env).attributes
    assert attributes["service.name"] == "mail-fleet"
    assert attributes["k8s.pod.name"] == "other"
    assert attributes["service.instance.id"] == "seven"


def test_shutdown_twice_is_legal() -> None:
    tracing = Tracing(TracerProvider(shutdown_on_exit=False))
    assert tracing.shutdown(20.0)
    assert tracing.shutdown(20.0)


def run(script: str, **env: str) -> str:
    """What a new interpreter prints: the installed provider is one for the whole process."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**clean, **env}, capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout + done.stderr


INSTALL = """
import logging
from opentelemetry import trace
from config.schema import TracingConfig
from workers.telemetry.tracing import configure
logging.basicConfig()
tracer = trace.get_tracer("made before")
tracing = configure(TracingConfig())
tracer.start_span("process q").end()
print(tracing.shutdown(20.0), type(tracing.provider).__name__)
"""


def test_configured_it_serves_tracers_made_before() -> None:
    output = run(INSTALL, OTEL_TRACES_EXPORTER="console", OTEL_SERVICE_NAME="fleet-x")
    assert '"name": "process q"' in output
    assert '"service.name": "fleet-x"' in output
    assert "True TracerProvider" in output


def test_a_process_that_ends_without_shutdown_does_not_wait_for_the_collector(black_hole: socket.socket) -> None:
    output = run(INSTALL.replace("tracing.shutdown(20.0)", "None"), **os.environ, OTEL_BSP_SCHEDULE_DELAY="1")
    assert "None TracerProvider" in output


def test_the_sampler_comes_from_the_environment() -> None:
    output = run(INSTALL, OTEL_TRACES_EXPORTER="console", OTEL_TRACES_SAMPLER="always_off")
    assert "process q" not in output


def test_a_provider_that_is_installed_already_is_kept() -> None:
    script = (
        "from opentelemetry import trace\nfrom opentelemetry.sdk.trace import TracerProvider\n"
        "theirs = TracerProvider()\ntrace.set_tracer_provider(theirs)\n" + INSTALL + "print(tracing.provider is theirs)"
    )
    output = run(script, OTEL_TRACES_EXPORTER="console")
    assert "another tracer provider is installed already" in output
    assert output.count('"name": "process q"') == 0
    assert "True\n" in output
