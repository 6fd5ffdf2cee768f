"""A fleet that is told of a collector: what of a producer's trace, and of an error, reaches it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator

import pytest

from tests.acceptance.conftest import Jobs, StartFleet, mail
from tests.acceptance.fleet_command import FleetCommand
from tests.acceptance.mail_host import MailHost
from tests.otlp_receiver import CONSUMER, ERROR, OtlpReceiver, ReceivedSpan, otlp_receiver

SPAN = "process email-send"


@pytest.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture
def env(receiver: OtlpReceiver) -> dict[str, str]:
    """What makes a fleet send spans: at the latest when it ends, which is what the tests wait for."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.base}


class Producer:
    """The span of a producer, which leaves its context in the jobs."""

    def __init__(self) -> None:
        self.trace, self.span = os.urandom(16).hex(), os.urandom(8).hex()

    @property
    def carrier(self) -> str:
        """What Node writes into `opts.tm`."""
        return json.dumps({"traceparent": f"00-{self.trace}-{self.span}-01"})


async def _the_span(fleet: FleetCommand, receiver: OtlpReceiver) -> ReceivedSpan:
    """The one span of a fleet that has ended."""
    assert await fleet.terminate() == 0
    (span,) = receiver.named(SPAN)
    return span


@pytest.mark.parametrize("mode", [[], ["--single-process"]], ids=["supervised", "single-process"])
async def test_span_of_a_job_is_a_child_of_the_producers(
    start_fleet: StartFleet, jobs: Jobs, receiver: OtlpReceiver, env: dict[str, str], mode: list[str]
) -> None:
    producer = Producer()
    fleet = await start_fleet(*mode, env=env).ready()
    job_id = await jobs.add(mail(), tm=producer.carrier)
    await jobs.reach("completed", job_id)

    span = await _the_span(fleet, receiver)
    assert (span.trace, span.parent, span.links) == (producer.trace, producer.span, [producer.span])
    assert span.kind == CONSUMER
    assert span.resource["service.name"] == "fleet"
    assert span.attributes["messaging.message.id"] == job_id
    (line,) = [record for record in fleet.records() if record["event"] == "job completed"]
    assert line["trace_id"] == producer.trace


async def test_span_of_a_job_is_only_linked_to_the_producers_where_links_are_wanted(
    start_fleet: StartFleet, jobs: Jobs, receiver: OtlpReceiver, env: dict[str, str]
) -> None:
    producer = Producer()
    named = {**env, "OTEL_SERVICE_NAME": "mailers"}
    fleet = await start_fleet("--single-process", "--set", "tracing.parent=link", env=named).ready()
    await jobs.reach("completed", await jobs.add(mail(), tm=producer.carrier))

    span = await _the_span(fleet, receiver)
    assert (span.parent, span.links) == ("", [producer.span])
    assert span.trace != producer.trace
    assert span.resource["service.name"] == "mailers"


async def test_no_span_leaves_a_fleet_without_tracing(
    start_fleet: StartFleet, jobs: Jobs, receiver: OtlpReceiver, env: dict[str, str]
) -> None:
    fleet = await start_fleet("--single-process", "--set", "tracing.enabled=false", env=env).ready()
    await jobs.reach("completed", await jobs.add(mail(), tm=Producer().carrier))
    assert await fleet.terminate() == 0
    assert receiver.spans == []


async def test_span_of_a_failed_job_tells_the_reason_without_its_secrets(
    start_fleet: StartFleet, jobs: Jobs, mail_host: MailHost, receiver: OtlpReceiver, env: dict[str, str]
) -> None:
    mail_host.refuse["dana@example.com"] = "550 5.7.1 no relay for password=hunter2, go away"
    fleet = await start_fleet("--single-process", env=env).ready()
    await jobs.reach("failed", await jobs.add(mail("dana@example.com")))

    span = await _the_span(fleet, receiver)
    assert span.status == ERROR
    assert "550 5.7.1 no relay for password=***" in span.text
    assert "hunter2" not in span.text
    assert "hunter2" not in fleet.text
