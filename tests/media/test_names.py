"""Files are read and written under whatever name they have, and errors say it."""

import os
import sys
from pathlib import Path

import av
import pytest
import torch

from idlora_pl.media.clip import Clip, MediaError
from idlora_pl.media.reading import probe, read_audio, read_clip, read_image, read_metadata, read_recording
from idlora_pl.media.writing import write_audio, write_clip, write_image
from tests.media.conftest import UPRIGHT, corners_of, four_corners, tone

NAMES = [
    "12:30", "pipe:", "pipe:0", "concat:a|b", "subfile,,start,0,end,9,,:a", "file:a", "-i", "-", "a%03d", "%d%%",
    "a*?[b]", "a\nb", "two words", "é", "http:", "data:a,b", "a.b.c", "a'b\"c", "{a}", "~a", "#a", "crypto:a",
    os.fsdecode(b"bad\xff"),
]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("relative", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_file_of_any_name_is_written_and_read(tmp_path, monkeypatch, name, relative):
    monkeypatch.chdir(tmp_path)
    folder = Path() if relative else tmp_path
    picture = torch.from_numpy(four_corners()).permute(2, 0, 1)
    write_image(picture, folder / f"{name}.png")
    write_audio(torch.from_numpy(tone(16000, 0.2)), folder / f"{name}.wav", 16000)
    clip = Clip(picture.expand(5, -1, -1, -1), torch.from_numpy(tone(16000, 0.2)), 25.0, 16000)
    write_clip(clip, folder / f"{name}.mp4", metadata={"seed": "7"})
    assert torch.equal(read_image(folder / f"{name}.png"), picture)
    assert read_audio(folder / f"{name}.wav")[0].shape == (1, 3200)
    assert corners_of(read_clip(folder / f"{name}.mp4").frames[0]) == UPRIGHT
    assert read_recording(folder / f"{name}.mp4").waveform.shape == (1, 3200)
    assert probe(folder / f"{name}.mp4").n_frames == 5
    assert read_metadata(folder / f"{name}.mp4")["seed"] == "7"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name", ["12:30.png", "pipe:.png", "a%03d.png", os.fsdecode(b"bad\xff.png")])
def test_what_is_wrong_with_a_file_is_said_with_its_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shown = os.fsencode(name).decode("utf-8", "backslashreplace")
    with pytest.raises(MediaError) as missing:
        read_image(name)
    assert str(missing.value) == f"{shown} does not exist; pass the path of one media file"
    Path(name).write_bytes(b"nothing that anybody could decode" * 9)
    with pytest.raises(MediaError) as broken:
        read_image(name)
    assert str(broken.value).startswith(f"{shown} cannot be decoded (")
    with pytest.raises(MediaError) as silent:
        write_audio(torch.full((1, 9), torch.nan), name, 16000)
    assert str(silent.value).startswith(shown)


def test_a_pattern_beside_its_files_is_not_taken_for_them(tmp_path):
    for k, colour in enumerate((10, 200)):
        write_image(torch.full((3, 32, 32), colour, dtype=torch.uint8), tmp_path / f"a{k:03d}.png")
    write_image(torch.full((3, 32, 32), 99, dtype=torch.uint8), tmp_path / "a%03d.png")
    assert read_image(tmp_path / "a%03d.png").unique().tolist() == [99]


def test_an_ending_that_says_something_else_does_not_matter(tmp_path):
    write_audio(torch.from_numpy(tone(16000, 0.2)), tmp_path / "a.mp3", 16000)
    assert read_audio(tmp_path / "a.mp3")[0].shape == (1, 3200)


@pytest.mark.parametrize("description", ["{an aside} of the camera", "[1]", "7", "{"])
def test_a_description_of_another_program_is_kept(tmp_path, description):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        container.metadata["description"] = description
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(16000, 0.2), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert read_metadata(tmp_path / "a.mp4")["description"] == description
