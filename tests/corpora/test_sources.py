"""Downloads of corpora, from a server on this computer."""

import hashlib
import io
import re
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vcae.cli.main import main
from vcae.corpora.layouts import READERS
from vcae.corpora.sources import SOURCES, Archive, Source, download, plan_download
from vcae.corpora.utterance import CorpusError
from vcae.files import OutputError

pytest.importorskip("lhotse", reason="needs the extra corpora")
NAMED = {
    *("vctk", "librispeech", "libritts", "libritts-r", "ljspeech", "cmu-arctic", "vcc2016", "vcc2018"),
    *("speechocean762", "aishell3", "commonvoice"),
}


def a_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("wav/a.wav", b"a" * 20_000)
    return file.getvalue()


def a_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        member = tarfile.TarInfo("wav/b.wav")
        member.size = 20_000
        tar.addfile(member, io.BytesIO(bytes(range(250)) * 80))
    return file.getvalue()


FILES = {"one.zip": a_zip(), "two.tar.gz": a_tar()}


class Server(ThreadingHTTPServer):
    """Serves FILES. asked: the Range headers it was sent. ranges: whether it honours them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.ranges = dict(FILES), list[str](), True


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        start = 0
        if self.server.ranges and (found := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            start = int(found[1])
            self.server.asked.append(found[0])
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    """A server with the two archives of the corpus "toy"."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        address = f"http://127.0.0.1:{running.server_port}"
        parts = {
            "first": Archive(f"{address}/one.zip", hashlib.sha256(FILES["one.zip"]).hexdigest()),
            "second": Archive(f"{address}/two.tar.gz"),
        }
        monkeypatch.setitem(SOURCES, "toy", Source("Toy", address, "CC0", 2.0, parts))
        yield running
        running.shutdown()
        thread.join()


def test_every_named_corpus_has_a_reader_a_source_and_a_licence():
    assert set(SOURCES) == NAMED
    assert set(SOURCES) <= set(READERS)
    for source in SOURCES.values():
        assert source.page.startswith("http")
        assert source.licence
        for archive in source.parts.values():
            assert archive.sha256 is None or re.fullmatch("[0-9a-f]{64}", archive.sha256)


def test_checksums_are_those_of_torchaudio():
    from torchaudio.datasets import cmuarctic, librispeech, libritts, vctk

    published = [module._CHECKSUMS for module in (cmuarctic, librispeech, libritts, vctk)]
    by_name = {
        (url.split("/")[-2], url.split("/")[-1]): sha for table in published for url, sha in table.items()
    }
    ours = {
        (archive.url.split("/")[-2], archive.name): archive.sha256
        for name in ("cmu-arctic", "librispeech", "libritts", "vctk")
        for archive in SOURCES[name].parts.values()
    }
    assert ours == by_name


def test_a_corpus_is_downloaded_verified_and_unpacked(server, tmp_path):
    plan = plan_download("toy", tmp_path / "toy")
    assert plan.sizes == [len(content) for content in FILES.values()]
    assert plan.needed == 2 * sum(plan.sizes) + max(plan.sizes)
    download(plan)
    assert sorted(path.name for path in (tmp_path / "toy" / "wav").iterdir()) == ["a.wav", "b.wav"]
    assert not list((tmp_path / "toy").glob("[!.]*.zip"))
    assert plan_download("toy", tmp_path / "toy").archives == []  # nothing is done twice


def test_a_part_can_be_downloaded_by_itself(server, tmp_path):
    download(plan_download("toy", tmp_path, ["second"]))
    assert [path.name for path in (tmp_path / "wav").iterdir()] == ["b.wav"]
    with pytest.raises(CorpusError, match="has no part third; there are first, second"):
        plan_download("toy", tmp_path, ["third"])


