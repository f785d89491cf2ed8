"""What a file is made of is told without reading it, and the middle of a film is its middle."""

import pytest
import torch

from idlora_pl.media.clip import Clip, MediaError
from idlora_pl.media.reading import Codecs, codecs_of, middle_frame, read_clip
from idlora_pl.media.writing import write_audio, write_clip


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """31 frames that get brighter, with sound."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    frames = (torch.arange(31)[:, None, None, None] * 8).to(torch.uint8).expand(-1, 3, 32, 48)
    write_clip(Clip(frames, torch.zeros(1, 19840), 25.0, 16000), path)
    return path


def test_codecs_are_named(film, tmp_path):
    assert codecs_of(film) == Codecs("mov,mp4,m4a,3gp,3g2,mj2", "h264", "yuv420p", "aac")
    write_audio(torch.zeros(2, 100), tmp_path / "a.wav", 8000)
    assert codecs_of(tmp_path / "a.wav") == Codecs("wav", "", "", "pcm_s16le")


def test_the_middle_frame_is_the_one_of_half_the_time(film):
    frames = read_clip(film).frames.float()
    distance = (frames - middle_frame(film).float()).abs().mean((1, 2, 3))
    assert int(distance.argmin()) == 15
    assert distance.min() < 0.5


def test_what_is_no_film_is_refused(film, tmp_path):
    (tmp_path / "a.mp4").write_text("no film")
    with pytest.raises(MediaError, match="cannot be decoded"):
        codecs_of(tmp_path / "a.mp4")
    write_audio(torch.zeros(2, 100), tmp_path / "a.wav", 8000)
    with pytest.raises(MediaError, match="has no video stream"):
        middle_frame(tmp_path / "a.wav")
