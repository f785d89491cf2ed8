"""Where one scene of a video ends and the next begins: PySceneDetect, on pictures that are decoded anyway.

Its own loop would decode every video a second time. Its AdaptiveDetector compares each change with those around it, so
that a camera that moves is no cut. Fades have no single picture where they happen and are not found.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from idlora_pl.media.strips import Thumbnails, Timed

WINDOW = 2
"""Pictures before and after that a change is compared with (PySceneDetect's default)."""
_LONGEST_SIDE = 128
_COUNTING_FPS = Fraction(25)
"""Pictures are counted, their times play no part; PySceneDetect wants some rate."""


class SceneCuts:
    """Marks the first picture of every scene.

    Raises:
        ValueError: when PySceneDetect is not installed.
    """

    def __init__(self) -> None:
        try:
            from scenedetect import AdaptiveDetector, FrameTimecode
        except ImportError as error:
            raise ValueError("scene cuts need PySceneDetect; get it with: pip install 'idlora_pl[data]'") from error
        # a clip must not hold a cut, however short the scene before it was
        self._detector = lambda: AdaptiveDetector(min_scene_len=0, window_width=WINDOW)
        self._numbered = lambda number: FrameTimecode(number, _COUNTING_FPS)

    def __call__(self, pictures: Iterator[Timed]) -> Iterator[Timed]:
        """Yield the same pictures, with `breaks` set where a scene begins; they come out a few later."""
        scene = _Scene(self._detector(), self._numbered)
        for picture in pictures:
            if picture.breaks:
                yield from scene.rest()
                scene = _Scene(self._detector(), self._numbered)
            scene.add(picture)
            yield from scene.judged()
        yield from scene.rest()


class _Scene:
    """Pictures of which the detector has to say whether they follow each other.

    A picture that stands at several places of the grid is shown to the detector once.
    """

    def __init__(self, detector: Any, numbered: Any) -> None:
        self.detector, self.numbered = detector, numbered
        self.waiting: deque[tuple[int, list[Timed]]] = deque()
        self.cuts: set[int] = set()
        self.count = 0
        self.thumbnails = Thumbnails(_LONGEST_SIDE)

    def add(self, picture: Timed) -> None:
        """Take the next picture."""
        if self.waiting and self.waiting[-1][1][-1].frame is picture.frame:
            self.waiting[-1][1].append(picture)
            return
        pixels = self.thumbnails.of(picture)
        # the first picture stands for what was before it, and the last one (below) for what comes after it
        for _ in range(WINDOW if self.count == 0 else 0):
            self._look(pixels)
        self.waiting.append((self.count, [picture]))
        self._look(pixels)

    def _look(self, pixels: np.ndarray) -> None:
        self.last = pixels
        self.cuts |= {cut.frame_num for cut in self.detector.process_frame(self.numbered(self.count), pixels)}
        self.count += 1

    def judged(self) -> Iterator[Timed]:
        """Give out the pictures on which there is a verdict."""
        while self.waiting and self.waiting[0][0] < self.count - WINDOW:
            number, places = self.waiting.popleft()
            yield replace(places[0], breaks=places[0].breaks or number in self.cuts)
            yield from places[1:]

    def rest(self) -> Iterator[Timed]:
        """Give out what is left."""
        for _ in range(WINDOW if self.waiting else 0):
            self._look(self.last)
        yield from self.judged()
