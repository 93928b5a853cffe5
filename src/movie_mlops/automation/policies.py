"""When drift sets off a training, and when overload asks for scaling: pure decisions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from movie_mlops.automation.loop_store import Retraining
from movie_mlops.events.schemas import ModelDriftEvent, SystemHealthEvent

Action = Literal["retrain", "page", "ignore"]


@dataclass(frozen=True, slots=True)
class Policy:
    """The bounds; `attempts` are trainings in a row that drift may outlive before it pages."""

    cooldown: timedelta
    attempts: int
    overload_percent: float
    scaling_cooldown: timedelta


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and why in words."""

    action: Action
    reason: str


def decide_retraining(
    event: ModelDriftEvent,
    past: Sequence[Retraining],
    stopped: str | None,
    policy: Policy,
    now: datetime,
) -> Decision:
    """What a drift event leads to; `past` are this model's retrainings, newest first.

    `stopped` is why the loop stopped for this model, None when it did not. At most one training
    per cool-down, however many alarms; drift that outlives `attempts` trainings within a day of
    each other stops the loop and pages a person instead of training on and on. A training that a
    clock has put into the future counts for nothing once it has ended.
    """
    if not event.drift_score > event.threshold:
        return Decision("ignore", f"score {event.drift_score:g} is not above {event.threshold:g}")
    if stopped is not None:
        return Decision("ignore", f"the loop is stopped: {stopped}")
    past = [each for each in past if each.at <= now or each.state == "running"]  # no clock's lies
    running = next((each for each in past if each.state == "running"), None)
    if running is not None:
        return Decision("ignore", f"run {running.run_id} is under way")
    latest = past[0] if past else None
    if latest is not None and now - latest.at < policy.cooldown:
        return Decision("ignore", f"the last training was at {latest.at:%Y-%m-%d %H:%M} UTC")
    if event.timestamp < (latest.at if latest is not None else event.timestamp):
        return Decision("ignore", "a training began after this drift was seen")
    tried = _in_a_row(past, now, policy)
    if tried >= policy.attempts:
        return Decision("page", f"drift is still there after {tried} trainings; look at the data")
    score = f"score {event.drift_score:g} is above {event.threshold:g}"
    return Decision("retrain", score)


def is_overloaded(event: SystemHealthEvent, policy: Policy) -> bool:
    """Whether a service asks for more replicas."""
    return max(event.cpu_usage, event.memory_usage) > policy.overload_percent


def _in_a_row(past: Sequence[Retraining], now: datetime, policy: Policy) -> int:
    """Trainings since the last longer calm; failed ones count too: they did not help either."""
    calm = max(4 * policy.cooldown, timedelta(days=1))
    count, until = 0, now
    for each in past:
        if until - each.at > calm:
            break
        count, until = count + 1, each.at
    return count
