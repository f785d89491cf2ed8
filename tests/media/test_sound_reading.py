"""Sound has its pitch, its length and its track, from every container and reader; what is no sound is refused."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from idlora_pl.media.clip import MediaError
from idlora_pl.media.reading import codecs_of, probe, read_audio, read_clip, read_part_sound, read_recording, read_voice
from idlora_pl.media.writing import write_audio
from tests.media.conftest import pitch_of, tone, write_floats, write_tone

PLAIN = {
    "wav": ("pcm_s16le", None), "flac": ("flac", None), "mp3": ("libmp3lame", None), "m4a": ("aac", None),
    "aac": ("aac", "adts"), "ogg": ("flac", "ogg"), "opus": ("libopus", "ogg"), "mkv": ("aac", None),
    "ts": ("aac", "mpegts"), "aiff": ("pcm_s16be", None), "webm": ("libopus", None),
}  # fmt: skip
RATES = (8000, 16000, 22050, 24000, 44100, 48000)


@pytest.mark.parametrize("ending", PLAIN)
@pytest.mark.parametrize("rate_hz", RATES)
def test_every_container_and_rate_gives_pitch_length_and_level(tmp_path, ending, rate_hz):
    codec, form = PLAIN[ending]
    if codec == "libopus" and rate_hz not in (8000, 16000, 24000, 48000):
        rate_hz = 48000  # what the codec knows
    channels = 2 if rate_hz in (16000, 48000) else 1
    path = tmp_path / f"a.{ending}"
    write_tone(path, rate_hz, channels=channels, codec=codec, form=form)
    waveform, found_hz = read_audio(path)
    assert len(waveform) == channels
    # lossy codecs pad to whole packets, of up to 2048 samples
    assert abs(waveform.shape[1] / found_hz - 1) <= 2 * 2048 / rate_hz
    middle = waveform[0, found_hz // 4 : found_hz * 3 // 4]
    assert pitch_of(middle.numpy(), found_hz) == pytest.approx(440, abs=2)
    assert float(middle.square().mean().sqrt()) == pytest.approx(0.3 / 2**0.5, rel=0.08)


def write_joined(path: Path, rates: tuple[int, int], channels: tuple[int, int], codec: str, form: str) -> None:
    """Write two recordings of 1.5 s, one file after the other, as `cat` joins them."""
    content = b""
    for k, (rate_hz, n_channels) in enumerate(zip(rates, channels, strict=True)):
        part = path.with_name(f"{k}.part")
        write_tone(part, rate_hz, seconds=1.5, channels=n_channels, codec=codec, form=form)
        content += part.read_bytes()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("ending", "codec", "form"), [("aac", "aac", "adts"), ("mp3", "libmp3lame", "mp3"), ("ts", "mp2", "mpegts")]
)
@pytest.mark.parametrize(
    ("rates", "channels"),
    [((44100, 22050), (1, 1)), ((22050, 44100), (1, 2)), ((48000, 16000), (2, 1)), ((16000, 48000), (2, 2)),
     ((24000, 24000), (1, 2))],
)  # fmt: skip
def test_a_rate_or_layout_that_changes_inside_a_file_keeps_pitch_and_length(
    tmp_path, ending, codec, form, rates, channels
):
    path = tmp_path / f"a.{ending}"
    write_joined(path, rates, channels, codec, form)
    waveform, rate_hz = read_audio(path)
    assert rate_hz in rates  # the first frame's, where FFmpeg does not report another one for it
    assert len(waveform) == max(channels)
    # each part is padded to whole packets; the clock of a joined transport stream repeats
    assert waveform.shape[1] / rate_hz == pytest.approx(3.0, abs=0.25)
    for start, stop in ((0.3, 1.2), (1.9, 2.8)):
        part = waveform[0, round(start * rate_hz) : round(stop * rate_hz)]
        assert pitch_of(part.numpy(), rate_hz) == pytest.approx(440, abs=2)
        assert float(part.square().mean().sqrt()) == pytest.approx(0.3 / 2**0.5, rel=0.1)


def write_tracks(path: Path, tracks: list[tuple[bool, float]], *, cover: bool = False) -> None:
    """Write grey video with tracks (is the default, gain), all of 48 kHz and 1 s."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        streams = [container.add_stream("aac", rate=48000, layout="mono") for _ in tracks]
        for stream, (default, _) in zip(streams, tracks, strict=True):
            stream.disposition = av.stream.Disposition.default if default else av.stream.Disposition(0)
        for k in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 5 * k, np.uint8), format="rgb24")
            frame.pts = k
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for stream, (_, gain) in zip(streams, tracks, strict=True):
            heard = av.AudioFrame.from_ndarray(np.float32(gain) * tone(48000, 1.0), format="fltp", layout="mono")
            heard.sample_rate, heard.pts = 48000, 0
            container.mux([*stream.encode(heard), *stream.encode(None)])


def loudness(path: Path) -> dict[str, float]:
    """Return the level that every reader hears."""
    heard = {
        "read_audio": read_audio(path)[0],
        "read_clip": read_clip(path).waveform,
        "read_recording": read_recording(path).waveform,
        "read_part_sound": read_part_sound(path, 0.0, 0.9)[0],
    }
    return {reader: float(waveform.square().mean().sqrt()) for reader, waveform in heard.items()}


