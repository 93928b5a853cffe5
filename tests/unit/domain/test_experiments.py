"""Arms of viewers, and request ids in the order of time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.domain.experiments import Arm, Experiment
from movie_mlops.domain.requests import made_at_ms, new_request_id
from movie_mlops.domain.versions import Alias
from movie_mlops.settings import Settings, child_environment, load_settings

TEXT = (
    '{"name": "t", "arms": [{"name": "a", "weight": 0.9}, '
    '{"name": "b", "alias": "challenger", "weight": 0.1}]}'
)


def made(name: str = "t", weights: tuple[float, ...] = (1.0, 1.0)) -> Experiment:
    return Experiment(name, tuple(Arm(f"arm{n}", weight=w) for n, w in enumerate(weights)))


@given(st.text(), st.lists(st.floats(0.01, 100), min_size=2, max_size=10))
def test_a_viewer_stays_in_one_arm(user: str, weights: list[float]) -> None:
    test = made(weights=tuple(weights))
    assert test.arm_of(user) is test.arm_of(user)
    assert test.arm_of(user) == made(weights=tuple(weights)).arm_of(user)


def test_arms_get_their_shares_and_tests_are_independent() -> None:
    users = [str(number) for number in range(20_000)]
    first, second = made("one", (9.0, 1.0)), made("two", (1.0, 1.0))
    in_first = [first.arm_of(user).name == "arm1" for user in users]
    in_second = [second.arm_of(user).name == "arm1" for user in users]
    assert sum(in_first) / 20_000 == pytest.approx(0.1, abs=0.01)
    assert sum(in_second) / 20_000 == pytest.approx(0.5, abs=0.02)
    both = sum(a and b for a, b in zip(in_first, in_second, strict=True))
    assert both / 20_000 == pytest.approx(0.05, abs=0.008)
    assert first.subject("1") != second.subject("1")


@pytest.mark.parametrize(
    "change",
    [
        ("[]", "{}"), ('"name": "t"', '"name": "a/b"'), ("0.9", "0"), ("0.9", "-1"),
        ('"b"', '"a"'), ("challenger", "nobody"), ('"name": "t"', '"name": "t", "colour": 1'),
        ('"name": "t"', '"name": "t", "alpha": 2'), ("}]}", "}"),
        (', {"name": "b", "alias": "challenger", "weight": 0.1}', ""),
    ],
)  # fmt: skip
def test_a_setting_that_is_no_test_is_told_by_its_name(
    change: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TEXT.replace(*change) if change[0] in TEXT else change[1]
    monkeypatch.setenv("MOVIE_MLOPS_EXPERIMENT", text)
    with pytest.raises(ConfigurationError, match="MOVIE_MLOPS_EXPERIMENT"):
        load_settings()


def test_the_setting_reaches_children() -> None:
    settings = Settings(experiment=TEXT, shadow_share=0.1)
    test = settings.running_experiment
    assert test is not None
    assert [arm.alias for arm in test.arms] == [Alias.CHAMPION, Alias.CHALLENGER]
    assert test.shares == pytest.approx((0.9, 0.1))
    assert child_environment(settings)["MOVIE_MLOPS_EXPERIMENT"] == TEXT
    assert Settings().running_experiment is None


def test_request_ids_are_in_the_order_of_time_and_never_the_same() -> None:
    before = round(1000 * time.time()) - 1
    ids = [new_request_id() for _ in range(50_000)]  # many within each millisecond
    assert len(set(ids)) == len(ids)
    assert {len(each) for each in ids} == {32}
    times = [made_at_ms(each) for each in ids]
    assert times == sorted(times, key=lambda at: at or 0)
    assert before <= (times[0] or 0) <= (times[-1] or 0) <= round(1000 * time.time()) + 1
    for other in ("mine", "", "A" * 32, "0" * 31, "0" * 33):
        assert made_at_ms(other) is None
