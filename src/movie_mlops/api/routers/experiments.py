"""A/B tests: which run, and how each stands."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from movie_mlops.api.dependencies import JsonBytes, Services
from movie_mlops.api.schemas.experiments import (
    ArmPlan,
    ExperimentOut,
    ExperimentPlan,
    Experiments,
)
from movie_mlops.domain.errors import ExperimentNotFoundError
from movie_mlops.models.serving.ab_report import decode_definition, report_on
from movie_mlops.models.serving.services import ApiServices

router = APIRouter(tags=["experiments"])


@router.get("/api/v1/experiments")
def get_experiments(services: Services) -> Experiments:
    """The A/B tests that run or ran, and how much the challenger answers in the shadow."""
    tests = services.audience.tests
    found = [(name, tests.definition(name)) for name in tests.names()]
    plans = []
    for name, definition in found:
        if definition is None:
            continue
        test = decode_definition(definition)
        plans.append(
            ExperimentPlan(
                name=name,
                active=_is_active(services, name),
                arms=tuple(
                    ArmPlan(name=arm.name, alias=str(arm.alias), weight=arm.weight)
                    for arm in test.arms
                ),
                attribution_minutes=test.attribution_minutes,
                alpha=test.alpha,
            )
        )
    return Experiments(items=plans, shadow_share=services.audience.shadow.share)


@router.get("/api/v1/experiments/{name}", response_model=ExperimentOut)
def get_experiment(
    name: Annotated[str, Path(max_length=64, examples=["ranker-2"])], services: Services
) -> Response:
    """How one A/B test stands, with a verdict that may be looked at any time."""
    found = report_on(services.audience.tests, name, active=_is_active(services, name))
    if found is None:
        message = f"no A/B test {name!r}; /api/v1/experiments lists them"
        raise ExperimentNotFoundError(message)
    return JsonBytes(found)


def _is_active(services: ApiServices, name: str) -> bool:
    running = services.audience.trial.experiment
    return running is not None and running.name == name