@pytest.mark.parametrize("tracks", [
    [(False, 0.0), (True, 1.0)], [(True, 1.0), (False, 0.0)], [(False, 1.0), (False, 0.0)], [(True, 1.0), (True, 0.0)],
    [(False, 0.0), (False, 0.0), (True, 1.0)],
])  # fmt: skip
def test_every_reader_hears_the_default_track_else_the_first(tmp_path, tracks):
    write_tracks(tmp_path / "a.mkv", tracks)
    for reader, level in loudness(tmp_path / "a.mkv").items():
        assert level == pytest.approx(0.3 / 2**0.5, rel=0.1), reader
    assert probe(tmp_path / "a.mkv").sample_rate_hz == 48000


def test_a_track_that_cannot_be_decoded_is_passed_over(tmp_path):
    write_tracks(tmp_path / "a.mkv", [(False, 1.0), (False, 1.0)])
    content = bytearray((tmp_path / "a.mkv").read_bytes())
    at = content.index(b"A_AAC")
    content[at : at + 5] = b"A_XYZ"  # a codec that nobody knows
    (tmp_path / "b.mkv").write_bytes(content)
    for reader, level in loudness(tmp_path / "b.mkv").items():
        assert level == pytest.approx(0.3 / 2**0.5, rel=0.1), reader
    assert codecs_of(tmp_path / "b.mkv").sound == "aac"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_voice_with_what_is_no_number_is_refused_by_name(tmp_path, value):
    wave = tone(16000, 1.0)
    wave[0, 800] = value
    write_floats(tmp_path / "a.wav", wave)
    for read in (read_audio, read_voice, lambda path: read_part_sound(path, 0.0, 0.5)):
        with pytest.raises(MediaError, match=r"a\.wav has (samples that are infinite|no video stream)"):
            read(tmp_path / "a.wav")
    with pytest.raises(
        MediaError, match=r"a\.wav has samples .* \(1 of 16000, the first at 0.05 s\); record or export"
    ):
        read_audio(tmp_path / "a.wav")
    assert read_recording(tmp_path / "a.wav").waveform.isnan().sum() == 1  # scorers give it a reason


@pytest.mark.parametrize(("level", "silent"), [(0.0, True), (0.9e-4, True), (3e-4, False)])
@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_a_silent_voice_is_refused_by_name_whatever_constant_it_lies_on(tmp_path, level, silent, offset):
    write_floats(tmp_path / "a.wav", offset + level / 0.3 * tone(16000, 1.0))
    if silent:
        with pytest.raises(MediaError, match=r"a\.wav is silent \(below -80 dBFS\); give a recording of a voice"):
            read_voice(tmp_path / "a.wav")
    else:
        assert read_voice(tmp_path / "a.wav")[0].shape == (1, 16000)
    assert read_audio(tmp_path / "a.wav")[0].shape == (1, 16000)


def test_a_voice_that_is_shorter_than_a_sound_of_speech_is_refused_by_name(tmp_path):
    write_tone(tmp_path / "a.wav", 16000, seconds=0.05)
    with pytest.raises(MediaError, match=r"a\.wav lasts 0\.05 s; a voice needs at least 0\.1 s"):
        read_voice(tmp_path / "a.wav")


def test_what_is_no_number_is_not_written(tmp_path):
    with pytest.raises(MediaError, match=r"a\.wav has samples that are infinite or not a number"):
        write_audio(torch.tensor([[0.1, torch.nan]]), tmp_path / "a.wav", 16000)
    assert not list(tmp_path.iterdir())


def header(rate_hz: int, channels: int, n_bytes: int) -> bytes:
    """Return the head of a wav file of 16 bits, which says whatever it is told to."""
    about = struct.pack("<IHHIIHH", 16, 1, channels, rate_hz, rate_hz * 2 * channels & 0xFFFFFFFF, 2 * channels, 16)
    return b"RIFF" + struct.pack("<I", 36 + n_bytes) + b"WAVEfmt " + about + b"data" + struct.pack("<I", n_bytes)


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 6, 7, 8, 9, 12, 64])
def test_any_number_of_channels_is_read_in_order(tmp_path, channels):
    levels = 100 * np.arange(1, channels + 1, dtype="<i2")
    held = np.repeat(levels[None], 4000, 0).tobytes()
    (tmp_path / "a.wav").write_bytes(header(16000, channels, len(held)) + held)
    waveform, rate_hz = read_audio(tmp_path / "a.wav")
    assert (rate_hz, waveform.shape) == (16000, (channels, 4000))
    np.testing.assert_allclose(waveform.numpy(), np.repeat(levels[:, None] / 32768, 4000, 1), atol=1e-6)


def test_eight_channels_of_a_film_are_read_in_order(tmp_path):
    held = np.round(32767 * tone(48000, 1.0, channels=8)).astype(np.int16).T.reshape(1, -1)
    with av.open(str(tmp_path / "a.flac"), "w") as container:
        stream = container.add_stream("flac", rate=48000, layout="7.1")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(held), format="s16", layout="7.1")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    waveform, _ = read_audio(tmp_path / "a.flac")
    assert waveform.shape == (8, 48000)
    assert all(pitch_of(one, 48000) == pytest.approx(440, abs=2) for one in waveform.numpy())


@pytest.mark.parametrize("rate_hz", [7, 1_999_993, 1_852_516_351])
def test_a_rate_that_no_recorder_has_is_refused_by_name(tmp_path, rate_hz):
    (tmp_path / "a.wav").write_bytes(header(rate_hz, 1, 64000) + bytes(64000))
    with pytest.raises(MediaError, match=rf"a\.wav claims {rate_hz} samples per second of sound"):
        read_audio(tmp_path / "a.wav", 16000)
