"""Shards come from URLs and commands as they come from disk, and a broken connection is named or mended."""

import http.server
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from idlora_pl.data.addresses import opened, without_secrets
from idlora_pl.data.datamodule import PairedClips
from idlora_pl.data.samples import ShardError
from idlora_pl.data.stream import open_shards

ROOT = Path(__file__).parents[2]


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder on the loopback, and breaks connections when asked to.

    Attributes:
        folder: what it serves.
        breaks: by name of a file, how many of its next answers end early, and after how many bytes.
        asked: paths asked for so far.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.breaks, self.asked = folder, {}, []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET with a file."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = self.server.folder / self.path.partition("?")[0].lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        times, after = self.server.breaks.get(path.name, (0, 0))
        if times:
            self.server.breaks[path.name] = (times - 1, after)
            content = content[:after]
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(shard_folder) -> Iterator[Server]:
    with Server(shard_folder) as found:
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        found.shutdown()


def batches(shards: str, **settings) -> list[tuple[list[str], torch.Tensor]]:
    data = PairedClips(shards, **{"batch_size": 4, "num_workers": 0, "shuffle_buffer": 5} | settings)
    return [([meta["key"] for meta in batch.meta], batch.target_video) for batch in data.train_dataloader()]


def same(some: list, others: list) -> bool:
    return len(some) == len(others) == 5 and all(
        one[0] == other[0] and torch.equal(one[1], other[1]) for one, other in zip(some, others, strict=True)
    )


@pytest.mark.parametrize("n_workers", [0, 2])
def test_http_gives_the_batches_that_the_disk_gives(server, shard_folder, n_workers):
    expected = batches(str(shard_folder), num_workers=n_workers)
    assert same(batches(server.url, num_workers=n_workers), expected)
    assert same(batches(f"{server.url}/pairs-{{000000..000003}}.tar", num_workers=n_workers), expected)
    assert same(batches(f"{server.url}/pairs-{{000000..000003}}.tar?token=abc", num_workers=n_workers), expected)
    assert "/index.json?token=abc" in server.asked


def test_a_command_gives_the_batches_that_the_disk_gives(shard_folder):
    expected = batches(str(shard_folder))
    assert same(batches(f"pipe:cat {shard_folder}/pairs-{{000000..000003}}.tar"), expected)
    assert same(batches(f"pipe:cat < {shard_folder}/pairs-{{000000..000003}}.tar | cat -"), expected)


def test_a_part_of_a_tar_is_read_no_further_than_needed(server):
    found = open_shards(server.url)
    assert [sample.key for _, sample in found.read([(1, 0), (1, 2)])] == ["pair0006", "pair0008"]
    assert [sample.key for _, sample in found.read([(0, 5)])] == ["pair0005"]


def test_a_connection_that_breaks_once_is_opened_again(server, shard_folder):
    expected = batches(str(shard_folder))
    for name, after in (("pairs-000001.tar", 9000), ("pairs-000002.tar", 100), ("index.json", 50)):
        server.breaks[name] = (1, after)
    assert same(batches(server.url, retries=1), expected)
    assert server.asked.count("/index.json") == 2


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_connection_that_keeps_breaking_is_named_with_shard_and_clip(server, n_workers):
    server.breaks["pairs-000001.tar"] = (99, 9000)
    message = r"^pairs-000001.tar: clip pair00\d\d cannot be read \(curl ended with status 18, the connection broke\)"
    with pytest.raises(ShardError, match=message):
        batches(server.url, num_workers=n_workers, retries=1)
    assert server.asked.count("/pairs-000001.tar") >= 2


def test_clips_behind_a_broken_connection_are_replaced_within_the_limit(server, shard_folder):
    whole = sum((keys for keys, _ in batches(str(shard_folder))), [])
    server.breaks["pairs-000001.tar"] = (99, 9000)
    found = sum((keys for keys, _ in batches(server.url, retries=0, on_fault="skip")), [])
    lost = {key for key, other in zip(whole, found, strict=True) if key != other}
    assert 1 <= len(lost) <= 4
    assert lost <= {f"pair{k:04d}" for k in range(6, 12)}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("{url}/nothing", r"/nothing/index.json cannot be read \(curl ended with status 22, the server answered"),
        ("http://127.0.0.1:1/x", r"^http://127.0.0.1:1/x/index.json .*status 7, the host refuses the connection"),
        ("pipe:false {folder}/pairs-{{000000..000001}}.tar", r"index.json cannot be read \(false ended with status 1"),
        ("pipe:no-such-program-here /d/a.tar", r"no-such-program-here ended with status 127"),
        ("pipe:cat /d/a", r"pipe:cat /d/a names no tar; give 'pipe:"),
        ("gopher://host/d", r"^gopher://host/d/index.json cannot be read \(.*no gopen handler defined"),
        ("pipe:cat /dev/null /d.tar", r"is not the index of a shard set|cannot be read"),
        ("{url}/pairs-{{000007..000008}}.tar", r"pairs-000007.tar is not in index.json"),
    ],
)
def test_an_address_of_nothing_is_refused_in_one_sentence(server, shard_folder, address, message):
    with pytest.raises(ShardError, match=message) as caught:
        open_shards(address.format(url=server.url, folder=shard_folder))
    assert "\n" not in str(caught.value)


