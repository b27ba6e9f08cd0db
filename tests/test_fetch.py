"""Downloading EEGMAT from a server of our own: whole, after a cut, damaged, or not at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from de3dgan.base.errors import UserError
from de3dgan.base.paths import ROOT
from de3dgan.data import fetch
from de3dgan.data.sources import eegmat
from tests.helpers import one_line

NAMES = [f"Subject{number:02d}_{part}.edf" for number in range(36) for part in (1, 2)]
FILES = {name: f"recording {name} ".encode() * 500 for name in [*NAMES, "subject-info.csv"]}


class Server(ThreadingHTTPServer):
    """Serves `FILES` under /eegmat/, and does to those in `faults` what is said there."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.faults: dict[str, str] = {}
        self.url = f"http://127.0.0.1:{self.server_port}/eegmat"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.removeprefix("/eegmat/")
        self.server.asked.append(name)
        fault = self.server.faults.get(name)
        if name not in FILES or fault == "missing":
            self.send_error(404)
            return
        content = FILES[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "cut":
            content = content[:1000]
        elif fault == "wrong":
            content = content[:-1] + b"!"
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch, "_RETRIES", 0)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def sums(tmp_path):
    lines = [f"{hashlib.sha256(content).hexdigest()} {name}\n" for name, content in FILES.items()]
    path = tmp_path / "SHA256SUMS.txt"
    path.write_text("".join([*lines, f"{'0' * 64} RECORDS\n"]))
    return path


def load(server: Server, sums: Path, folder: Path) -> None:
    fetch.main(fetch.Config("eegmat", folder, server.url, sums))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_whole_set_is_loaded_once(server, sums, tmp_path, capsys):
    folder = tmp_path / "some" / "EEGMAT-36"
    load(server, sums, folder)
    assert contents(folder) == FILES
    assert sorted(server.asked) == sorted(FILES)
    printed = capsys.readouterr()
    assert "holds 36 people" in printed.out
    assert f"--source eegmat --data-dir {folder} --out-dir DE_feature/eegmat-36" in printed.out
    assert "73/73" in printed.err
    assert len(eegmat.find(folder)) == 36
    load(server, sums, folder)
    assert len(server.asked) == len(FILES)


def test_it_goes_on_after_a_cut(server, sums, tmp_path):
    """What was complete is kept, and nothing of what was cut."""
    server.faults["Subject01_2.edf"] = "cut"
    with pytest.raises(UserError, match="the connection was cut") as error:
        load(server, sums, tmp_path / "out")
    assert "Cannot load Subject01_2.edf" in one_line(error)
    complete = ["Subject00_1.edf", "Subject00_2.edf", "Subject01_1.edf"]
    assert contents(tmp_path / "out") == {name: FILES[name] for name in complete}
    server.faults.clear()
    server.asked.clear()
    load(server, sums, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert sorted(server.asked) == sorted(set(FILES) - set(complete))


@pytest.mark.parametrize("damaged", [b"", FILES["Subject07_1.edf"][:300], b"something else"])
def test_a_damaged_file_is_loaded_anew(server, sums, tmp_path, damaged):
    load(server, sums, tmp_path / "out")
    server.asked.clear()
    (tmp_path / "out" / "Subject07_1.edf").write_bytes(damaged)
    load(server, sums, tmp_path / "out")
    assert server.asked == ["Subject07_1.edf"]
    assert contents(tmp_path / "out") == FILES


def test_a_wrong_sum_is_refused(server, sums, tmp_path):
    """And the file is not kept."""
    server.faults["Subject00_2.edf"] = "wrong"
    with pytest.raises(UserError, match=r"Subject00_2\.edf .* has not the SHA-256") as error:
        load(server, sums, tmp_path / "out")
    assert "--sums" in one_line(error)
    assert list(contents(tmp_path / "out")) == ["Subject00_1.edf"]


def test_a_failure_is_tried_again(server, sums, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "_RETRIES", 1)
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: server.faults.clear())
    server.faults["Subject00_1.edf"] = "wrong"
    load(server, sums, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


def test_a_file_that_the_server_lacks(server, sums, tmp_path):
    server.faults["Subject00_1.edf"] = "missing"
    with pytest.raises(UserError, match="the server says 404") as error:
        load(server, sums, tmp_path / "out")
    one_line(error)


def test_a_silent_server(server, sums, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "_SECONDS", 0.05)
    monkeypatch.setattr(Handler, "do_GET", lambda self: threading.Event().wait(0.3))
    with pytest.raises(UserError, match=r"no answer within 0\.05 s") as error:
        load(server, sums, tmp_path / "out")
    one_line(error)


def test_a_list_that_names_no_recording(server, sums, tmp_path):
    sums.write_text("nothing\n")
    with pytest.raises(UserError, match=r"names no SubjectNN_1\.edf") as error:
        load(server, sums, tmp_path / "out")
    one_line(error)


def test_the_people_of_the_repository_are_left_alone(server, sums):
    with pytest.raises(UserError, match="choose another --out-dir") as error:
        load(server, sums, ROOT / eegmat.DEFAULT_DIR)
    one_line(error)
    assert server.asked == []


def test_every_recording_has_a_sum():
    listed = dict(line.split()[::-1] for line in fetch.SUMS.read_text().splitlines())
    assert set(listed) == {*FILES, "README.txt", "RECORDS"}
    assert len(set(listed.values())) == len(listed)
    assert {len(digest) for digest in listed.values()} == {64}


def test_no_network_is_one_sentence(tmp_path):
    """The command itself, with the list that comes with it and a port that nobody listens at."""
    out = tmp_path / "out"
    command = "-m de3dgan.data.fetch eegmat --url http://127.0.0.1:1/ --out-dir".split()
    done = subprocess.run(
        [sys.executable, *command, str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    message = done.stderr.splitlines()[-1]
    assert message.startswith("Error: Cannot load Subject00_1.edf")
    assert "no connection" in message
    assert "Traceback" not in done.stderr
    assert contents(out) == {}
