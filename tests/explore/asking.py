"""Questions to the pages, as any program on this machine can ask them."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from xaicompare.explore.live import Explorer

JSON = {"content-type": "application/json"}
SIZES = {"wide": {"width": 1400, "height": 900}, "phone": {"width": 390, "height": 844}}


def sent(
    live: Explorer, path: str, content: object = None, *, verb: str = "POST", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of an answer; content that is no bytes goes as JSON."""
    line = http.client.HTTPConnection(urlsplit(live.url).netloc, timeout=120)
    body = content if isinstance(content, bytes) else None if content is None else json.dumps(content).encode()
    kind = {} if isinstance(content, bytes) or content is None else JSON
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        line.request(verb, path, body=body, headers=kind | given)
        answer = line.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        line.close()


def told(live: Explorer, path: str, content: object, **headers: str) -> list[dict[str, Any]]:
    """The lines of an answer."""
    status, body, _ = sent(live, path, content, **headers)
    assert status == 200, body
    return [json.loads(line) for line in body.splitlines()]


def refused(live: Explorer, path: str, content: object, **headers: str) -> str:
    """The sentence with which something is refused."""
    status, body, _ = sent(live, path, content, **headers)
    assert 400 <= status < 500, (status, body)
    return str(json.loads(body)["error"])
