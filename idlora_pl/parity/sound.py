"""Check of the log-mel front end."""

from __future__ import annotations

import re

import torch

from idlora_pl.ltx2.audio_codec import LogMel
from idlora_pl.parity.cases import Case
from idlora_pl.parity.findings import Findings

_HALVES = {11: 11025, 22: 22050, 44: 44100, 88: 88200}
"""Sample rates that are no multiple of 1000 Hz, by the number of kHz in a tensor's name."""


def check_log_mel(findings: Findings) -> None:
    """Compare the log-mel of every waveform; waveforms at other rates are resampled first."""
    case, mel = findings.case, LogMel()
    names = [name for name in case.names("out.") if name.startswith("out.mel")]
    if not names:
        raise case.wrong_tensor("out.mel16k", "is missing, as is every other output")
    for name in names:
        wave, rate = _source(case, name)
        findings.tensor(name, mel(case.tensor(wave, None, None, None), rate))
    transform = mel.transform(torch.device("cpu"))
    for name, ours in (("filterbank", transform.mel_scale.fb), ("window", transform.spectrogram.window)):
        if case.has(name):
            findings.tensor(name, ours)


def _source(case: Case, name: str) -> tuple[str, int]:
    """Return the waveform that an output was made of, and its sample rate in Hz."""
    found = re.fullmatch(r"out\.mel(?:_from)?(\d+)k", name)
    if found is None:
        raise case.wrong_tensor(name, "is an unknown name; names are out.mel<kHz>k and out.mel_from<kHz>k")
    return f"in.wave{found[1]}k", _HALVES.get(int(found[1]), int(found[1]) * 1000)
