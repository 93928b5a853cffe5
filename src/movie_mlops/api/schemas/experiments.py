"""A/B tests as the API shows them."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_EXAMPLE: Any = {
    "name": "ranker-2",
    "active": True,
    "started": "2026-01-01T00:00:00Z",
    "joined_until": "2026-01-03T00:00:00Z",
    "attribution_minutes": 60.0,
    "alpha": 0.05,
    "arms": [
        {
            "name": "control", "alias": "champion", "share": 0.5, "model_versions": ["7"],
            "exposures": 61_000, "exposed_users": 5_040, "users": 5_000, "conversions": 500,
            "rate": 0.1,
        },
        {
            "name": "treatment", "alias": "challenger", "share": 0.5, "model_versions": ["8"],
            "exposures": 60_400, "exposed_users": 4_990, "users": 4_950, "conversions": 644,
            "rate": 0.1301,
        },
    ],
    "excluded_users": 3,
    "sample_ratio": {"p_value": 1.0, "alpha": 0.01, "ok": True},
    "difference": {
        "arm": "treatment", "against": "control", "value": 0.0301, "low": 0.0093,
        "high": 0.0509, "level": 0.95, "p_value": 0.0004,
    },
    "p_value": 0.0004,
    "verdict": "better",
    "sentence": "treatment is better than control: +0.93 to +5.09 points (p = 0.0004).",
}  # fmt: skip


class ArmOut(BaseModel):
    """One arm; only `users`, whose attribution window is over, count in `rate`."""

    name: str
    alias: str
    share: float = Field(description="The share of viewers that it is meant to get.")
    model_versions: tuple[str, ...]
    exposures: int = Field(description="Lists shown.")
    exposed_users: int
    users: int
    conversions: int
    rate: float | None


class SampleRatioOut(BaseModel):
    """Whether viewers fall to the arms as planned; may be looked at any time."""

    p_value: float
    alpha: float
    ok: bool


class DifferenceOut(BaseModel):
    """Rate of `arm` minus rate of `against`; interval and p-value may be looked at any time."""

    arm: str
    against: str
    value: float
    low: float
    high: float
    level: float
    p_value: float


class ExperimentOut(BaseModel):
    """An A/B test as it stands; the verdict may be looked at any time."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: str
    active: bool
    started: datetime
    joined_until: datetime | None = Field(description="Outcomes before this are all counted.")
    attribution_minutes: float
    alpha: float
    arms: tuple[ArmOut, ...]
    excluded_users: int = Field(description="Viewers who were shown more than one arm.")
    sample_ratio: SampleRatioOut
    difference: DifferenceOut | None
    p_value: float | None
    verdict: Literal["running", "better", "worse", "no data", "invalid"]
    sentence: str


class ArmPlan(BaseModel):
    """An arm as configured."""

    name: str
    alias: str
    weight: float


class ExperimentPlan(BaseModel):
    """A test as it began."""

    name: str
    active: bool
    arms: tuple[ArmPlan, ...]
    attribution_minutes: float
    alpha: float


class Experiments(BaseModel):
    """Tests that run or ran, the latest first."""

    items: list[ExperimentPlan]
    shadow_share: float = Field(description="Share of lists that the challenger makes, unseen.")
