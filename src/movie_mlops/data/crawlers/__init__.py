"""Sources of films: the one place that opens a crawler by URL."""

from movie_mlops.data.crawlers.base import Crawler
from movie_mlops.data.crawlers.imdb import ImdbCrawler
from movie_mlops.data.crawlers.movielens import MovieLensCrawler
from movie_mlops.data.crawlers.sample import SampleCrawler
from movie_mlops.data.crawlers.tmdb import TMDBAccess, TMDBCrawler
from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.settings import Settings, field_key

__all__ = ["Crawler", "TMDBAccess", "TMDBCrawler", "open_crawler"]


def open_crawler(settings: Settings) -> Crawler:
    """The crawler that `source_url` names.

    Raises:
        ConfigurationError: unknown scheme, or TMDB without a key.
    """
    scheme, _, rest = settings.source_url.partition(":")
    if scheme == "sample":
        return SampleCrawler(films=settings.sample_films, seed=settings.seed)
    if scheme == "movielens":
        return MovieLensCrawler(rest)
    if scheme == "imdb":
        return ImdbCrawler(rest)
    if scheme == "tmdb":
        key = settings.tmdb_api_key
        if key is None:
            message = (
                f"{field_key('tmdb_api_key')} is not set. Put a key of themoviedb.org into .env, "
                "or start the local TMDB-compatible server: `movie-mlops tmdb-server`"
            )
            raise ConfigurationError(message)
        access = TMDBAccess(key.get_secret_value(), settings.tmdb_base_url, settings.tmdb_pages)
        return TMDBCrawler(access=access)
    message = f"{field_key('source_url')}={settings.source_url}: no source has this scheme"
    raise ConfigurationError(message)
