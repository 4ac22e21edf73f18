"""The pages over HTTP, for browsers on this machine [only home of starlette and uvicorn, with `live`]."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, get_args

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xaicompare import colours
from xaicompare.errors import DataError, InputError, XaiCompareError
from xaicompare.explore import about, drawing, inside, lines, photo, removal, sheet
from xaicompare.explore.asked import Asked, Picture, asked, picture
from xaicompare.explore.desk import BusyError, Desk, Job, LeftError, stopping
from xaicompare.explore.exhibit import Exhibit
from xaicompare.reporting import pictures
from xaicompare.zoo.uploads import MOST_BYTES, uploaded

_MOST_JSON = 4 * 2**20  # bytes of a question, with an image of a network's size in it
_UPLOADS = 4  # read at once; more wait
_PAGE = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self' http://127.0.0.1:* "
    "http://localhost:*",  # notebooks show the page in a frame
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_log = logging.getLogger("xaicompare.explore")

Stream = Callable[[Asked, Picture], Iterator[photo.Told]]
Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, eq=False)
class Pages:
    """One or two networks, and the desk at which people ask about them."""

    exhibits: tuple[Exhibit, ...]
    desk: Desk
    reading: asyncio.Semaphore
    misread: tuple[int, ...]

    @property
    def first(self) -> Exhibit:
        """The network that most views are about."""
        return self.exhibits[0]


def application(exhibits: tuple[Exhibit, ...]) -> Starlette:
    """The pages as an ASGI application; nothing that is handed in outlives the answer, but in the browser."""
    pages = Pages(exhibits, Desk(), asyncio.Semaphore(_UPLOADS), tuple(drawing.misread(exhibits[0])))
    first = pages.first
    streams: dict[str, Stream] = {
        "look": lambda _, shown: _alone(lambda: photo.look(first, shown)),
        "maps": lambda wanted, shown: photo.maps(first, wanted, shown),
        "remove": lambda wanted, shown: removal.removals(first, wanted, shown),
        "draw": lambda wanted, shown: drawing.read(first, wanted, shown),
        "layers": lambda wanted, shown: _alone(lambda: inside.flow(first, wanted, shown)),
    }
    if len(exhibits) == 2:
        streams["two"] = lambda wanted, shown: inside.beside((exhibits[0], exhibits[1]), wanted, shown)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        pages.desk.close()

    quick = ("look", "draw", "layers")
    asking = [_route(f"/api/{name}", _stream(pages, how, name in quick), "POST") for name, how in streams.items()]
    told = json.dumps(about.told(exhibits, pages.misread)).encode()
    return Starlette(
        routes=[
            *(_route(path, _fixed(content, kind)) for path, (content, kind) in _page().items()),
            _route("/api/about", _fixed(told, "application/json")),
            _route("/api/example/{number:int}", lambda request: _example(pages, request)),
            _route("/api/upload", lambda request: _upload(pages, request), "POST"),
            *asking,
            _route("/api/code/{view}", lambda request: _made(pages, request, lines.code, "text/plain"), "POST"),
            _route("/api/picture/{view}", lambda request: _made(pages, request, sheet.png, "image/png"), "POST"),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]),
            Middleware(_Guarded),
        ],
        exception_handlers={404: _missing, 405: _missing},
        lifespan=lifespan,
    )


def _page() -> dict[str, tuple[bytes, str]]:
    """The files of the page by their addresses; nothing else of this machine has one."""
    found = {}
    for file in files("xaicompare.explore").joinpath("page").iterdir():
        kind = _PAGE.get(file.name.rpartition(".")[2])
        if kind is not None:
            found["/" if file.name == "index.html" else f"/page/{file.name}"] = (file.read_bytes(), kind)
    found["/page/icon.svg"] = (_ICON, "image/svg+xml")
    return found


_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" '
    f'fill="{colours.STOPS[0]}"/><circle cx="8" cy="8" r="4" fill="{colours.STOPS[5]}"/></svg>'
).encode()


def _route(path: str, answer: Answer, verb: str = "GET") -> Route:
    return Route(path, _in_words(answer), methods=[verb])


def _fixed(content: bytes, kind: str) -> Answer:
    async def answer(_: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


def _in_words(answer: Answer) -> Answer:
    """Errors as sentences; those that are not ours are written to the log, and told without what is in them."""

    async def told(request: Request) -> Response:
        try:
            return await answer(request)
        except XaiCompareError as error:
            return JSONResponse({"error": str(error)}, 400)
        except BusyError:
            return JSONResponse({"error": "Too many people are asking. Try again in a minute."}, 503)
        except (LeftError, ClientDisconnect):
            return JSONResponse({"error": "Something else was asked meanwhile."}, 409)
        except HTTPException:
            raise
        except Exception:
            _log.exception("%s was not expected to fail", request.url.path)
            return JSONResponse({"error": _UNEXPECTED}, 500)

    return told


_UNEXPECTED = "That was not expected to fail. The window where xaicompare runs says more; please report it."


async def _missing(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return JSONResponse({"error": "There is nothing at this address."}, status)


async def _example(pages: Pages, request: Request) -> Response:
    number = int(request.path_params["number"])
    data = await pages.desk.done(lambda: pictures.png(pages.first.pixels(number)), quick=True)
    return Response(data, media_type="image/png")


async def _upload(pages: Pages, request: Request) -> Response:
    async with pages.reading:
        data = await _body(request, MOST_BYTES)
        first = pages.first
        made = await pages.desk.done(
            lambda: uploaded(data, size=first.size, mode=first.mode, fit=first.fit), quick=True
        )
    return JSONResponse({"square": pictures.picture(made.pixels), "notes": made.notes})


async def _body(request: Request, most: int) -> bytes:
    """What was sent, if it is not too much; no more of it than that is ever held.

    Raises:
        DataError: it is.
    """
    told = f"more than {most / 2**20:.0f} MiB were sent; expected less. Make the image smaller."
    if int(request.headers.get("content-length") or 0) > most:
        raise DataError(told)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise DataError(told)
        parts.append(part)
    return b"".join(parts)


async def _asked(request: Request) -> Asked:
    """The settings that were sent as JSON."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise InputError("a question that is no JSON; expected content-type application/json.")
    body = await _body(request, _MOST_JSON)
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("a question that is no JSON; expected a table of settings.") from error
    return asked(given)


