"""Hidden files and folders are read by no tool that walks through a folder."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data_tools.released.layout import list_folder
from data_tools.verb.lists import find_videos, read_clips
from idlora_pl.benchmark.items import Item
from idlora_pl.benchmark.manifest import write_manifest
from idlora_pl.evaluation.clips import clip_sources
from idlora_pl.files import files_below
from idlora_pl.media.writing import write_audio

HIDDEN = [
    ".trash/a", ".git/x/a", "s/.a", "s/._a", "@eaDir/a", "s/@eaDir/a", "__MACOSX/s/._a", "#recycle/a", "$RECYCLE.BIN/a",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One visible recording, s/a.wav and s/a.mp4, and many that are hidden."""
    for name in ("s/a", *HIDDEN):
        for ending in (".wav", ".mp4"):
            path = tmp_path / "raw" / f"{name}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(torch.rand(1, 800), path, 16000)
    return tmp_path / "raw"


def test_only_what_is_meant_to_be_seen_is_found(folder):
    assert files_below(folder, {".mp4"}) == [folder / "s/a.mp4"]
    assert files_below(folder / "s", deep=False) == [folder / "s/a.mp4", folder / "s/a.wav"]
    assert find_videos(folder) == [folder / "s/a.mp4"]
    assert [row["source"] for row in read_clips(folder)[0]] == ["s/a.mp4", "s/a.wav"]


def test_a_hidden_folder_that_is_named_is_read(folder):
    assert files_below(folder / ".git", {".mp4"}) == [folder / ".git/x/a.mp4"]
    assert find_videos(folder / ".trash" / "a.mp4") == [folder / ".trash/a.mp4"]


def test_nothing_but_hidden_videos_is_no_video(folder):
    shutil.rmtree(folder / "s")
    with pytest.raises(ValueError, match=r"holds no video .*; hidden files and folders are left out\); give"):
        find_videos(folder)


def test_clips_beside_hidden_ones_are_scored_and_listed(tmp_path, folder):
    assert clip_sources([Item("a")], folder / "s")["a"].path.name == "a.mp4"
    shutil.copytree(folder / "s", tmp_path / "bench/one")
    for name in ("reference.wav", "._reference.mp4", "._target.mp4", "ours.mp4", "._ours.mp4"):
        shutil.copy(folder / "s/a.wav", tmp_path / "bench/one" / name)
    (tmp_path / "bench/captions.json").write_text('[{"id": "one", "speech": "a", "visual": "b", "sounds": "c"}]')
    (item,) = write_manifest(tmp_path / "bench", tmp_path / "bench/m.json")
    assert item.reference.name == "reference.wav"
    assert item.target is None


def test_hidden_files_of_released_data_are_no_items(tmp_path, save_released_item):
    save_released_item(tmp_path)
    (tmp_path / "latents/._clip.pt").write_bytes(b"mac")
    (tmp_path / "latents/@eaDir").mkdir()
    (tmp_path / "latents/@eaDir/clip.pt").write_bytes(b"nas")
    assert list(list_folder(tmp_path, None).files) == ["clip"]


@pytest.fixture
def save_released_item() -> Callable[[Path], None]:
    """Write the four files of one item in the layout of the released data."""

    def save(root: Path) -> None:
        for name in ("latents", "audio_latents", "reference_audio_latents", "conditions"):
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / "clip.pt").write_bytes(b"x")

    return save
