"""The composition root: what a home consists of, made once from its settings."""

from movie_mlops.bootstrap.places import open_exposures, page_folder
from movie_mlops.bootstrap.services import Services, build_services
from movie_mlops.bootstrap.serving import open_api_services

__all__ = ["Services", "build_services", "open_api_services", "open_exposures", "page_folder"]
