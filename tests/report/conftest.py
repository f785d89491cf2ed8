"""A small table with real clips: two methods, an unplayable codec, what is missing, and texts that attack a page."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import av
import pytest
import torch
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from idlora_pl.media.clip import Clip
from idlora_pl.media.writing import write_audio, write_clip
from idlora_pl.report.build import build_table
from idlora_pl.report.table import Column, Row, Table
from idlora_pl.results.row import Curve, ScorerFacts, ScoreRow

HOSTILE = "</script><b>x</b><img src=x onerror='window.attacked=1'><!--<script>"
COLUMNS = (
    Column("spk_sim", "Spk <Sim>", "higher"),
    Column("wer", "WER", "lower", 2),
    Column("lip_offset", "lip offset", "near zero", 0),
)
ITEMS = ("plain", HOSTILE, "no clip", "other film")
METHODS = ("ours", "<i>kling</i>")
VALUES = {
    "spk_sim": ((0.7, 0.9), (0.2, 0.4), (None, 0.5), (0.9, 0.1)),
    "wer": ((0.0, 0.25), (1.5, None), (None, 0.25), (0.1, 0.0)),
    "lip_offset": ((0.0, -7.0), (3.0, 1.0), (None, 2.0), (-4.0, 0.0)),
    "extra": ((1.0, 2.0), (4.0, 3.0), (None, -1.0), (0.5, 7.0)),
}
REASONS = {"no clip": "file_missing", HOSTILE: "<u>silent</u>"}


@dataclass(frozen=True)
class Shelf:
    """A table with the scores behind it, and the folder of their clips."""

    table: Table
    scores: list[ScoreRow]
    folder: Path


def tone(hertz: float, seconds: float = 0.8) -> torch.Tensor:
    return 0.3 * torch.sin(2 * torch.pi * hertz * torch.arange(round(16000 * seconds)) / 16000)[None]


def write_mpeg1(path: Path) -> None:
    """Write 0.8 s of MPEG-1, which browsers do not play."""
    with av.open(str(path), "w", format="mpeg") as container:
        video = container.add_stream("mpeg1video", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        audio = container.add_stream("mp2", rate=16000, layout="mono")
        for number in range(20):
            frame = VideoFrame.from_ndarray(torch.full((64, 96, 3), 8 * number, dtype=torch.uint8).numpy(), "rgb24")
            container.mux(video.encode(frame))
        sound = AudioFrame.from_ndarray((tone(440) * 32767).short().numpy(), "s16", "mono")
        sound.sample_rate = 16000
        container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Four items of two speakers by two methods; a missing clip, one in MPEG-1, and one that changed after scoring."""
    folder = tmp_path_factory.mktemp("shelf")
    write_audio(tone(150), folder / "voice.wav", 16000)
    moving = torch.arange(20, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 64, 64) * 10
    write_clip(Clip(moving, tone(200), 25.0, 16000), folder / "target.mp4", generated=False)
    scores = []
    for number, key in enumerate(ITEMS):
        for place in range(len(METHODS)):
            path = folder / f"{number} #{place}.mp4"
            if key == "other film" and place == 1:
                path = path.with_suffix(".mpg")
                write_mpeg1(path)
            elif not (key == "no clip" and place == 0):
                write_clip(Clip(moving, tone(250 + 100 * number + 50 * place), 25.0, 16000), path)
            scores.append(row_of(folder, path, number, place))
    rows = [*METHODS, Row("paper", {"spk_sim": 0.477}, "the <paper>"), Row("absent", command="idlora score")]
    table = build_table(scores, rows, COLUMNS, [METHODS], caption=f"Table {HOSTILE}")
    return Shelf(table, scores, folder)


def row_of(folder: Path, path: Path, number: int, place: int) -> ScoreRow:
    key = ITEMS[number]
    scores = {name: found[number][place] for name, found in VALUES.items()}
    reasons = {name: REASONS[key] for name, value in scores.items() if value is None}
    notes = {"prompt": f"[VISUAL]: {HOSTILE} [SPEECH]: hello {HOSTILE} [SOUNDS]: rain"}
    notes |= {"reference": str(folder / "voice.wav"), "target": str(folder / "target.mp4"), "clip": str(path)}
    if path.is_file():
        changed = key == "plain" and place == 1
        notes["clip_sha256"] = "0" * 16 if changed else sha256(path.read_bytes()).hexdigest()[:16]
    curves = {"lip_offset": Curve(0.0, 0.2, (0.0, None, 3.0 + place, -2.0), (2,))} if number < 2 else {}
    scorers = {
        "voices": ScorerFacts(("spk_sim",), "ab" * 32, verified=True, details={"heard": HOSTILE}),
        "lips": ScorerFacts(("lip_offset",), "cd" * 32, verified=False, curves=curves),
    }
    return ScoreRow(key, METHODS[place], "ada" if number < 2 else "bob", 42, scores, reasons, notes, scorers)
