"""Bodies of requests, cut while they stream in: too long, too slow, of the wrong type."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath

from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from ssd.serve.limits import RefusalError

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every broken form
OVERHEAD = 16 << 10  # of multipart around a file


async def bounded(request: Request, most: int, seconds: float) -> AsyncIterator[bytes]:
    """The pieces of a body.

    Raises:
        RefusalError: 413 after `most` bytes or at once if the head says more, 408 after `seconds`, 400 where
            it breaks off.
    """
    told = request.headers.get("content-length", "0")
    if not told.isdecimal() or int(told) > most:
        raise RefusalError(413, f"a body may have {most} bytes. Received: {told}")
    count, pieces = 0, request.stream().__aiter__()
    try:
        async with asyncio.timeout(seconds):
            async for piece in pieces:
                count += len(piece)
                if count > most:
                    raise RefusalError(413, f"a body may have {most} bytes. Received: more")
                yield piece
    except TimeoutError:
        raise RefusalError(408, f"a body must arrive within {seconds:g} s") from None
    except ClientDisconnect:
        raise RefusalError(400, "a body must be complete") from None


async def read_picture(request: Request, most: int, seconds: float) -> tuple[bytes, str]:
    """The bytes of a picture, sent as they are or as the one file of a form, and its name for the result.

    Raises:
        RefusalError: as `bounded`; 415 an encoded body or a form without a file; 422 an empty body.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RefusalError(415, "a body must not be compressed")
    if kind == "multipart/form-data":
        return await _read_form(request, most, seconds)
    data = b"".join([piece async for piece in bounded(request, most, seconds)])
    if not data:
        raise RefusalError(422, "a body must have a picture. Received: nothing")
    return data, "upload"


async def write_body(request: Request, path: Path, most: int, seconds: float) -> None:
    """A body into a private file. Raises RefusalError as `bounded`."""
    with open(path, "xb") as file:
        async for piece in bounded(request, most, seconds):
            file.write(piece)


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 40  # the stream is bounded; nothing of it goes to the disk


async def _read_form(request: Request, most: int, seconds: float) -> tuple[bytes, str]:
    stream = bounded(request, most + OVERHEAD, seconds)
    try:
        form = await _InMemory(request.headers, stream, max_files=1, max_fields=4).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise RefusalError(422, f"a form must be readable. Received: {error}") from None
    files = [value for value in form.values() if hasattr(value, "filename")]
    if not files:
        raise RefusalError(415, "a form must have one file. Received: none")
    try:
        data = await files[0].read()
    finally:
        await form.close()
    if len(data) > most:
        raise RefusalError(413, f"a picture may have {most} bytes. Received: {len(data)}")
    return data, PurePosixPath((files[0].filename or "upload").replace("\\", "/")).name[:200] or "upload"
