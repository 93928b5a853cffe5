"""What the log gets of an event's body is what its own checks would have made of it."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from movie_mlops.api.schemas.events import InteractionIn
from movie_mlops.events.schemas import UserInteractionEvent, encode

NOW = datetime(2026, 3, 4, 5, 6, 7, 891234, UTC)
texts = st.one_of(st.none(), st.text(max_size=130), st.sampled_from(["s", "a b", "괴물", "\n"]))
bodies = st.fixed_dictionaries(
    {
        "user_id": st.one_of(st.integers(), st.text(max_size=130), st.just("user_001")),
        "interaction_type": st.sampled_from(["view", "like", "rating", "undo"]),
    },
    optional={
        "movie_id": st.one_of(st.integers(-1, 2**70), st.sampled_from(["movie_7", "8", None])),
        "rating": st.one_of(st.none(), st.floats(), st.sampled_from([0.5, 4, "4.5", 5.0])),
        "timestamp": st.one_of(
            st.none(),
            st.datetimes(datetime(1990, 1, 1), datetime(2026, 1, 1)).map(datetime.isoformat),  # noqa: DTZ001
            st.sampled_from(["2020-01-01T00:00:00+09:00", "2020-01-01T00:00:00.5Z", 1.7e9]),
        ),
        "session_id": texts,
        "target_event_id": texts,
        "request_id": st.sampled_from([None, "abc", "x y"]),
    },
)


@given(bodies)
def test_it_is_what_the_checked_constructor_makes(body: dict[str, Any]) -> None:
    try:
        said = InteractionIn.model_validate_json(json.dumps(body))
    except ValidationError:
        return
    made = said.to_event(NOW)
    checked = UserInteractionEvent(
        user_id=said.user_id,
        movie_id=said.movie_id or 0,
        interaction_type=said.interaction_type,
        timestamp=said.timestamp or NOW,
        rating=said.rating,
        session_id=said.session_id,
        target_event_id=said.target_event_id,
        request_id=said.request_id,
    )
    assert made == checked
    assert encode(made, "id") == encode(checked, "id")
