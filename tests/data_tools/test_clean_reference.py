"""Noise is taken out of voices and the numbers say so; clean voices stay; what cannot be cleaned has a reason."""

import numpy as np
import pytest
import torch

from data_tools.clean_reference import clean_reference
from data_tools.verb.lists import RejectedError, file_of, read_rows, write_rows
from data_tools.voices import cleaning
from data_tools.voices.cleaning import check_sound, level_dbfs, snr_db
from idlora_pl.media.reading import read_audio
from idlora_pl.media.writing import write_audio
from idlora_pl.nano.render import render
from idlora_pl.nano.world import script, speaker

RATE_HZ = 16000


def words(seed, n_clips=3):
    """Nano speech without its place, as long as `n_clips` clips, with pauses between the words."""
    sound = render([speaker(seed)] * n_clips, [script(seed * 10 + k) for k in range(n_clips)]).waveform.reshape(-1)
    loud = sound.unfold(0, 512, 512).square().mean(1)
    gate = (loud > 0.02 * loud.max()).float().repeat_interleave(512)
    return sound[: len(gate)] * gate


def noisy(sound, snr, seed=0):
    noise = torch.randn(len(sound), generator=torch.Generator().manual_seed(seed))
    return sound + noise * (sound.square().mean() / 10 ** (snr / 10)).sqrt()


def true_snr(heard, sound):
    """Scale-invariant ratio in dB of a voice to everything else in a recording."""
    part = (heard @ sound) / (sound @ sound) * sound
    return float(10 * torch.log10(part.square().sum() / (heard - part).square().sum()))


