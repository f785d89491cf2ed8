"""Makes nano.png, a clip of an unseen talker of the nano world: `python docs/images/nano.py [ADAPTER]`.

Without an adapter file the base alone generates, which hears the voice but was never trained to.
"""

import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from idlora_pl import Clip, IDLoRAPipeline
from idlora_pl.benchmark.items import read_prompts
from idlora_pl.generation.request import Request
from idlora_pl.nano.codecs import NanoCodecs
from idlora_pl.nano.dataset import write_test_items

SHOWN = (0, 6, 12, 18, 24, 30)
"""Frames that are drawn, 0.24 s apart."""


def generate(adapter: Path | None, speaker: int) -> tuple[IDLoRAPipeline, Request, Clip]:
    """Generate a clip of test speaker number `speaker`, with their face and voice."""
    pipeline = IDLoRAPipeline.from_pretrained("nano", adapter=adapter)
    with TemporaryDirectory() as folder:
        write_test_items(Path(folder), "test", 1, offset=speaker)
        item = read_prompts(Path(folder) / "prompts.json")[0]
        request = pipeline.request(item.prompt, face=item.first_frame, voice=item.reference, seed=1)
    return pipeline, request, pipeline.generate([request])[0]


def draw(pipeline: IDLoRAPipeline, request: Request, clip: Clip) -> Figure:
    """Draw the face and the voice that were given on the left, frames and sound of the clip on the right."""
    assert request.face is not None
    assert request.voice is not None
    figure = Figure(figsize=(10, 3.1), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    given, made = figure.subfigures(1, 2, width_ratios=(1, 3))
    face, voice = given.subplots(2, 1, height_ratios=(1, 1.1))
    face.imshow(request.face.permute(1, 2, 0).numpy())
    face.set_title("given: face, voice, prompt", fontsize=9)
    face.axis("off")
    _sound(pipeline, voice, request.voice, request.voice_rate_hz)
    grid = made.add_gridspec(2, len(SHOWN), height_ratios=(1, 1.1))
    for column, frame in enumerate(SHOWN):
        panel = made.add_subplot(grid[0, column])
        panel.imshow(clip.frames[frame].permute(1, 2, 0).numpy())
        panel.set_title(f"{frame / clip.frame_rate_fps:.2f} s", fontsize=8)
        panel.axis("off")
    below = made.add_subplot(grid[1, :])
    _sound(pipeline, below, clip.waveform, clip.sample_rate_hz)
    below.set_xlabel(request.prompt[request.prompt.index("[SPEECH]") :], fontsize=9)
    return figure


def _sound(pipeline: IDLoRAPipeline, panel: Axes, waveform: Tensor, rate: int) -> None:
    latents = pipeline.codecs.encode_audio(waveform[None], rate, n_tokens=33)
    mel = NanoCodecs().decode_log_mel(latents)[0]
    panel.imshow(mel.T.numpy(), origin="lower", aspect="auto", vmin=-9, vmax=1, cmap="magma")
    panel.set(xticks=[], yticks=[])


def main() -> None:
    """Generate, draw, and save with 256 colours."""
    adapter = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    buffer = BytesIO()
    draw(*generate(adapter, speaker=2)).savefig(buffer, format="png")
    Image.open(buffer).convert("RGB").quantize(256).save(Path(__file__).with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
