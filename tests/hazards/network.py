"""Hazards of connections that break or are slow: H7, H8, H9."""

from __future__ import annotations

from tests.fault_plan import named
from tests.hazards.reproduction import Make, Reproduction, Seen
from tests.hazards.subject import Lab


async def success_made_failure(make: Make, lab: Lab) -> Seen:
    async with lab.proxied() as proxy:
        subject = make(proxy.url, retries=False)
        await subject.start()
        await lab.add("first")  # from here on the server knows the scripts
        await lab.until(lambda: subject.completed, 5)
        proxy.break_at("before_write", named("moveToFinished"))
        await lab.add("j")
        await lab.until(lambda: "j" in (*subject.completed, *subject.failed), 10)
        row = await lab.row("j")
        reason = row.get("failedReason")
        said = f"failed: {reason.rpartition(' : ')[2]}" if reason else f"completed with {row.get('returnvalue')}"
        return Seen(reason is not None, f"the connection broke before the result was sent: {said}")


async def blind_second_sending(make: Make, lab: Lab) -> Seen:
    async with lab.proxied() as proxy:
        subject = make(proxy.url)
        await subject.start()
        await lab.add("first")
        await lab.until(lambda: subject.completed, 5)
        proxy.drop_reply(named("moveToFinished"))
        await lab.add("finish")
        await lab.until(lambda: "finish" in subject.completed, 8)
        told = "finish" in subject.completed
        await lab.idle()
        proxy.drop_reply(named("moveToActive"))
        await lab.add("fetch")
        await lab.until(lambda: "fetch" in subject.completed, 8)
        stalls = (await lab.row("fetch")).get("stc", "0")
        said = f"reply to a completion lost: completed is {'' if told else 'never '}told"
        said += f"; reply to a fetch lost: the job stalled {stalls}×"
        return Seen(not told or stalls != "0", said)


async def one_command_in_flight(make: Make, lab: Lab) -> Seen:
    async def work(job_id: str) -> None:
        if job_id == "slow":
            await subject.client.blpop(["bull:none"], 2.5)

    subject = make(lab.url, work, slots=2)
    await subject.start()
    await lab.add("slow")
    await lab.until(lambda: subject.started, 5)
    await lab.add("quick")
    await lab.until(lambda: len(subject.completed) == 2, 10)
    held = subject.started.count("slow") > 1 or subject.completed[:1] != ["quick"]
    order = ", ".join(subject.completed) or "none"
    runs = subject.started.count("slow")
    return Seen(held, f"a command waited 2.5 s for its reply: its job ran {runs}×, jobs completed in the order {order}")


REPRODUCTIONS = {
    "H7": Reproduction("A success becomes a failure", success_made_failure, "test_faults.py"),
    "H8": Reproduction(
        "Scripts are sent again blindly", blind_second_sending, "test_faults.py, test_settle.py", limit_s=45
    ),
    "H9": Reproduction("One command in flight a worker", one_command_in_flight, "test_hazards_idle.py"),
}
