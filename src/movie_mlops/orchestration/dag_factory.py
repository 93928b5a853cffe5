"""The shapes as Airflow DAGs; imported in Airflow's own environment alone."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, CronTriggerTimetable, Param, chain

from movie_mlops.orchestration.shapes import SHAPES, Shape, steps_of_run

OWNER = "movie-mlops"
MOVIE_TABLES = Asset("movie_tables")
"""There are new tables: what is made of them is made anew."""
DRIFT_ALERT = Asset("drift_alert")
"""Something outside saw drift: train. The house's own loop does not emit it, it starts a run."""

# Inputs come through the environment and are never part of the shell's text. Warnings go to the
# log as they come; the result is printed after everything else, whatever the process says at exit,
# and on a line of its own: what DuckDB's binding says there ends without one.
_COMMAND = """\
result="$(movie-mlops step {pipeline} {step} --json "$STEP_INPUTS")" || exit $?
printf '\\n%s\\n' "$(tail -n 1 <<< "$result")"
"""


def make_dag(
    name: str,
    *,
    longest: timedelta,
    after: Sequence[Asset] = (),
    makes: Asset | None = None,
) -> DAG:
    """The DAG of a shape: one task per step, those of its follower at the end.

    `longest` is the time-out of one step; `after` are the assets that start it too; its own last
    step `makes` an asset.
    """
    shape = SHAPES[name]
    dag = DAG(
        shape.dag_id,
        description=shape.description,
        doc_md=_documentation(shape),
        schedule=_schedule(shape, after),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags=["movie-mlops", name],
        params={
            "cause": Param(
                None,
                type=["null", "string"],
                title="Cause",
                description="What set this run off; a model that it trains keeps it as a tag.",
                maxLength=200,
            )
        },
        default_args={
            "owner": OWNER,
            "retries": 2,  # the first delay is Airflow's setting core.default_task_retry_delay
            "retry_exponential_backoff": 2.0,
            "max_retry_delay": timedelta(minutes=10),
            "execution_timeout": longest,
        },
        user_defined_macros={"step_inputs": step_inputs},
    )
    tasks: list[BashOperator] = []
    for pipeline, step in steps_of_run(name):
        before = [task.task_id for task in tasks]
        is_last = (pipeline, step) == (name, shape.steps[-1])
        task = BashOperator(
            task_id=step,
            bash_command=_COMMAND.format(pipeline=pipeline, step=step),
            env={
                "STEP_INPUTS": f"{{{{ step_inputs(params, ti, {before}) }}}}",
                # a task's standard input is a socket, which bash takes for a remote login and reads
                # ~/.bashrc; an inner shell does not
                "SHLVL": "1",
            },
            append_env=True,
            output_processor=json.loads,
            skip_on_exit_code=None,
            outlets=[makes] if makes is not None and is_last else [],
            doc_md=f"`movie-mlops step {pipeline} {step}`",
            dag=dag,
        )
        tasks.append(task)
    chain(*tasks)
    return dag


def step_inputs(params: Any, ti: Any, before: Sequence[str]) -> str:
    """JSON of the run's parameters and of what the steps before returned, later ones win.

    A run that nobody gave a cause is its own.
    """
    values = {key: value for key, value in dict(params).items() if value is not None}
    values.setdefault("cause", ti.run_id)
    for task_id in before:
        values |= ti.xcom_pull(task_ids=task_id) or {}
    return json.dumps(values)


def _schedule(shape: Shape, after: Sequence[Asset]) -> Any:
    """By time, by assets, by either, or by nothing."""
    assets = None
    for asset in after:
        assets = asset if assets is None else assets | asset
    if shape.every_hours is None:
        return assets
    hours = int(shape.every_hours)
    # cron counts within a day; the first run is at the next full hour of it, not at once
    clock = CronTriggerTimetable(
        "0 0 * * *" if hours >= 24 else f"0 */{hours} * * *", timezone="UTC"
    )
    return clock if assets is None else AssetOrTimeSchedule(timetable=clock, assets=assets)


def _documentation(shape: Shape) -> str:
    rows = [
        f"{number}. `{step}` (`movie-mlops step {pipeline} {step}`)"
        for number, (pipeline, step) in enumerate(steps_of_run(shape.name), 1)
    ]
    steps = "\n".join(rows)
    return (
        f"{shape.description}\n\n{steps}\n\nEach step may run twice; only one of a home runs at a "
        f"time. The same without Airflow: `movie-mlops run {shape.name}`."
    )
