"""The tracer provider of this process, made from the OTEL_… variables; spans are made where the work is.

Spans leave through a bounded queue and a thread: a collector that is slow, down or hanging costs lost spans and one
log line a minute, never a job. Without an exporter no span is recorded, and Node's trace context passes through.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_SDK_DISABLED,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult

from config.schema import TracingConfig

log = logging.getLogger(__name__)

OTEL_TRACES_EXPORTER = "OTEL_TRACES_EXPORTER"
#: The names that it may hold.
EXPORTERS = ("otlp", "console", "none")
#: Seconds between two lines about an exporter that fails.
SAY_EVERY_S = 60.0
#: Kubernetes hands these to the process (downward API); the right side are OpenTelemetry's attributes.
_KUBERNETES = {
    "K8S_POD_NAME": "k8s.pod.name",
    "K8S_POD_UID": "k8s.pod.uid",
    "K8S_NAMESPACE": "k8s.namespace.name",
    "K8S_NODE_NAME": "k8s.node.name",
}


class TracingError(ValueError):
    """An OTEL_… variable can't be used; the message names it and what it may hold."""


class Tracing:
    """The tracer provider of this process, and its end.

    Args:
        provider: makes the spans; only one of the SDK's is ended by `shutdown`.
        exporters: ended by force where the provider's own end takes too long. Defaults to none.
    """

    def __init__(self, provider: trace.TracerProvider, exporters: Sequence[SpanExporter] = ()) -> None:
        self.provider = provider
        self._exporters = exporters
        self._ending: threading.Thread | None = None

    def shutdown(self, timeout_s: float) -> bool:
        """Send what is queued and end the exporters, within `timeout_s` seconds whatever the collector does.

        Blocks: call it in a thread where a loop runs. Returns whether the end was clean; if not, spans may be lost.
        Called again, it waits for the same end.
        """
        if not isinstance(self.provider, TracerProvider):
            return True
        if self._ending is None:
            # The SDK's own shutdown takes no time-out and up to 30 s; a daemon thread can be left behind.
            self._ending = threading.Thread(target=self.provider.shutdown, name="tracing-shutdown", daemon=True)
            self._ending.start()
        self._ending.join(max(0.0, timeout_s))
        if self._ending.is_alive():
            log.warning("the last spans could not be sent within %.1f s", timeout_s)
            for exporter in self._exporters:
                exporter.shutdown()  # no further attempts; the one under way ends with its connection
            return False
        return True