def test_no_message_tells_a_password_or_a_token(server):
    assert without_secrets("https://me:secret@host/d/a.tar?X-Amz-Signature=abc") == "https://host/d/a.tar"
    with pytest.raises(ShardError) as caught:
        open_shards(server.url.replace("//", "//me:secret@") + "/nothing/a.tar?sig=hidden")
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


AWS = """
import shutil, sys
assert sys.argv[1:3] == ["s3", "cp"] and sys.argv[4] == "-" and len(sys.argv) == 5, sys.argv
assert sys.argv[3].startswith("s3://bucket/my set/"), sys.argv
try:
    with open({folder!r} + "/" + sys.argv[3].rpartition("/")[2], "rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
except FileNotFoundError:
    sys.exit("fatal error: An error occurred (404)")
"""


def test_s3_runs_the_aws_command_with_the_url_as_one_argument(shard_folder, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "aws", AWS.format(folder=str(shard_folder)))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert same(batches("s3://bucket/my set"), batches(str(shard_folder)))
    (shard_folder / "pairs-000003.tar").unlink()
    with pytest.raises(
        ShardError, match=r"^pairs-000003.tar: clip pair00\d\d cannot be read \(aws ended with status 1"
    ):
        batches("s3://bucket/my set", retries=0)


HUB = """
import sys
from idlora_pl.data.datamodule import PairedClips
data = PairedClips("hf://datasets/me/voices/shards", batch_size=4, num_workers=0, shuffle_buffer=0)
print([meta["key"] for batch in data.train_dataloader() for meta in batch.meta])
"""


class Hub(Handler):
    """As much of the hub's interface as its client asks for to resolve a path, and the files."""

    def do_GET(self) -> None:
        if self.path.startswith("/api/datasets/me/voices"):
            answer = json.dumps({"id": "me/voices", "sha": "0" * 40, "siblings": []}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
            return
        assert self.headers["Authorization"] == "Bearer hf_test"
        assert self.path.startswith("/datasets/me/voices/resolve/main/shards/"), self.path
        self.path = self.path.rpartition("/")[2]
        super().do_GET()


@pytest.mark.slow
def test_hf_asks_the_hub_that_its_client_is_told_of(server, tmp_path):
    server.RequestHandlerClass = Hub
    environment = {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_test", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", HUB], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str([f"pair{k:04d}" for k in range(20)])


def test_a_stream_only_goes_forward(shard_folder):
    with opened(f"pipe:cat {shard_folder}/pairs-000000.tar") as stream:
        assert stream.seek(700) == stream.tell() == 700
        content = bytearray(100)
        assert stream.readinto(memoryview(content)) == 100
        assert bytes(content) == (shard_folder / "pairs-000000.tar").read_bytes()[700:800]
        assert stream.seek(1 << 40) < 1 << 40


NAMES = [
    "a{b}",
    "a{1,2}",
    "a{0..3}",
    "a[b]",
    "a*",
    "a?b",
    "a b",
    "s.tar",
    "a{b",
    "a:b",
    "https:",
    "-a",
    "ä",
    "a#b",
    "%41",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_exists_is_a_folder_whatever_its_name(shard_folder, tmp_path, monkeypatch, name):
    expected = batches(str(shard_folder))
    monkeypatch.chdir(tmp_path)
    shard_folder.rename(tmp_path / name)
    assert same(batches(name), expected)
    assert same(batches(f"{tmp_path / name}/"), expected)
    assert same(batches(f"{tmp_path / name}/pairs-{{000000..000003}}.tar"), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_does_not_exist_is_named(tmp_path, name):
    with pytest.raises(ShardError, match=r"does not exist|missing|Unbalanced|is empty"):
        open_shards(str(tmp_path / name))


def test_a_pattern_may_lie_in_a_folder_whose_name_looks_like_one(shard_folder, tmp_path):
    expected = batches(str(shard_folder))
    shard_folder.rename(tmp_path / "a{1,2}")
    assert same(batches(f"{tmp_path}/a{{1,2}}/pairs-{{000000..000003}}.tar"), expected)
    (tmp_path / "a{1,2}").rename(tmp_path / "a1")
    assert same(batches(f"{tmp_path}/a{{1..1}}/pairs-{{000000..000003}}.tar"), expected)
