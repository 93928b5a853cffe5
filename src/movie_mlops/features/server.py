"""Reading features from Feast's server over HTTP."""

from collections.abc import Mapping, Sequence
from typing import Any

from movie_mlops.domain.errors import EngineUnavailableError

_TIMEOUT_SECONDS = 3.0


class FeatureServer:
    """`feast serve` at an address; see https://docs.feast.dev/reference/feature-servers."""

    def __init__(self, url: str) -> None:
        import httpx  # noqa: PLC0415 (only where there is a server)

        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT_SECONDS)

    def get_online(
        self, features: Sequence[str], entities: Sequence[Mapping[str, Any]]
    ) -> dict[str, list[Any]]:
        """Columns by name, one value per entity.

        The server says PRESENT of entities that it does not know; the value is null then.

        Raises:
            EngineUnavailableError: it does not answer, or refuses.
        """
        import httpx  # noqa: PLC0415 (as above)

        keys = entities[0].keys() if entities else ()
        body = {
            "features": list(features),
            "entities": {key: [row[key] for row in entities] for key in keys},
        }
        try:
            answer = self._http.post("/get-online-features", json=body)
            answer.raise_for_status()
            found = answer.json()
            names = found["metadata"]["feature_names"]
            columns = [result["values"] for result in found["results"]]
            return dict(zip(names, columns, strict=True))
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            message = f"Feast's server did not answer as it should: {error!r}"
            raise EngineUnavailableError(message) from error

    def ping(self) -> None:
        """Return when the server answers, else raise EngineUnavailableError."""
        import httpx  # noqa: PLC0415 (as above)

        try:
            self._http.get("/health").raise_for_status()
        except httpx.HTTPError as error:
            message = f"Feast's server does not answer: {error}"
            raise EngineUnavailableError(message) from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
