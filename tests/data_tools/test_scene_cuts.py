"""Scene cuts are found where PySceneDetect's own loop over the file finds them, and each is found once."""

from pathlib import Path

import pytest
import scenedetect

from data_tools.cutting.scene_cuts import SceneCuts
from idlora_pl.media.strips import read_strips


def starts_of(path: Path, n_frames: int, rate_fps: float = 25.0) -> list[int]:
    """First pictures of the scenes of a video, counted at `rate_fps`."""
    strips = read_strips(path, n_frames, rate_fps, SceneCuts())
    return [round(strip.start_s * rate_fps) for strip in strips if strip.starts_scene]


@pytest.mark.parametrize("lengths", [(30, 20, 12), (1, 40, 1), (3, 3, 30, 3, 3), (60,)])
def test_scenes_start_where_they_were_joined_also_close_to_the_ends(tmp_path, write_odd, moving, lengths):
    pictures = []
    for k, length in enumerate(lengths):
        pictures += moving(length, brightness=(60, 190)[k % 2], seed=k)
    write_odd(tmp_path / "a.mov", pictures, range(len(pictures)), seconds=len(pictures) / 25)
    assert starts_of(tmp_path / "a.mov", 9) == [sum(lengths[:k]) for k in range(len(lengths))]


def test_they_are_those_of_pyscenedetect_on_the_file(tmp_path, write_odd, moving):
    pictures = moving(30) + moving(25, brightness=170, seed=1) + moving(40, brightness=20, seed=2)
    write_odd(tmp_path / "a.mov", pictures, range(95), seconds=4.0)
    found = scenedetect.detect(str(tmp_path / "a.mov"), scenedetect.AdaptiveDetector(min_scene_len=0))
    assert starts_of(tmp_path / "a.mov", 9) == [start.frame_num for start, _ in found] == [0, 30, 55]


def test_a_slow_video_shown_on_a_fine_grid_has_the_same_scenes(tmp_path, write_odd, moving):
    pictures = moving(20) + moving(20, brightness=190, seed=1)
    write_odd(tmp_path / "a.mov", pictures, [2 * k for k in range(40)], seconds=3.2)
    first, second = starts_of(tmp_path / "a.mov", 9)
    assert (first, second) in {(0, 39), (0, 40)}


def test_a_flash_of_light_ends_no_scene_twice(tmp_path, write_odd, moving):
    pictures = moving(20) + moving(1, brightness=200) + moving(20, seed=3)
    write_odd(tmp_path / "a.mov", pictures, range(41), seconds=1.7)
    assert set(starts_of(tmp_path / "a.mov", 9)) <= {0, 20, 21}