def _alone(work: Callable[[], photo.Told]) -> Iterator[photo.Told]:
    """One line, which is not computed before it is asked for."""
    yield work()


def _stream(pages: Pages, how: Stream, quick: bool) -> Answer:
    """Answers in lines of JSON, each as soon as it is known."""

    async def answer(request: Request) -> Response:
        wanted = await _asked(request)
        shown = await pages.desk.done(lambda: picture(pages.first, wanted.image), quick=True)
        person = request.headers.get("x-person", "")[:64] or str(request.client)
        return StreamingResponse(
            _lines(pages, how(wanted, shown), f"{person} {request.url.path}", quick), media_type="application/x-ndjson"
        )

    return answer


async def _lines(pages: Pages, steps: Iterator[photo.Told], person: str, quick: bool) -> AsyncIterator[bytes]:
    with pages.desk.job(person) as job:
        try:
            while True:
                step = await pages.desk.done(lambda: _next(pages, steps, job), quick=quick)
                if step is None:
                    return
                yield json.dumps(step).encode() + b"\n"
        except XaiCompareError as error:
            yield json.dumps({"stopped": str(error)}).encode() + b"\n"
        except (LeftError, BusyError) as error:
            told = "Something else was asked." if isinstance(error, LeftError) else "Too many people are asking."
            yield json.dumps({"stopped": told}).encode() + b"\n"
        except Exception:
            _log.exception("an answer was not expected to fail")
            yield json.dumps({"stopped": _UNEXPECTED}).encode() + b"\n"


def _next(pages: Pages, steps: Iterator[photo.Told], job: Job) -> photo.Told | None:
    with stopping(tuple(each.model for each in pages.exhibits), job):
        return next(steps, None)


async def _made(pages: Pages, request: Request, how: Callable[..., Any], kind: str) -> Response:
    view = request.path_params["view"]
    if view not in get_args(lines.View):
        raise HTTPException(404)
    wanted = await _asked(request)

    def work() -> Any:
        return how(pages.exhibits, view, wanted, picture(pages.first, wanted.image))

    return Response(await pages.desk.done(work), media_type=kind)


class _Guarded:
    """Headers that keep a page to itself, and no answer to questions that other sites make a browser send."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin, host = headers.get(b"origin"), headers.get(b"host", b"")
        foreign = origin is not None and origin != b"http://" + host
        if foreign or (headers.get(b"sec-fetch-site", b"none") == b"cross-site" and scope["path"].startswith("/api/")):
            await JSONResponse({"error": "Another site asked; only this page may."}, 403)(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        await self.app(scope, receive, guarded)
