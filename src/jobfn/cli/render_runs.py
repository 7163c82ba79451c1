"""Format what a durable function has recorded: what it waits for, steps, unread signals and children."""

from datetime import datetime

from jobfn.cli.render_times import columns, moment, seconds_text
from jobfn.operations.durable_records import Child, DurableRun, Signal, Step, Wait

_INDENT = " " * 8


def run_lines(run: DurableRun, now: datetime) -> list[str]:
    """Format a run."""
    lines = []
    if run.waits:
        lines.append(f"    now         {waits_text(run.waits, now)}")
    if run.steps:
        lines.append(f"    steps{_part(len(run.steps), run.step_count, 'the latest')}")
        for step in run.steps:
            lines += _step_lines(step, now)
    if run.signals:
        lines.append(f"    unread signals{_part(len(run.signals), run.signal_count, 'the first')}")
        lines += [f"{_INDENT}{_signal(signal, now)}" for signal in run.signals]
    if run.children:
        own = sum(child.depth == 1 for child in run.children)
        lines.append(f"    children{_part(own, run.child_count, 'the first')}")
        lines += [f"{_INDENT}{line}" for line in columns([_child(child) for child in run.children])]
    return lines


def waits_text(waits: tuple[Wait, ...], now: datetime) -> str:
    """Describe in one line what a parked job waits for."""
    return ", or ".join(
        wait.text if wait.until is None else f"{wait.text} until {moment(wait.until, now)}" for wait in waits
    )


def _step_lines(step: Step, now: datetime) -> list[str]:
    lines = [f"{_INDENT}{step.position:<3} {step.name}: {_state(step, now)}"]
    if step.state != "waiting":
        lines.append(f"{_INDENT}    {moment(step.ended_at, now)}, attempt {step.attempt}")
    if step.error:
        lines += [f"{_INDENT}    {line}" for line in step.error.splitlines()]
    value = _value(step.result, is_large=step.is_large)
    if value and not (step.kind == "step" and step.state == "failed"):  # that result is the type of the error
        lines.append(f"{_INDENT}    {value}")
    return lines


def _state(step: Step, now: datetime) -> str:
    child = "" if step.child_id is None else f"job {step.child_id} "
    if step.state != "waiting":
        took = f" after {seconds_text(step.duration_seconds)}" if step.duration_seconds is not None else ""
        if step.kind == "wait" and step.state == "completed":
            return f"read the signal {step.event!r}{took}"
        return f"{child}{step.state.replace('_', ' ')}{took}"
    if step.kind == "then":
        return "is added when this job completes"
    if step.kind == "call":
        return f"{child}has not ended"
    wait = Wait(step.kind, step.event)
    return wait.text + (f" until {moment(step.wake_at, now)}" if step.wake_at is not None else "")


def _signal(signal: Signal, now: datetime) -> str:
    value = _value(signal.payload, is_large=signal.is_large)
    return f"{signal.event!r} sent {moment(signal.sent_at, now)}" + (f": {value}" if value else "")


def _child(child: Child) -> tuple[str, ...]:
    return ("  " * (child.depth - 1) + child.name, f"job {child.id}", child.state)


def _value(text: str | None, *, is_large: bool) -> str:
    return "(large: see the table job_steps or job_signals)" if is_large else text or ""


def _part(shown: int, total: int, which: str) -> str:
    return f" ({which} {shown:,} of {total:,})" if shown < total else ""
