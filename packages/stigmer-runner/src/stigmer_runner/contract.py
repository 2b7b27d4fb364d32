"""What passes through Temporal between a runner and a server that knows the contract, but nothing added to it since.

Such a server sends whole resources as proto-JSON, and takes no answer with a field that it does not know.
"""

import json
from collections.abc import Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from stigmer_protos import descriptors
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from stigmer_runner.settings import RunnerSettings

Message = Any
"""A protobuf message of the contract's descriptor pool."""

_FIRST_ADDITION = 1000
"""From here on fields are additions to the contract."""
_BINARY = b"binary/protobuf"
_JSON = b"json/protobuf"
_MOST_BYTES = 1_900_000
"""What Temporal takes as the result of an activity, nearly."""
_ENVELOPE_BYTES = 512
_MARGIN = 0.1
_LONGEST_MARGIN = 20.0
"""Of an activity's time what is kept for telling the end, and its bound in seconds."""


def message_of(value: RawValue, name: str) -> Message:
    """Return an argument as a message of the type `name`.

    Raises:
        ValueError: It is none.
    """
    message: Message = descriptors.message_type(name)()
    payload = value.payload
    try:
        if payload.metadata.get("encoding") == _BINARY:
            message.ParseFromString(payload.data)
        else:
            json_format.Parse(payload.data, message, ignore_unknown_fields=True, descriptor_pool=descriptors.pool())
    except (json_format.ParseError, DecodeError) as error:
        # Not what it says: it quotes the argument, which may hold secrets.
        raise ValueError(f"the argument is no {name} in proto-JSON ({type(error).__name__})") from None
    return message


def answer_of(message: Message, *, most_bytes: int, less: Sequence[str] = ()) -> RawValue:
    """Return a message as an activity's result, without additions to the contract.

    Args:
        message: It; it is not changed.
        most_bytes: What the result may take.
        less: Fields to leave out, one after the other, until it does.
    """
    answer = type(message)()
    answer.CopyFrom(message)
    drop_additions(answer)
    data = _encoded(answer)
    for name in less:
        if len(data) <= most_bytes:
            break
        answer.ClearField(name)
        data = _encoded(answer)
    metadata = {"encoding": _JSON, "messageType": answer.DESCRIPTOR.full_name.encode()}
    return RawValue(Payload(metadata=metadata, data=data))


def working_seconds(seconds: float) -> float:
    """Return how much of an activity's time its work may take for the end to be told before all of it is over."""
    return seconds - min(seconds * _MARGIN, _LONGEST_MARGIN)


def most_answer_bytes(settings: RunnerSettings) -> int:
    """Return what a result may take to be in the history itself: the other server does not know our blobs."""
    has_blobs = settings.blob_folder is not None or settings.blob_bucket
    return (settings.blob_threshold_bytes if has_blobs else _MOST_BYTES) - _ENVELOPE_BYTES


def _encoded(message: Message) -> bytes:
    # Values of enums as numbers: a number that is not known is kept where it is read, and a name is refused.
    plain = json_format.MessageToDict(message, use_integers_for_enums=True, descriptor_pool=descriptors.pool())
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode()


def drop_additions(message: Message) -> None:
    """Clear every field of a message, and of those in it, that is an addition to the contract."""
    for field, value in message.ListFields():
        kind = field.message_type
        if field.number >= _FIRST_ADDITION:
            message.ClearField(field.name)
        elif kind is None or kind.full_name.startswith("google.protobuf."):
            continue
        elif kind.GetOptions().map_entry:
            if kind.fields_by_name["value"].message_type is not None:
                for key in value:
                    drop_additions(value[key])
        else:
            for each in value if field.is_repeated else (value,):
                drop_additions(each)