def configure(config: TracingConfig, *, service_name: str = "fleet", env: Mapping[str, str] | None = None) -> Tracing:
    """Make this process's tracer provider and install it for `opentelemetry-api`, once a process.

    Args:
        config: `tracing` of fleet.yaml. `enabled: false` makes no spans, whatever the environment says.
        service_name: `service.name` where neither OTEL_SERVICE_NAME nor OTEL_RESOURCE_ATTRIBUTES has one.
        env: where the exporter is chosen from. Defaults to `os.environ`, which the SDK reads for all else.

    Raises:
        TracingError: an OTEL_… variable holds what can't be used.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        log.warning("another tracer provider is installed already; its exporters are used, OTEL_TRACES_EXPORTER is not")
        return Tracing(trace.get_tracer_provider())
    tracing = build(config, service_name=service_name, env=env)
    trace.set_tracer_provider(tracing.provider)
    return tracing


def build(config: TracingConfig, *, service_name: str = "fleet", env: Mapping[str, str] | None = None) -> Tracing:
    """Like `configure`, without installing it.

    Raises:
        TracingError: an OTEL_… variable holds what can't be used.
    """
    variables = os.environ if env is None else env
    names = choose_exporters(variables) if config.enabled else ()
    if not names:
        return Tracing(trace.NoOpTracerProvider())
    provider = TracerProvider(resource=resource(service_name, variables), shutdown_on_exit=False)
    try:
        exporters = [_EXPORTER[name]() for name in names]
        for exporter in exporters:
            provider.add_span_processor(BatchSpanProcessor(exporter))
    except (ValueError, RuntimeError, ImportError) as error:
        provider.shutdown()
        raise TracingError(f"OTEL_BSP_… or OTEL_EXPORTER_OTLP_…: {error}") from error
    return Tracing(provider, exporters)


def choose_exporters(env: Mapping[str, str]) -> tuple[str, ...]:
    """The exporters that the environment asks for. Pure.

    OTEL_TRACES_EXPORTER is a comma-separated list; unset, an OTLP endpoint means `otlp` and nothing means none.

    Raises:
        TracingError: an unknown exporter or protocol, or an endpoint that is no http(s) URL.
    """
    if env.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
        return ()
    endpoint = next((v for v in (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT) if env.get(v)), "")
    wanted = env.get(OTEL_TRACES_EXPORTER, "").strip() or ("otlp" if endpoint else "none")
    names = tuple(dict.fromkeys(name.strip().lower() for name in wanted.split(",") if name.strip()))
    for name in names:
        if name not in EXPORTERS:
            raise TracingError(f"{OTEL_TRACES_EXPORTER}: {name!r} is unknown; choose from {', '.join(EXPORTERS)}")
    if "none" in names:
        if len(names) > 1:
            raise TracingError(f"{OTEL_TRACES_EXPORTER}: none goes with no other exporter; it holds {wanted!r}")
        return ()
    if "otlp" in names:
        _check_otlp(env, endpoint)
    return names


def _check_otlp(env: Mapping[str, str], endpoint: str) -> None:
    for variable in (OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL):
        protocol = env.get(variable, "").strip()
        if protocol and protocol != "http/protobuf":
            raise TracingError(f"{variable}: {protocol!r} is not supported; use http/protobuf (port 4318)")
        if protocol:
            break  # the variable for traces wins over the general one
    if endpoint:
        try:
            url = urlsplit(env[endpoint])
            usable = url.scheme in ("http", "https") and bool(url.hostname)
        except ValueError:
            usable = False
        if not usable:  # the value may carry credentials: name the variable only
            raise TracingError(f"{endpoint}: not a URL; expected http://host:4318 or https://host")


def resource(service_name: str, env: Mapping[str, str]) -> Resource:
    """Who sends: service, version and Kubernetes place. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.

    `service.instance.id` is the SDK's random UUID, new in each process: several processes share a pod.
    """
    ours = {"service.name": service_name, "service.version": _version()}
    ours.update({attribute: env.get(variable, "") for variable, attribute in _KUBERNETES.items()})
    explicit = OTELResourceDetector().detect().attributes
    return Resource.create({key: value for key, value in ours.items() if value and key not in explicit})


def _version() -> str:
    try:
        return metadata.version("fleet-workers")
    except metadata.PackageNotFoundError:  # run from a source tree
        return ""


class _Overheard(logging.Handler):
    """Keeps what an exporter says about a failed attempt: its first words give the reason, the last only the end."""

    reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message of the first record since `reason` was emptied."""
        self.reason = self.reason or record.getMessage()


class Watched(SpanExporter):
    """An exporter whose failures are told once a minute, with the reason, instead of at every attempt.

    Args:
        exporter: does the work.
        name: what lines call it.
        chatter: the logger on which it reports each failed attempt; its warnings are kept as the reason, not shown.
        clock: monotonic seconds. Defaults to `time.monotonic`.
    """

    def __init__(
        self, exporter: SpanExporter, name: str, *, chatter: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._exporter = exporter
        self._name = name
        self._clock = clock
        self._lost = 0
        self._said_at: float | None = None
        self._ended = False
        self._overheard = _Overheard()
        if chatter:
            logger = logging.getLogger(chatter)
            logger.addHandler(self._overheard)  # for good: a thread left behind at shutdown still talks
            logger.propagate = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export them; what the exporter raises is a failure like any other. Never raises."""
        self._overheard.reason = ""
        try:
            result = self._exporter.export(spans)
        except Exception as error:
            self._overheard.reason = f"{type(error).__name__}: {error}"
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self._recovered()
        else:
            self._failed(len(spans))
        return result

    def _recovered(self) -> None:
        if self._said_at is not None:
            log.info("spans are exported again (%s); %d were lost", self._name, self._lost)
        self._lost, self._said_at = 0, None

    def _failed(self, spans: int) -> None:
        self._lost += spans
        now = self._clock()
        if self._said_at is None or now - self._said_at >= SAY_EVERY_S:
            self._said_at = now
            reason = self._overheard.reason
            log.warning("spans can't be exported (%s): %s; %d lost so far", self._name, reason, self._lost)

    def shutdown(self) -> None:
        """End the exporter, once: the SDK's would warn of a second time."""
        if not self._ended:
            self._ended = True
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what the exporter still holds. Defaults to 30,000 ms. Returns whether all was sent."""
        return self._exporter.force_flush(timeout_millis)


def _otlp() -> SpanExporter:
    return Watched(OTLPSpanExporter(), "otlp", chatter=OTLPSpanExporter.__module__)


def _console() -> SpanExporter:
    return Watched(ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n"), "console")


_EXPORTER = {"otlp": _otlp, "console": _console}
