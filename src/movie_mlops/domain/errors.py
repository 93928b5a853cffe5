"""Every error of the house, as one tree.

MovieMlopsError
├── ConfigurationError            wrong or missing setting; told at start, with the setting's name
├── HomeLockedError               another process writes to this home
├── EngineUnavailableError        transient; the only one that consumers and runners retry
├── LogFullError                  the event log has reached its size bound
├── CrawlError
│   ├── RateLimitedError          the source keeps saying 429
│   ├── SourceAuthError           the source refuses the key
│   └── SourceFormatError         the file or page is not what the source promises
├── DataQualityError              a table breaks its contract; carries the report
├── SnapshotNotFoundError
├── FeatureError
│   ├── FeatureViewNotFoundError
│   └── EntityNotFoundError
├── ModelError
│   ├── ModelVersionNotFoundError
│   ├── ArtifactCorruptError      hash, shape or values of a bundle are wrong
│   ├── FeatureMismatchError
│   └── TrainingDataError         too little data to fit
├── EventError
│   ├── UnknownEventError
│   └── EventConflictError        the same event id with another body
├── InvalidIdError                a user or movie id that cannot be one
├── MovieNotFoundError
├── ExperimentNotFoundError
├── TraceNotFoundError            unknown, or older than a day
└── PipelineError
    ├── UnknownPipelineError
    └── StepFailedError
"""

from typing import Any


class MovieMlopsError(Exception):
    """Base of all; its text says what happened and what to do next."""


class ConfigurationError(MovieMlopsError):
    """A setting is wrong or missing; the text names it."""


class HomeLockedError(MovieMlopsError):
    """Another process holds the writer lock of this home."""


class EngineUnavailableError(MovieMlopsError):
    """An engine does not answer now; trying again may help."""

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class LogFullError(EngineUnavailableError):
    """The event log has reached its size bound."""


class CrawlError(MovieMlopsError):
    """A source could not be fetched."""


class RateLimitedError(CrawlError):
    """The source kept answering 429 after all retries."""


class SourceAuthError(CrawlError):
    """The source refuses the key."""


class SourceFormatError(CrawlError):
    """A file or page is not what its source promises."""


class DataQualityError(MovieMlopsError):
    """A table breaks its contract as a whole; the last good data stays in place."""

    def __init__(self, message: str, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


class SnapshotNotFoundError(MovieMlopsError):
    """No snapshot has this tag."""


class FeatureError(MovieMlopsError):
    """Features could not be built or read."""


class FeatureViewNotFoundError(FeatureError):
    """No feature view, or no feature in it, has this name."""


class EntityNotFoundError(FeatureError):
    """The store knows no such entity."""


class ModelError(MovieMlopsError):
    """A model could not be fitted, found or loaded."""


class ModelVersionNotFoundError(ModelError):
    """No such registered model or version."""


class ArtifactCorruptError(ModelError):
    """A bundle's hash, shape or values are wrong; it is not served."""


class FeatureMismatchError(ModelError):
    """The features given are not those the model was fitted on."""


class TrainingDataError(ModelError):
    """There is too little data to fit this model."""


class EventError(MovieMlopsError):
    """An event cannot be taken."""


class UnknownEventError(EventError):
    """No schema has this event type."""


class EventConflictError(EventError):
    """This event id was taken before with another body."""


class InvalidIdError(MovieMlopsError, ValueError):
    """A text that cannot be a user or movie id."""


class MovieNotFoundError(MovieMlopsError):
    """The catalogue has no such film."""


class ExperimentNotFoundError(MovieMlopsError):
    """No A/B test has this name."""


class TraceNotFoundError(MovieMlopsError):
    """No answer is known under this request id (any more)."""


class PipelineError(MovieMlopsError):
    """A pipeline could not run."""


class UnknownPipelineError(PipelineError):
    """No pipeline or step has this name."""


class StepFailedError(PipelineError):
    """A step raised; the text names it and the cause."""
