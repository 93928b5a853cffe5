"""The arithmetic of the capacity plan: it grows with the demand, and its units agree."""

from dataclasses import fields, replace

import pytest
from benchmarks.capacity_plan import (
    DAY_SECONDS,
    GIB,
    LEAST_PARTITIONS,
    Constants,
    Demand,
    Line,
    Machine,
    Plan,
    api_processes,
    bundle_bytes,
    disks,
    first_factor,
    peak_per_second,
    plan,
    replica_bytes,
    training_peak_bytes,
)
from hypothesis import given
from hypothesis import strategies as st

CONSTANTS = Constants(
    log_bytes_per_event=300.0,
    kafka_bytes_per_event=500.0,
    lake_bytes_per_event=25.0,
    snapshot_bytes_per_event=25.0,
    work_bytes_per_event=25.0,
    history_bytes_per_user=250.0,
    history_bytes_per_act=25.0,
    histories_file_bytes_per_event=19.0,
    live_bytes_per_user=1_000.0,
    live_bytes_per_act=200.0,
    process_bytes=140e6,
    start_seconds=1.5,
    load_seconds_per_user=1e-6,
    load_seconds_per_act=1e-8,
    list_cpu_seconds=7e-4,
    event_cpu_seconds=2e-4,
    follow_cpu_seconds=2.5e-5,
    lake_cpu_seconds=2.2e-5,
    list_wire_bytes=2_000.0,
    event_wire_bytes=200.0,
    exposure_bytes_per_list=300.0,
    exposures_kept=1_000_000,
    training_cpu_seconds=Line(7.0, 1e-5),
    training_peak_bytes=Line(450e6, 350.0),
    softmax_cpu_seconds_per_event=2e-4,
    registry_bytes_per_training=1e6,
    acts_per_event=0.7,
    bundle_bytes_per_film_pair=8.0,
    fit_bytes_per_film_pair=24.0,
    measured_films=2_000,
    map_bytes_bound=256 * 2.0**20,
    fit_bytes_bound=1_536 * 2.0**20,
    features_cpu_seconds=Line(9.0, 2e-5),
    features_peak_bytes=Line(550e6, 100.0),
    redis_bytes_per_user=400.0,
    redis_bytes_per_film=500.0,
)
SMALL = Machine("small", 4, 16 * GIB, 0.2)
LARGE = Machine("large", 64, 4_096 * GIB, 10.0)
KNOWN = (SMALL, LARGE)

demands = st.builds(
    Demand,
    users=st.integers(1, 3_000_000),
    kept_events=st.integers(0, 300_000_000),
    events_per_day=st.floats(0, 6e7),
    films=st.integers(1, 50_000),
    lists_per_user_per_day=st.floats(0, 20),
    active_share_per_day=st.floats(0, 1),
    trainings_per_day=st.floats(0.2, 4),
    log_copies=st.integers(1, 3),
)
NUMBERS = [
    field.name
    for field in fields(Plan)
    if field.name not in ("api_machine", "batch_machine", "batch_fits", "api_machines")
]


@given(demands, st.floats(1, 5))
def test_more_of_everything_never_needs_less(demand: Demand, factor: float) -> None:
    less, more = plan(demand, CONSTANTS, (LARGE,)), plan(demand.scaled(factor), CONSTANTS, (LARGE,))
    for name in NUMBERS:
        # users and events are whole numbers: rounding may take a half away
        assert getattr(more, name) >= 0.999 * getattr(less, name) - 300, name
    assert more.api_machines >= less.api_machines


@given(demands)
def test_nothing_is_negative_and_cost_is_its_parts(demand: Demand) -> None:
    found = plan(demand, CONSTANTS, KNOWN)
    assert all(getattr(found, name) >= 0 for name in NUMBERS)
    assert found.dollars_per_day == found.machine_dollars_per_day + found.disk_dollars_per_day
    assert found.disk_bytes == pytest.approx(sum(disks(CONSTANTS, demand).values()))
    assert found.partitions >= max(LEAST_PARTITIONS, found.workers)
    assert found.api_machines >= 1 + demand.spare_replicas


