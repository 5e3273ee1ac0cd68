"""The page on this machine's own address: for whoever has its secret, from this machine, and to be read only."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from gradtrace.errors import GradtraceError, OutputError, UnknownNameError
from gradtrace.viewer.page import page

if TYPE_CHECKING:
    from gradtrace.viewer.run import Run

__all__ = ["Server"]

HOST = "127.0.0.1"
LONGEST = 2000  # characters of an address
BEAT = 15.0  # seconds after which a silent stream says that it is there
GUARDS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Server:
    """Serves one run in a thread of its own until it is closed.

    Args:
        run: what to show.
        port: where; 0 for any that is free. Raises OutputError where it is taken.
    """

    def __init__(self, run: Run, port: int = 0) -> None:
        token = secrets.token_urlsafe(24)
        try:
            self._server = _Threads((HOST, port), _handler(run, token))
        except OSError as error:
            raise OutputError(f"port {port} can't be used: {(error.strerror or str(error)).lower()}") from error
        self.url = f"http://{HOST}:{self._server.server_port}/{token}/"
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), name="gradtrace viewer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; pages that are open stay as they are."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Threads(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


def _handler(run: Run, token: str) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers for one run."""
    return type("Handler", (_Handler,), {"run": run, "token": token})


class _Handler(BaseHTTPRequestHandler):
    """Answers GET for addresses that begin with the token, asked for by the name of this machine itself."""

    run: Run
    token: str
    server_version, sys_version = "gradtrace", ""
    timeout = 60

    def do_GET(self) -> None:
        """Answer, or refuse."""
        with suppress(ConnectionError, TimeoutError):  # the page was closed, which harms nobody
            self._answer()

    def log_message(self, *_: Any) -> None:
        """Write nothing: stderr is the script's."""

    def _answer(self) -> None:
        address = urlsplit(self.path)
        parts = address.path.split("/")
        if not self._is_ours() or len(self.path) > LONGEST:
            self._send(403, b"forbidden", "text/plain")
        elif len(parts) != 3 or not secrets.compare_digest(parts[1].encode(), self.token.encode()):  # noqa: PLR2004
            self._send(404, b"not found", "text/plain")
        elif parts[2] == "events":
            self._follow()
        else:
            self._route(parts[2], {key: values[-1] for key, values in parse_qs(address.query).items()})

    def _is_ours(self) -> bool:
        """Tell whether a page of ours may ask: not one of another host, whose name may lead to this machine."""
        port = self.connection.getsockname()[1]
        host = self.headers.get("Host", "") in {f"{HOST}:{port}", f"localhost:{port}"}
        return host and self.headers.get("Sec-Fetch-Site", "none") in {"none", "same-origin"}

    def _route(self, name: str, query: dict[str, str]) -> None:
        try:
            if name == "":
                self._send(200, page(self.run.overview(), connect=True).encode(), "text/html; charset=utf-8")
            elif name == "pass":
                self._json(200, self.run.pass_data(_number(query)))
            elif name == "view":
                self._json(200, self.run.view(_number(query), query.get("fold", "")))
            else:
                self._send(404, b"not found", "text/plain")
        except UnknownNameError as error:
            self._json(404, {"error": str(error)})
        except GradtraceError as error:
            self._json(503, {"error": str(error)})

    def _follow(self) -> None:
        """Send the overview whenever the run has changed."""
        self._head(200, "text/event-stream")
        seen = -1
        while True:
            with self.run.changed:
                if self.run.version == seen:
                    self.run.changed.wait(BEAT)
                version = self.run.version
            text = b": here\n\n"
            if version != seen:
                text = b"data: " + json.dumps(self.run.overview(), allow_nan=False).encode() + b"\n\n"
            self.wfile.write(text)
            self.wfile.flush()
            if not self.run.live and version == self.run.version:
                return
            seen = version

    def _json(self, status: int, data: dict[str, Any]) -> None:
        self._send(status, json.dumps(data, allow_nan=False).encode(), "application/json")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self._head(status, kind, {"Content-Length": str(len(data))})
        self.wfile.write(data)

    def _head(self, status: int, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**GUARDS, "Content-Type": kind, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()


def _number(query: dict[str, str]) -> int:
    text = query.get("pass", "")
    if not text.isascii() or not text.isdecimal():
        raise UnknownNameError(f"unknown pass {text[:20]!r}", "ask for a number")
    return int(text)
