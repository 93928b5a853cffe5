"""Every setting of the house, and the only place that reads the environment."""

from movie_mlops.settings.fields import LOOPBACK, PREFIX, SCOPES, ApiKey, Scope, Settings
from movie_mlops.settings.loading import (
    child_environment,
    chosen_keys,
    env_template,
    field_key,
    load_settings,
)
from movie_mlops.settings.process import lower_priority, turn_off_telemetry

__all__ = [
    "LOOPBACK",
    "PREFIX",
    "SCOPES",
    "ApiKey",
    "Scope",
    "Settings",
    "child_environment",
    "chosen_keys",
    "env_template",
    "field_key",
    "load_settings",
    "lower_priority",
    "turn_off_telemetry",
]
