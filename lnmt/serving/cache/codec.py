"""A prediction as bytes: MessagePack of known fields, so that reading runs nothing, whoever wrote it."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from lnmt.types import Prediction

CHECK_BYTES = 8


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    label: str
    scores: dict[str, float]
    tokens: int
    pooled: bytes  # float32, little-endian


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Packed)


def pack(value: Prediction) -> bytes:
    """The prediction, floats in full: it comes back as it was."""
    pooled = np.ascontiguousarray(value.pooled, dtype="<f4").tobytes()
    return _encoder.encode(_Packed(value.label, value.scores, value.tokens, pooled))


def unpack(data: bytes) -> Prediction:
    """The prediction that `pack` wrote; its `pooled` cannot be written to. Raises ValueError for other bytes."""
    try:
        found = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
    if found.label not in found.scores:
        raise ValueError("a label without its score")
    return Prediction(found.label, found.scores, found.tokens, np.frombuffer(found.pooled, dtype="<f4"))


def seal(key: bytes, value: Prediction) -> bytes:
    """`pack`, behind a check that holds under this key alone."""
    packed = pack(value)
    return _check(key, packed) + packed


def unseal(key: bytes, data: bytes) -> Prediction | None:
    """The prediction that was sealed under this key; None for anything else: altered, cut, of another text."""
    check, packed = data[:CHECK_BYTES], data[CHECK_BYTES:]
    if check != _check(key, packed):
        return None
    try:
        return unpack(packed)
    except ValueError:
        return None


def _check(key: bytes, packed: bytes) -> bytes:
    return hashlib.blake2b(packed, key=key, digest_size=CHECK_BYTES).digest()
