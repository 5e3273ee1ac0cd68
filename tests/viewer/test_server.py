"""The server: for its own page only, on this machine only."""

import http.client
import json
import socket
from urllib.parse import urlsplit

import pytest

from gradtrace.errors import OutputError
from gradtrace.viewer.run import Run
from gradtrace.viewer.server import Server
from tests.builders import partials, trace
from tests.viewer.networks import partials_run


@pytest.fixture(scope="module")
def served():
    run = Run()
    run.grow(partials_run(3))
    server = Server(run)
    yield urlsplit(server.url)
    server.close()


def ask(served, path, method="GET", **headers):
    """Return status, body and headers of an answer; a path without slash is below the token."""
    connection = http.client.HTTPConnection(served.hostname, served.port, timeout=10)
    connection.request(method, path if path.startswith("/") else served.path + path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer.headers


def test_the_page_its_passes_and_views_are_served(served):
    status, body, headers = ask(served, "")
    assert status == 200
    assert b'<div id="app">' in body
    assert headers["Cache-Control"] == "no-store"
    assert [node["id"] for node in json.loads(ask(served, "pass?pass=2")[1])["nodes"]][:2] == ["n0", "n1"]
    assert len(json.loads(ask(served, "view?pass=1&fold=")[1])["boxes"]) == len(partials().nodes)


@pytest.mark.parametrize("path", ["/", "/x/", "/favicon.ico", "//", "/../", "/%2e%2e/etc/passwd"])
def test_nothing_is_told_without_the_token(served, path):
    assert ask(served, path)[:2] == (404, b"not found")


@pytest.mark.parametrize("name", ["../", "..%2f", "assets/main.js", "views.py", "pass/", "%00", "index.html"])
def test_there_are_no_files_to_ask_for(served, name):
    assert ask(served, name)[0] == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Host": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_is_refused(served, headers):
    assert ask(served, "", **headers)[:2] == (403, b"forbidden")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent(served, method):
    assert ask(served, "", method)[0] == 501


@pytest.mark.parametrize("query", ["pass=", "pass=99", "pass=-1", "pass=1e3", "pass=%C2%B2", "pass=1&fold=nothing"])
def test_what_is_not_there_is_an_error_in_words(served, query):
    status, body, _ = ask(served, f"view?{query}")
    assert status == 404
    assert json.loads(body)["error"]


def test_a_long_address_is_refused(served):
    assert ask(served, "view?pass=1&fold=" + "x" * 5000)[0] == 403


def test_only_this_machine_can_ask(served):
    with socket.socket() as probe:
        probe.settimeout(5)
        name = socket.gethostbyname(socket.gethostname())
        if name.startswith("127."):
            pytest.skip("this machine has no other address")
        assert probe.connect_ex((name, served.port))


def test_a_run_that_goes_on_is_told_of():
    run = Run(live=True)
    server = Server(run)
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=10)
    connection.request("GET", f"{place.path}events")
    stream = connection.getresponse()
    first = json.loads(stream.readline().removeprefix(b"data: "))
    assert (first["live"], first["passes"]) == (True, [])
    stream.readline()
    run.grow(trace())
    told = json.loads(stream.readline().removeprefix(b"data: "))
    assert [row["index"] for row in told["passes"]] == [1]
    stream.readline()
    run.end("ended")
    assert not json.loads(stream.readline().removeprefix(b"data: "))["live"]
    connection.close()
    server.close()


def test_a_page_that_is_closed_harms_nothing():
    run = Run(live=True)
    server = Server(run)
    place = urlsplit(server.url)
    for _ in range(3):
        with socket.create_connection((place.hostname, place.port)) as closed:
            closed.sendall(f"GET {place.path}events HTTP/1.0\r\nHost: {place.netloc}\r\n\r\n".encode())
            closed.recv(10)
    run.grow(trace())
    run.grow(partials_run(3))
    assert ask(place, "")[0] == 200
    server.close()


def test_a_port_that_is_taken_is_an_error_in_words(served):
    with pytest.raises(OutputError, match="can't be used"):
        Server(Run(), served.port)


def test_of_many_passes_every_second_is_forgotten(monkeypatch):
    monkeypatch.setattr("gradtrace.viewer.run.MOST_NODES", 40)
    run = Run()
    run.grow(partials_run(12))
    kept = [row["index"] for row in run.overview()["passes"]]
    assert kept[0] == 1
    assert kept[-1] == 12
    assert len(kept) < 12
