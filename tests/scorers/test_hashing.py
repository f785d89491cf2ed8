"""Hashes of big files are remembered by path, size and time of change."""

import json
import os
from hashlib import sha256

from idlora_pl import files as hashing


def test_a_big_file_is_hashed_once(tmp_path, monkeypatch):
    file, cache = tmp_path / "net.bin", tmp_path / "cache/sha256.json"
    file.write_bytes(b"abc" * 100)
    right = sha256(file.read_bytes()).hexdigest()
    assert hashing.sha256_of(file, cache) == right
    assert not cache.exists()
    monkeypatch.setattr(hashing, "SMALL_BYTES", 10)
    assert hashing.sha256_of(file, cache) == right
    (key,) = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: "remembered"}))
    assert hashing.sha256_of(file, cache) == "remembered"
    os.utime(file, ns=(1, 1))
    assert hashing.sha256_of(file, cache) == right
    cache.write_text("{ damaged")
    assert hashing.sha256_of(file, cache) == right
