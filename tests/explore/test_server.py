"""Safe by default: this machine only, nothing kept, nothing reachable that was not meant to be, bounded."""

import gc
import http.client
import json
import os
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from asking import JSON, refused, sent, told

from xaicompare.errors import XaiCompareError
from xaicompare.explore import Explorer
from xaicompare.explore.exhibit import Exhibit
from xaicompare.zoo.uploads import MOST_BYTES

IMAGE = {"example": 3}


def test_only_this_machine_is_listened_to(live: Explorer) -> None:
    where = urlsplit(live.url)
    assert where.hostname == "127.0.0.1"
    others = {each[4][0] for each in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others:
        if address.startswith("127."):
            continue
        with pytest.raises(ConnectionRefusedError), socket.create_connection((address, where.port), timeout=1):
            pass


def test_headers_keep_the_page_to_itself(live: Explorer) -> None:
    for path in ("/", "/page/main.js", "/api/about"):
        status, _, headers = sent(live, path, verb="GET")
        assert status == 200
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_the_page_names_no_other_machine() -> None:
    page = Path(__file__).parents[2] / "xaicompare" / "explore" / "page"
    for file in page.iterdir():
        content = file.read_text().replace("http://www.w3.org/2000/svg", "")  # a namespace, which nothing fetches
        assert "http://" not in content, file
        assert "https://" not in content, file
        assert "//cdn" not in content
        assert "innerHTML" not in content  # names stay text


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/page/../server.py",
            "/page/..%2fserver.py",
            "/page/%2e%2e/%2e%2e/cli/__init__.py",
            "/page/",
            "/page/main.py",
        ),
        *("/etc/passwd", "//etc/passwd", "/file=/etc/passwd", "/api/example/../../etc/passwd", "/api/example/-1"),
        "/api/nothing",
    ],
)
def test_no_other_path_is_reachable(live: Explorer, path: str) -> None:
    status, body, _ = sent(live, path, verb="GET")
    assert status == 404
    assert json.loads(body)["error"] == "There is nothing at this address."
    assert b"root:" not in body


def test_other_sites_can_not_ask_through_a_browser(live: Explorer) -> None:
    asked = {"image": IMAGE}
    assert "Another site" in refused(live, "/api/look", asked, origin="http://evil.example")
    assert "Another site" in refused(live, "/api/look", asked, origin="null")
    assert "Another site" in refused(live, "/api/look", asked, sec_fetch_site="cross-site")
    assert sent(live, "/api/about", verb="GET", host="evil.example")[0] == 400  # a name that was pointed at 127.0.0.1
    own = live.url.rstrip("/")
    assert told(live, "/api/look", asked, origin=own)[0]["top"]
    status, body, _ = sent(live, "/api/look", json.dumps(asked).encode(), content_type="text/plain")
    assert status == 400  # what a form of another site could send
    assert "JSON" in json.loads(body)["error"]


def test_too_much_is_refused_before_it_is_held(live: Explorer) -> None:
    line = http.client.HTTPConnection(urlsplit(live.url).netloc, timeout=30)
    line.putrequest("POST", "/api/upload")
    line.putheader("content-length", str(10**12))
    line.endheaders()
    answer = line.getresponse()
    assert answer.status == 400
    assert "MiB" in json.loads(answer.read())["error"]
    line.close()
    assert "MiB" in refused(live, "/api/look", b" " * (5 * 2**20), content_type="application/json")
    assert "MiB" in refused(live, "/api/upload", b"\0" * (MOST_BYTES + 1))
    for nonsense in (b"", b"{", b"[" * 100_000, b'{"image": NaN}', b"\xff"):
        assert refused(live, "/api/look", nonsense, content_type="application/json")
    assert sent(live, "/api/picture/photo", {"image": {"square": "A" * 1000}, "methods": ["saliency"]})[0] == 400
    assert sent(live, "/api/code/nothing", {"image": IMAGE})[0] == 404