@given(demands)
def test_twice_the_price_is_twice_the_cost_of_machines(demand: Demand) -> None:
    dear = replace(
        LARGE, dollars_per_hour=2 * LARGE.dollars_per_hour, dollars_per_disk_gib_month=0.2
    )
    one, two = plan(demand, CONSTANTS, (LARGE,)), plan(demand, CONSTANTS, (dear,))
    assert two.machine_dollars_per_day == pytest.approx(2 * one.machine_dollars_per_day)
    assert two.disk_dollars_per_day == pytest.approx(2 * one.disk_dollars_per_day)


@given(demands)
def test_the_processes_have_the_cores_that_the_busiest_minute_takes(demand: Demand) -> None:
    events = peak_per_second(demand.events_per_day, demand.peak_factor)
    lists = peak_per_second(demand.users * demand.lists_per_user_per_day, demand.peak_factor)
    processes = api_processes(CONSTANTS, demand)
    busy = events * CONSTANTS.event_cpu_seconds + lists * CONSTANTS.list_cpu_seconds
    busy += processes * events * CONSTANTS.follow_cpu_seconds
    assert busy <= processes * demand.utilisation * (1 + 1e-9)


def test_a_day_at_one_event_a_second_is_one_event_a_second() -> None:
    assert peak_per_second(DAY_SECONDS, 1.0) == 1.0


def test_a_copy_of_the_log_more_is_its_bytes_more() -> None:
    demand = Demand(1_000, 100_000, 1_000.0, 100, retention_days=10.0, log_copies=2)
    more = replace(demand, log_copies=3)
    # 1,000 events x 10 days x 500 bytes
    assert disks(CONSTANTS, more)["log"] - disks(CONSTANTS, demand)["log"] == 5_000_000
    # one copy is the embedded log
    assert disks(CONSTANTS, replace(demand, log_copies=1))["log"] == 3_000_000


def test_memory_of_a_replica_adds_up() -> None:
    demand = Demand(
        1_000_000, 100_000_000, 1_000_000.0, 2_000, active_share_per_day=0.1, trainings_per_day=2
    )
    past = 1e6 * 250 + 0.7 * 1e8 * 25
    live = 1e6 * 0.05 * 1_000 + 0.5 * 1e6 * 0.7 * 200  # half a day until the next training
    assert replica_bytes(CONSTANTS, demand) == pytest.approx(140e6 + past + live)


def test_what_films_take_is_bounded() -> None:
    assert bundle_bytes(CONSTANTS, 1_000) == 2 * 8e6
    assert bundle_bytes(CONSTANTS, 10**6) == 2 * CONSTANTS.map_bytes_bound
    few, many = (training_peak_bytes(CONSTANTS, 1e6, films) for films in (2_000, 10**6))
    assert many - few == pytest.approx(CONSTANTS.fit_bytes_bound - 24 * 2_000**2)


def test_a_replica_that_fits_nowhere_is_an_error() -> None:
    with pytest.raises(ValueError, match="fits into no machine"):
        plan(Demand(10**8, 10**10, 1e7, 2_000), CONSTANTS, (SMALL,))


def test_following_that_takes_a_whole_process_is_an_error() -> None:
    with pytest.raises(ValueError, match="shard users"):
        api_processes(CONSTANTS, Demand(10**6, 10**8, 1e9, 2_000))


@given(st.floats(1e-3, 100))
def test_the_first_factor_is_found_to_a_per_cent(at: float) -> None:
    assert first_factor(lambda factor: factor >= at) == pytest.approx(at, rel=0.011)


def test_what_never_holds_has_no_first_factor() -> None:
    assert first_factor(lambda _: False) == float("inf")