@pytest.mark.parametrize("ranges", [True, False], ids=["resumes", "cannot resume"])
def test_an_interrupted_download_continues(server, tmp_path, ranges):
    server.ranges = ranges
    whole = FILES["one.zip"]
    (tmp_path / "one.zip").write_bytes(whole[:5000])
    plan = plan_download("toy", tmp_path, ["first"])
    assert plan.needed == 3 * len(whole) - 5000
    download(plan)
    assert (tmp_path / "wav/a.wav").stat().st_size == 20_000
    assert server.asked == (["bytes=5000-"] if ranges else [])


def test_a_connection_that_ends_early_is_told_and_resumes(server, tmp_path):
    plan = plan_download("toy", tmp_path, ["second"])
    server.files["two.tar.gz"] = FILES["two.tar.gz"][:100]
    with pytest.raises(CorpusError, match=r"ended after 100 of \d+ bytes; .* it resumes"):
        download(plan)
    server.files["two.tar.gz"] = FILES["two.tar.gz"]
    download(plan)
    assert server.asked[-1] == "bytes=100-"
    assert (tmp_path / "wav/b.wav").is_file()


def test_a_complete_archive_is_not_downloaded_again(server, tmp_path):
    (tmp_path / "one.zip").write_bytes(FILES["one.zip"])
    download(plan_download("toy", tmp_path, ["first"]))
    assert (tmp_path / "wav/a.wav").is_file()


def test_another_file_than_the_published_one_is_refused(server, tmp_path):
    server.files["one.zip"] = b"x" * 3000
    with pytest.raises(CorpusError, match="SHA-256 differs"):
        download(plan_download("toy", tmp_path, ["first"]))
    assert not (tmp_path / "one.zip").exists()


def test_a_damaged_archive_without_a_checksum_is_refused(server, tmp_path):
    content = bytearray(FILES["two.tar.gz"])
    content[len(content) // 2] ^= 0xFF
    server.files["two.tar.gz"] = bytes(content)
    with pytest.raises(CorpusError, match=r"two.tar.gz: is damaged"):
        download(plan_download("toy", tmp_path, ["second"]))
    assert not (tmp_path / "two.tar.gz").exists()


def test_an_archive_cannot_write_outside_of_its_folder(server, tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../outside.wav"))
    server.files["two.tar.gz"] = file.getvalue()
    with pytest.raises(CorpusError, match="is damaged"):
        download(plan_download("toy", tmp_path / "toy", ["second"]))
    assert not (tmp_path / "outside.wav").exists()


def test_a_full_disk_is_told_before_the_download(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(OutputError, match=r"toy needs 0.0 GB, and 0.0 GB are free; make room"):
        plan_download("toy", tmp_path)


def test_the_command_says_first_how_much_disk_is_needed(server, tmp_path, capsys):
    main(["download", "toy", "--out", str(tmp_path / "toy"), "--dry-run"])
    told = capsys.readouterr().err
    assert "licence: CC0" in told
    assert re.search(r"2 archives, 0.0 GB to download; needs up to 0.0 GB .* GB are free", told)
    assert not (tmp_path / "toy").exists()
    main(["download", "toy", "--out", str(tmp_path / "toy")])
    assert (tmp_path / "toy/wav/a.wav").is_file()
    main(["download", "toy", "--out", str(tmp_path / "toy")])
    assert "is there already" in capsys.readouterr().err


def test_the_command_lists_corpora_with_source_and_licence(capsys):
    main(["download"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(SOURCES)
    assert any(line.startswith("vctk\t") and "CC BY 4.0" in line and "10283/3443" in line for line in lines)


def test_what_cannot_be_downloaded_is_told(server, tmp_path):
    server.files.clear()
    with pytest.raises(CorpusError, match=r"one.zip: cannot be reached"):
        plan_download("toy", tmp_path)
    with pytest.raises(CorpusError, match=r"accept its terms at https://commonvoice"):
        plan_download("commonvoice", tmp_path)
    with pytest.raises(CorpusError, match="timit: cannot be downloaded"):
        plan_download("timit", tmp_path)
    (tmp_path / "file").touch()
    server.files |= FILES
    with pytest.raises(OutputError, match="cannot be created"):
        download(plan_download("toy", tmp_path / "file"))