@pytest.fixture
def voices(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, sound in (("clean", words(1)), ("noisy", noisy(words(1), 5.0)), ("loud", noisy(words(2), 0.0))):
        write_audio(0.5 * sound[None] / sound.abs().max(), folder / f"{name}.wav", RATE_HZ)
    return folder


def cleaned(source, output, **options):
    clean_reference(str(source), str(output), workers=1, **options)
    return {row["key"]: row for row in read_rows(output / "clips.jsonl", ("key", "path"))}


def test_noise_is_lowered_by_its_true_ratio_and_speech_stays(voices, tmp_path):
    rows = cleaned(voices, tmp_path / "out")
    for name, sound in (("noisy", words(1)), ("loud", words(2))):
        before = read_audio(voices / f"{name}.wav")[0][0]
        after, rate_hz = read_audio(tmp_path / "out" / rows[name]["voice"])
        assert (len(after[0]), rate_hz) == (len(before), RATE_HZ)
        assert true_snr(after[0], sound) > true_snr(before, sound) + 4
        assert rows[name]["snr_after_db"] > rows[name]["snr_before_db"] + 4
        assert rows[name]["level_after_dbfs"] < rows[name]["level_before_dbfs"]
    assert (tmp_path / "out" / rows["noisy"]["path"]).samefile(voices / "noisy.wav")


def test_clean_speech_is_left_alone_and_hardly_changed_when_it_is_not(voices, tmp_path):
    row = cleaned(voices, tmp_path / "out")["clean"]
    assert not row["cleaned"]
    assert "voice" not in row
    forced = cleaned(voices, tmp_path / "forced", clean_above_db=100.0)["clean"]
    assert forced["cleaned"]
    after = read_audio(tmp_path / "forced" / forced["voice"])[0][0]
    assert true_snr(after, words(1)) > 20


def test_the_estimate_follows_the_truth():
    for snr in (0.0, 5.0, 10.0, 20.0):
        heard = noisy(words(3), snr)[None].numpy()
        assert snr_db(heard, RATE_HZ) == pytest.approx(snr, abs=2.0)
    assert level_dbfs(np.full((2, 100), 0.1, np.float32)) == pytest.approx(-20.0, abs=1e-3)


def test_stereo_stays_stereo_and_surround_becomes_stereo(tmp_path):
    sound = noisy(words(1), 5.0)
    stereo = torch.stack([sound, 0.5 * noisy(words(1), 5.0, seed=1)]) / sound.abs().max()
    write_audio(stereo, tmp_path / "raw" / "two.wav", RATE_HZ)
    row = cleaned(tmp_path / "raw", tmp_path / "out")["two"]
    assert read_audio(tmp_path / "out" / row["voice"])[0].shape == stereo.shape
    assert check_sound(stereo.repeat(3, 1), RATE_HZ).shape == stereo.shape


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (torch.zeros(1, 0), "no_audio"),
        (torch.zeros(1, RATE_HZ), "silent"),
        (torch.full((1, RATE_HZ // 4), 0.1), "too_short"),
        (torch.full((1, RATE_HZ), torch.nan), "not_finite"),
        (torch.full((1, RATE_HZ), torch.inf), "not_finite"),
    ],
)
def test_what_cannot_be_cleaned_has_a_reason(waveform, reason):
    with pytest.raises(RejectedError) as refused:
        check_sound(waveform, RATE_HZ)
    assert refused.value.reason == reason


def test_hostile_files_are_listed_and_the_others_cleaned(voices, tmp_path):
    (voices / "text.wav").write_text("no sound")
    (voices / "empty.wav").write_bytes(b"")
    write_audio(torch.zeros(1, RATE_HZ), voices / "quiet.wav", RATE_HZ)
    rows = cleaned(voices, tmp_path / "out")
    rejected = read_rows(tmp_path / "out/rejected.jsonl", ("key", "reason", "detail"))
    reasons = {row["key"]: row["reason"] for row in rejected}
    assert reasons == {"text": "unreadable", "empty": "unreadable", "quiet": "silent"}
    assert sorted(rows) == ["clean", "loud", "noisy"]


def test_the_sound_at_its_own_rate_is_cleaned_and_other_keys_stay(voices, tmp_path):
    write_rows(
        voices / "clips.jsonl",
        [{"key": "a", "path": "clean.wav", "sound": "noisy.wav", "speaker": "ann", "consent": "signed"}],
    )
    row = cleaned(voices / "clips.jsonl", tmp_path / "out")["a"]
    assert row["cleaned"]
    assert (row["speaker"], row["consent"]) == ("ann", "signed")
    assert file_of(row, tmp_path / "out/clips.jsonl", "sound").samefile(voices / "noisy.wav")


def test_a_second_run_cleans_only_what_is_missing(voices, tmp_path, monkeypatch):
    first = cleaned(voices, tmp_path / "out")
    before = (tmp_path / "out" / first["noisy"]["voice"]).read_bytes()
    (tmp_path / "out" / first["noisy"]["voice"]).unlink()
    read, seen = cleaning.read_recording, []
    monkeypatch.setattr(cleaning, "read_recording", lambda path: seen.append(path.name) or read(path))
    assert cleaned(voices, tmp_path / "out") == first
    assert seen == ["noisy.wav"]
    assert (tmp_path / "out" / first["noisy"]["voice"]).read_bytes() == before


def test_a_clip_may_be_called_like_a_file_of_the_ledger(voices, tmp_path):
    (voices / "noisy.wav").rename(voices / "settings.wav")
    first = cleaned(voices, tmp_path / "out")
    assert first["settings"]["cleaned"]
    assert cleaned(voices, tmp_path / "out") == first


class Quieter:
    def denoise(self, waveform, rate_hz):
        return 0.5 * waveform


class Shorter:
    def denoise(self, waveform, rate_hz):
        return waveform[:, 1:]


def test_a_backend_of_ones_own_is_used_and_checked(voices, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "my_backends", __import__("sys").modules[__name__])
    row = cleaned(voices, tmp_path / "out", backend="my_backends:Quieter")["noisy"]
    assert row["level_after_dbfs"] == pytest.approx(row["level_before_dbfs"] - 6.02, abs=0.02)
    rows = cleaned(voices, tmp_path / "bad", backend="my_backends:Shorter")
    assert list(rows) == ["clean"]
    rejected = read_rows(tmp_path / "bad/rejected.jsonl", ("key", "reason"))
    assert {row["reason"] for row in rejected} == {"bad_backend"}


def test_bad_options_are_refused(voices, tmp_path):
    with pytest.raises(ValueError, match=r"--backend must be one of noisereduce or 'package.module:Class'; got 'x'"):
        cleaned(voices, tmp_path / "out", backend="x")
    with pytest.raises(ValueError, match=r"--backend json:loads cannot be made .*; name a class without arguments"):
        cleaned(voices, tmp_path / "out", backend="json:loads")
    with pytest.raises(ValueError, match=r"--backend builtins:dict has no method denoise"):
        cleaned(voices, tmp_path / "out", backend="builtins:dict")
    with pytest.raises(ValueError, match=r"clean_above_db must be -20 to 100 dB; got 200"):
        cleaned(voices, tmp_path / "out", clean_above_db=200.0)
    cleaned(voices, tmp_path / "out")
    with pytest.raises(ValueError, match=r"was begun with clean_above_db 15.0, now it is 9.0; choose a new folder"):
        cleaned(voices, tmp_path / "out", clean_above_db=9.0)
