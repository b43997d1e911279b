"""A small Xeno-canto on this machine: pages of the API, files, and faults on order.

Run it by hand to try the command: `python tests/xeno_canto_server.py` prints what to export.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "s3cret/Key+42"
HOST = "127.0.0.1"


@dataclass
class Fault:
    """What happens to one request instead of an answer.

    `status` and `headers` are sent with `body`; `torn` sends half of a file under its full
    length; `stall` sends half and then waits until the server is released.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    torn: bool = False
    stall: bool = False


@dataclass
class Asked:
    """A request that came: when, its path, its query."""

    at_s: float
    path: str
    query: dict[str, str]


class XenoCantoServer:
    """The server; `recordings` are rows of the API, `files` bytes by number.

    `faults` holds a list of faults per path (`/api`, `/file/<number>`): each request takes the
    first one away. `totals` are numRecordings of the next pages, where they are to be wrong.
    """

    def __init__(self, per_page: int = 4) -> None:
        self.per_page = per_page
        self.recordings: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.faults: defaultdict[str, list[Fault]] = defaultdict(list)
        self.totals: list[int] = []
        self.asked: list[Asked] = []
        self.stalled, self.released = threading.Event(), threading.Event()
        self._http = ThreadingHTTPServer((HOST, 0), _handler_of(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    def __enter__(self) -> XenoCantoServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def root(self) -> str:
        return f"http://{HOST}:{self._http.server_port}"

    @property
    def url(self) -> str:
        return f"{self.root}/api"

    def paths(self, start: str = "/") -> list[str]:
        """The paths asked for, in order, that begin so."""
        return [asked.path for asked in self.asked if asked.path.startswith(start)]

    def gaps_s(self) -> list[float]:
        """Seconds between requests, in the order they came."""
        times = [asked.at_s for asked in self.asked]
        return [late - early for early, late in pairwise(times)]

    def add(self, number: str, species: str = "Turdus merula", **changes: Any) -> dict[str, Any]:
        """Add a recording and its file; `changes` overrides fields of its row."""
        genus, _, epithet = species.partition(" ")
        row: dict[str, Any] = {
            "id": number,
            "gen": genus,
            "sp": epithet,
            "ssp": "",
            "grp": "birds",
            "en": f"A bird of {genus}",
            "rec": "Ana Ortíz, Jr.",
            "cnt": "Spain",
            "lat": "42.8373",
            "lon": "-8.652",
            "type": "call, song",
            "url": f"//xeno-canto.org/{number}",
            "file": f"{self.root}/file/{number}",
            "file-name": f"XC{number}-some bird.mp3",
            "lic": "//creativecommons.org/licenses/by-nc-sa/4.0/",
            "q": "A",
            "length": "1:05",
            "date": "2023-04-01",
            "also": [],
            "smp": "44100",
        }
        self.recordings.append({**row, **changes})
        self.files[number] = f"audio of {number} ".encode() * 200
        return self.recordings[-1]

    def page(self, query: str, page: int) -> dict[str, Any]:
        """A page of the answer: `sp:"name"` filters by species, other queries find all."""
        wanted = query[4:-1] if query.startswith('sp:"') else ""
        rows = [
            row for row in self.recordings if wanted in ("", f"{row['gen']} {row['sp']}".lower())
        ]
        begin = (page - 1) * self.per_page
        total = self.totals.pop(0) if self.totals else len(rows)
        return {
            "numRecordings": str(total),
            "numSpecies": "1",
            "page": page,
            "numPages": max(1, -(-len(rows) // self.per_page)),
            "recordings": rows[begin : begin + self.per_page],
        }


def _handler_of(server: XenoCantoServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # headers and body in one packet

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            server.asked.append(Asked(time.monotonic(), parts.path, query))
            waiting = server.faults[parts.path]
            fault = waiting.pop(0) if waiting else Fault()
            if fault.status != 200 or fault.body:
                self.send(fault.status, fault.body, fault.headers)
            elif parts.path.startswith("/api"):
                self.send_page(query)
            elif parts.path.startswith("/file/"):
                self.send_file(parts.path.removeprefix("/file/"), fault)
            else:
                self.send(404, b"", {})

        def send_page(self, query: dict[str, str]) -> None:
            if query.get("key") != KEY:
                said = f"Missing or invalid 'key' parameter {query.get('key')}"
                body = json.dumps({"error": "client_error", "message": said}).encode()
                self.send(401, body, {"Content-Type": "application/json"})
                return
            body = json.dumps(server.page(query["query"], int(query.get("page", "1")))).encode()
            self.send(200, body, {"Content-Type": "application/json"})

        def send_file(self, number: str, fault: Fault) -> None:
            content = server.files[number]
            headers = {"Content-Type": server.types.get(number, "audio/mpeg"), **fault.headers}
            if not (fault.torn or fault.stall):
                self.send(200, content, headers)
                return
            self.close_connection = True
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if fault.stall:
                server.stalled.set()
                server.released.wait(20)

        def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler


def _play() -> None:
    with XenoCantoServer() as server:
        for number in range(100, 112):
            species = ("Turdus merula", "Parus major", "Erithacus rubecula")[number % 3]
            server.add(str(number), species, q="ABCDE"[number % 5], length=f"0:{number - 90}")
        server.recordings[1]["lic"] = ""
        server.recordings[2]["file"] = "https://elsewhere.example/102"
        server.recordings[3]["also"] = ["Parus major", "Corvus corax"]
        server.faults["/api"] = [Fault(503, {"Retry-After": "2"})]
        server.faults["/file/106"] = [Fault(torn=True)]
        server.faults["/file/107"] = [Fault(404)]
        print(f"export BIRDLAB_XENO_CANTO_URL={server.url} XENO_CANTO_KEY={KEY}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    _play()
