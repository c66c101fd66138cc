"""Protobuf's wire format, read field by field where it lies: Caffe's files and TensorFlow's indices.

Source: protobuf.dev, "Encoding".
"""

from collections.abc import Iterator

import numpy as np

Bytes = bytes | np.ndarray  # an array of uint8 may be a memory map


def fields(data: Bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message, none of them copied.

    Args:
        data: where the message lies.
        at: its start.
        end: behind its last byte.
    Yields:
        (number, wire type, start, end) of each field; of a varint (wire type 0) its value as start.
    Raises:
        ValueError: it is no message, or cut.
    """
    while at < end:
        tag, at = varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("a protobuf message must be well formed. Received: field 0")
        if wire == 0:
            value, at = varint(data, at, end)
            yield number, wire, value, at
            continue
        if wire == 2:
            length, at = varint(data, at, end)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a protobuf message must be well formed. Received: wire type {wire}")
        if length > end - at:
            raise ValueError(
                f"a protobuf message must be whole. Received: field {number} ends behind its message"
            )
        yield number, wire, at, at + length
        at += length


def varint(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """The number at a place, and the place behind it. Raises ValueError."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("a protobuf message must be whole. Received: it ends inside a number")
        byte = int(data[at])
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a protobuf message must be well formed. Received: a number of over ten bytes")
