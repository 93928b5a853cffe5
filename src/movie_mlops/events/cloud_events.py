"""CloudEvents 1.0 in structured JSON: how an event looks outside of the process."""

from datetime import UTC, datetime, timedelta

import msgspec

from movie_mlops.domain.errors import UnknownEventError

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
SOURCE = "/movie-mlops"
_JSON = "application/json"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class CloudEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """The attributes as the specification names them (github.com/cloudevents/spec, v1.0.2)."""

    id: str
    source: str
    type: str
    specversion: str
    subject: str = ""
    time: datetime = _EPOCH
    datacontenttype: str = ""
    dataschema: str = ""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data_base64: bytes = b""

    @property
    def body(self) -> bytes:
        """The event itself, byte for byte as it was published."""
        return self.data_base64 if self.data is msgspec.UNSET else bytes(self.data)

    @property
    def published_at(self) -> int:
        """`time` in microseconds since 1970; 0 when the event has none."""
        return (self.time.astimezone(UTC) - _EPOCH) // _MICROSECOND


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(CloudEvent)
_ANY = msgspec.json.Decoder(msgspec.Raw)


def to_cloud_event(event_id: str, key: str, kind: str, body: bytes, published_at: int) -> bytes:
    """The event as JSON; a body that is no JSON travels as `data_base64`.

    `kind` is the versioned type, `key` becomes the subject, `published_at` is microseconds since
    1970.
    """
    is_json = _is_json(body)
    return _ENCODER.encode(
        CloudEvent(
            id=event_id,
            source=SOURCE,
            type=kind,
            specversion="1.0",
            subject=key,
            time=_EPOCH + timedelta(microseconds=published_at),
            datacontenttype=_JSON if is_json else "application/octet-stream",
            dataschema=f"urn:movie-mlops:{kind}",
            data=msgspec.Raw(body) if is_json else msgspec.UNSET,
            data_base64=b"" if is_json else body,
        )
    )


def from_cloud_event(text: bytes) -> CloudEvent:
    """Read a CloudEvent, ours or another's; attributes that we do not know are passed over.

    Raises:
        UnknownEventError: the text is no CloudEvent of version 1.
    """
    try:
        event = _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"no CloudEvent: {error}"
        raise UnknownEventError(message) from error
    if not event.specversion.startswith("1."):
        message = f"CloudEvents {event.specversion[:20]!r}: this version reads 1.0"
        raise UnknownEventError(message)
    return event


def _is_json(body: bytes) -> bool:
    try:
        body.decode()
        _ANY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return bool(body) and body == body.strip()  # Raw loses the spaces around it
