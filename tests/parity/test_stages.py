"""Agreement with the authors' sampling runs step by step, within the tolerances of the golden files.

The runs live in a process of their own with MKL_CBWR=COMPATIBLE; see test_parity.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RUNS = ["out", *(f"variant.{name}" for name in ("cfg_only", "no_guidance", "identity_only", "stg_only"))]
RUNS += [f"variant.{name}" for name in ("bimodal_only", "bimodal_flag_off", "no_image", "no_reference")]
LAYOUTS = pytest.mark.parametrize("layout", ["m19b", "m23"])
PARTS = pytest.mark.parametrize("part", ["video", "audio"])


@pytest.fixture(scope="module")
def errors():
    """Largest difference of every check."""
    root = HERE.parents[1]
    environment = {**os.environ, "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, str(HERE / "compare_stages.py")]
    finished = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


# 0 on the CPU that the golden runs used; torch computes logarithm and cosine differently on others
@LAYOUTS
@PARTS
def test_the_released_order_of_noise_gives_the_authors_start(errors, layout, part):
    assert errors[f"{layout}.start.{part}"] <= 1e-6


@PARTS
@pytest.mark.parametrize("noise", ["stored", "drawn"])
def test_the_first_hq_stage_ends_where_the_authors_does(errors, part, noise):
    assert errors["m23.hq.sigmas"] <= 1e-6
    assert errors[f"m23.hq.start.{part}"] <= 1e-6
    assert errors[f"m23.hq.{noise}.{part}"] <= 1e-4


@LAYOUTS
@PARTS
@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("state", ["x0", "next"])
def test_every_step_goes_where_the_authors_step_goes(errors, layout, part, step, state):
    assert errors[f"{layout}.step{step}.{state}.{part}"] <= 1e-4


@LAYOUTS
@PARTS
@pytest.mark.parametrize("run", RUNS)
def test_four_steps_end_where_the_authors_pipeline_ends(errors, layout, part, run):
    assert errors[f"{layout}.{run}.{part}"] <= 1e-4


@LAYOUTS
def test_the_schedule_of_the_stage_is_the_authors(errors, layout):
    assert errors[f"{layout}.sigmas"] <= 1e-6


@PARTS
def test_the_refining_stage_starts_and_ends_where_the_authors_does(errors, part):
    assert errors["m23.s2.sigmas"] == 0
    assert errors[f"m23.s2.start.{part}"] <= 1e-6
    assert errors[f"m23.s2.end.{part}"] <= 1e-4


def test_frozen_audio_does_not_move(errors):
    assert errors["m23.s2.end.audio"] == 0
