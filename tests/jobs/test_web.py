"""Videos on web servers: found, missing, and out of reach."""

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gazepack.errors import SourceError, VideoError
from gazepack.jobs.clips import Clip, clips_of_segment
from gazepack.jobs.segment import Segment
from gazepack.jobs.settings import PackSettings
from gazepack.jobs.sources import list_sources
from gazepack.video import write_video
from gazepack.video.scenes import objects

Answer = Callable[[str], tuple[HTTPStatus, bytes]]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short video."""
    path = tmp_path_factory.mktemp("web") / "a.mp4"
    write_video(path, objects(64, 48, 5, 0), fps=10)
    return path


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Run a web server that answers a path as a function says; one that knows no ranges, as many do not."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def clips(uri: str) -> list[Clip]:
    """The clips of one file."""
    segment = Segment(id="a", key="a", uri=uri, bytes=0)
    items = clips_of_segment(0, segment, PackSettings.parse({"selector": {"name": "greedy"}}))
    return [item for item in items if isinstance(item, Clip)]


def test_a_video_on_the_web_is_that_of_the_disk(video: Path, serve: Callable[..., str]) -> None:
    """A server that answers with the whole file is as good as one that knows ranges."""
    uri = serve(lambda _: (HTTPStatus.OK, video.read_bytes()))
    for there, here in zip(clips(f"{uri}/a.mp4"), clips(str(video)), strict=True):
        assert np.array_equal(there.frames_THW3, here.frames_THW3)


def test_a_server_that_is_overloaded_is_asked_again(video: Path, serve: Callable[..., str]) -> None:
    """503 and 429 pass; fsspec's client calls them missing files."""
    answers = iter([HTTPStatus.SERVICE_UNAVAILABLE] * 2 + [HTTPStatus.TOO_MANY_REQUESTS] * 2)
    uri = serve(lambda _: (next(answers, HTTPStatus.OK), video.read_bytes()))
    assert len(clips(f"{uri}/a.mp4")) == 1
    assert next(answers, None) is None


def test_a_missing_video_is_called_missing(serve: Callable[..., str]) -> None:
    """404 is no file, once and for all, and no matter of whether it plays."""
    asked: list[str] = []
    uri = serve(lambda path: (asked.append(path), (HTTPStatus.NOT_FOUND, b""))[1])
    with pytest.raises(VideoError, match=r"cannot be opened \(no such file\); check the address"):
        clips(f"{uri}/a.mp4")
    assert len(asked) == 2  # HEAD, then GET


def test_a_server_that_is_away_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listening is no missing file either."""
    monkeypatch.setenv("GAZEPACK_RETRY_SECONDS", "0")
    with pytest.raises(VideoError, match=r"Cannot connect to host.*; check the address"):
        clips("http://127.0.0.1:9/a.mp4")


def test_a_web_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing does not wait for ever on a server that takes the connection and then is silent."""
    monkeypatch.setenv("GAZEPACK_RETRY_SECONDS", "0.1")
    monkeypatch.setattr("gazepack.formats.remote.LEAST_SILENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/a.mp4"
        with pytest.raises(SourceError, match="holds no video, or does not answer"):
            list_sources([address])
