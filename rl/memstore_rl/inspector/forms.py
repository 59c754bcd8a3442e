"""Forms as requests carry them, with limits of bytes and fields. A bad form gets one sentence."""

from __future__ import annotations

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from memstore.errors import InputError

KIND = "application/x-www-form-urlencoded"
"""How browsers send forms without files."""


class FormTooLong(InputError):
    """A form holds more bytes than it may."""


async def read_form(request: Request, *, most_bytes: int, most_fields: int) -> FormData:
    """The fields of a form; a form holds no files. The body is read only up to the limit.

    Raises:
        FormTooLong: it is longer than `most_bytes`, whether or not its header says so.
        InputError: it has more than `most_fields` fields, or is not encoded as a page's form.
    """
    body = await _body(request, most_bytes)
    if body and request.headers.get("content-type", "").partition(";")[0].strip().lower() != KIND:
        raise InputError(f"this is no form that a page sends; send it as {KIND}")

    async def whole() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        return await Request(request.scope, whole).form(max_files=0, max_fields=most_fields, max_part_size=most_bytes)
    except (HTTPException, MultiPartException) as error:
        raise InputError(f"the form cannot be read; send at most {most_fields} fields") from error


async def _body(request: Request, most_bytes: int) -> bytes:
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most_bytes:
                raise FormTooLong(f"a form of this page holds at most {most_bytes // 2**10} KiB; send less at a time")
            parts.append(part)
    except ClientDisconnect as error:
        raise InputError("the connection closed before the form was complete; send it again") from error
    return b"".join(parts)
