# SPDX-License-Identifier: Apache-2.0
"""Downloads from a server on this machine: no test touches the network."""

import dataclasses
import hashlib
import http.server
import threading

import pytest

from mixboost_jax import data
from mixboost_jax.data import cifar, download, prepare

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
  """Serves one file, in a way that a test chooses, and remembers what was asked."""

  def __init__(self):
    super().__init__(("127.0.0.1", 0), Handler)
    self.content, self.ranges, self.stop_after, self.resumes = CONTENT, [], None, True

  @property
  def url(self):
    return f"http://127.0.0.1:{self.server_port}/archive.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    server = self.server
    asked = self.headers.get("Range")
    server.ranges.append(asked)
    if self.path == "/moved.tar.gz":
      self.send_response(302)
      self.send_header("Location", "http://example.invalid/a")
      self.end_headers()
      return
    if self.path != "/archive.tar.gz":
      self.send_error(404)
      return
    start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.resumes else 0
    if start >= len(server.content):
      self.send_error(416)
      return
    body = server.content[start:]
    self.send_response(206 if start else 200)
    self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    self.wfile.write(body[: server.stop_after])

  def log_message(self, format, *args):
    pass


@pytest.fixture
def server(monkeypatch):
  for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
    monkeypatch.delenv(name, raising=False)
  running = Server()
  thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
  thread.start()
  yield running
  running.shutdown()
  thread.join()
  running.server_close()


def test_fetches_once_and_reports_progress(server, tmp_path, tree):
  target = tmp_path / "new" / "a.tar.gz"
  seen = []
  for _ in range(2):
    assert (
      download.fetch(
        server.url, target, md5=MD5, progress=lambda done, total: seen.append((done, total))
      )
      == target
    )
  assert target.read_bytes() == CONTENT
  assert seen[-1] == (len(CONTENT), len(CONTENT))
  assert server.ranges == [None], "the second call found the file"
  assert tree(tmp_path) == ["new", "new/a.tar.gz"]


@pytest.mark.parametrize("resumes", [True, False])
def test_goes_on_after_an_interruption(server, tmp_path, resumes):
  target = tmp_path / "a.tar.gz"
  server.stop_after, server.resumes = 300_000, resumes
  with pytest.raises(ValueError, match=r"run again to go on"):
    download.fetch(server.url, target, md5=MD5)
  assert not target.exists()
  kept = (tmp_path / "a.tar.gz.part").stat().st_size
  assert 0 < kept <= 300_000
  server.stop_after = None
  download.fetch(server.url, target, md5=MD5)
  assert server.ranges == [None, f"bytes={kept}-"]
  assert target.read_bytes() == CONTENT
  assert not (tmp_path / "a.tar.gz.part").exists()


def test_a_complete_part_needs_no_byte_more(server, tmp_path):
  (tmp_path / "a.part").write_bytes(CONTENT)
  download.fetch(server.url, tmp_path / "a", md5=MD5)
  assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server, tmp_path, tree):
  with pytest.raises(ValueError, match=f"MD5 {MD5}, expected 0000"):
    download.fetch(server.url, tmp_path / "a", md5="0" * 32)
  assert tree(tmp_path) == []


def test_a_wrong_file_in_place_is_replaced(server, tmp_path):
  (tmp_path / "a").write_bytes(b"old")
  download.fetch(server.url, tmp_path / "a", md5=MD5)
  assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda url: url + "x", "the server answers 404"),
    (lambda url: "http://127.0.0.1:9/a", "cannot be downloaded .*fetch it by hand"),
    (lambda url: "file:///etc/hostname", "starts with https://"),
    (lambda url: "http://example.org/archive.tar.gz", "starts with https://.*by hand"),
    (lambda url: "http://127.0.0.1.example.org/a", "starts with https://.*by hand"),
    (lambda url: "http://[::1/a", "starts with https://.*by hand"),
    (lambda url: url.replace("archive", "moved"), "'http://example.invalid/.*starts with https://"),
  ],
)
def test_unreachable_addresses(server, tmp_path, tree, change, message):
  with pytest.raises(ValueError, match=message):
    download.fetch(change(server.url), tmp_path / "a", md5=MD5)
  assert tree(tmp_path) == []


def test_a_folder_that_cannot_be_made(server, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match="cannot be written"):
    download.fetch(server.url, tmp_path / "file" / "a", md5=MD5)


@pytest.fixture
def official(server, write_cifar, tmp_path_factory, monkeypatch):
  """Makes a tiny archive on the server the official one."""
  archive = write_cifar(root=tmp_path_factory.mktemp("served"), packed=True)
  server.content = archive.read_bytes()
  layout = dataclasses.replace(
    cifar.LAYOUTS["cifar10"], url=server.url, md5=hashlib.md5(server.content).hexdigest()
  )
  monkeypatch.setitem(cifar.LAYOUTS, "cifar10", layout)
  return layout


def test_load_downloads_only_when_asked(settings, server, official, tmp_path, tree):
  place = tmp_path / "data"
  with pytest.raises(data.MissingDataError):
    data.load(settings(name="cifar10", dir=place))
  assert server.ranges == []
  for _ in range(2):
    dataset = data.load(settings(name="cifar10", dir=place, download=True))
    assert (len(dataset.train), len(dataset.test)) == (20, 4)
  assert server.ranges == [None]
  assert tree(place) == [official.archive]


def test_prepare_downloads(settings, server, official, tmp_path, capfd):
  arguments = ["cifar10", "--download", f"--out={tmp_path}", "--format=npy"]
  assert prepare.main(arguments) == 0
  assert "official CIFAR-10, MD5 verified" in capfd.readouterr().out
  assert len(data.load(settings(name="cifar10", dir=tmp_path / "cifar10")).train) == 20


def test_prepare_from_a_mirror_checks_as_strictly(server, official, tmp_path, capfd, tree):
  server.content = CONTENT
  arguments = ["cifar10", "--download", f"--out={tmp_path}", f"--url={server.url}"]
  assert prepare.main(arguments) == 1
  assert "not the official archive" in capfd.readouterr().err
  assert tree(tmp_path) == []