def test_nothing_that_was_handed_in_is_kept(live: Explorer, digits: Exhibit, tmp_path, monkeypatch) -> None:
    from xaicompare.reporting import pictures

    before = {path for path in Path("/tmp").iterdir() if os.access(path, os.R_OK)}
    square = pictures.picture(digits.pixels(5)).partition(",")[2]
    kept = len(digits.kept)
    assert len(told(live, "/api/maps", {"image": {"square": square}, "methods": ["saliency", "gradcam"]})) == 3
    assert json.loads(sent(live, "/api/upload", pictures.png(digits.pixels(5)))[1])["square"]
    assert len(digits.kept) == kept
    after = {path for path in Path("/tmp").iterdir() if os.access(path, os.R_OK)}
    assert {path.suffix for path in after - before} & {".png", ".jpg"} == set()


def test_a_failure_of_ours_tells_nothing_of_the_machine(exhibits: tuple[Exhibit, Exhibit], monkeypatch, caplog) -> None:
    from xaicompare.explore import photo

    def broken(*_: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(photo, "look", broken)
    with Explorer(exhibits[:1]) as live:
        (line,) = told(live, "/api/look", {"image": IMAGE})
    assert "not expected" in line["stopped"]
    assert "secret" not in line["stopped"]
    assert "/secret/path" in caplog.text


def test_a_person_who_leaves_stops_the_computing(live: Explorer) -> None:
    """KernelSHAP and LIME of ten images would take far longer than the question that comes after."""
    where = urlsplit(live.url)
    slow = json.dumps({"image": IMAGE, "methods": ["kernelshap", "lime", "occlusion"]}).encode()
    for number in range(5):
        line = http.client.HTTPConnection(where.netloc, timeout=30)
        line.request("POST", "/api/maps", body=slow, headers={**JSON, "x-person": f"leaves {number}"})
        line.close()
    begun = time.monotonic()
    assert told(live, "/api/look", {"image": IMAGE})
    assert told(live, "/api/maps", {"image": IMAGE, "methods": ["saliency"]})
    assert time.monotonic() - begun < 10


def test_a_new_question_of_a_person_ends_the_one_before(live: Explorer) -> None:
    answers: list = []
    slow = {"image": {"example": 11}, "methods": ["saliency", "kernelshap", "lime", "smoothgrad", "occlusion"]}
    first = threading.Thread(target=lambda: answers.append(told(live, "/api/maps", slow, x_person="one")))
    first.start()
    time.sleep(0.15)
    assert len(told(live, "/api/maps", {"image": IMAGE, "methods": ["saliency"]}, x_person="one")) == 2
    first.join(30)
    assert answers[0][-1].get("stopped") or len(answers[0]) == 6  # a fast machine was done before


def resident() -> float:
    """Mebibytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_twenty_people_at_once_and_five_hundred_requests_in_bounded_memory(live: Explorer, digits: Exhibit) -> None:
    from xaicompare.reporting import pictures

    square = pictures.picture(digits.pixels(9)).partition(",")[2]

    def person(number: int) -> int:
        done = 0
        for turn in range(5):
            image = {"square": square} if turn % 2 else {"example": (7 * number + turn) % 500}
            who = {"x_person": str(number)}
            assert told(live, "/api/look", {"image": image}, **who)[0]["top"]
            maps = told(live, "/api/maps", {"image": image, "methods": ["saliency", "lrp:epsilon"]}, **who)
            assert [set(each) & {"error", "stopped"} for each in maps] == [set()] * 3
            removed = told(live, "/api/remove", {"image": image, "methods": ["saliency"]}, **who)
            assert len(removed) == 3
            assert sent(live, "/api/upload", pictures.png(digits.pixels(number)), **who)[0] == 200
            assert sent(live, f"/api/example/{number}", verb="GET")[0] == 200
            done += 5
        return done

    with ThreadPoolExecutor(20) as people:
        assert sum(people.map(person, range(4))) == 100  # what is loaded once is loaded
        gc.collect()
        before = resident()
        assert sum(people.map(person, range(20))) == 500
    gc.collect()
    assert resident() - before < 150
    assert len(digits.kept) <= 48
    assert threading.active_count() < 60


def test_a_port_that_is_taken_is_told(live: Explorer, exhibits: tuple[Exhibit, Exhibit]) -> None:
    with pytest.raises(XaiCompareError, match="free one"):
        Explorer(exhibits[:1], port=urlsplit(live.url).port)
