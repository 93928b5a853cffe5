"""What a process tells the system and its libraries about itself."""

import os


def turn_off_telemetry() -> None:
    """Tell the libraries not to call home; a user who set these otherwise is left alone."""
    for key, value in {
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "FEAST_USAGE": "False",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }.items():
        os.environ.setdefault(key, value)


def lower_priority() -> None:
    """Let this process give way to serving (idempotent per process)."""
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), 10))
