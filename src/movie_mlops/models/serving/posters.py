"""Posters of films: by URL where the source has them, else drawn, with a version in the address."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from movie_mlops.domain.movies import Movie

Language = Literal["ko", "en"]
Draw = Callable[[Movie, Language], str]
"""Makes the SVG of a film's poster, the title in the given language."""
_KEPT_DRAWINGS = 512


@dataclass(frozen=True, slots=True)
class Poster:
    """One drawn poster; `version` is a hash of its content."""

    svg: bytes
    version: str


class Posters:
    """Draws when asked and keeps the latest drawings and all addresses of this process."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._drawn: OrderedDict[tuple[Movie, Language], Poster] = OrderedDict()
        self._urls: dict[tuple[Movie, Language], str] = {}

    def url(self, movie: Movie, language: Language) -> str:
        """The poster's address; that of a drawn one changes when the drawing does."""
        if movie.poster_url is not None:
            return movie.poster_url
        key = (movie, language)
        url = self._urls.get(key)
        if url is None:
            version = self.draw(movie, language).version
            url = f"/posters/{movie.movie_id}.svg?lang={language}&v={version}"
            self._urls[key] = url
        return url

    def draw(self, movie: Movie, language: Language) -> Poster:
        """The drawn poster, also for a film whose source has its own."""
        key = (movie, language)
        poster = self._drawn.get(key)
        if poster is None:
            svg = self._draw(movie, language).encode()
            poster = Poster(svg, blake2b(svg, digest_size=6).hexdigest())
            self._drawn[key] = poster
            if len(self._drawn) > _KEPT_DRAWINGS:
                self._drawn.popitem(last=False)
        return poster
