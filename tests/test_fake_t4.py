"""A user's day on a T4 that is not there: SD 1.5's geometry at 512 px, whose memory, operations and types are counted (tests/fake_t4)."""

import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "fake_t4"
sys.path.insert(0, str(HERE))
import launch  # noqa: E402

RESULTS = HERE.parents[1] / "benchmarks" / "results" / "t4_simulated.json"
pytestmark = pytest.mark.skipif(launch.missing() is not None, reason=str(launch.missing()))
COMMITTED = json.loads(RESULTS.read_text())
TOO_LARGE = "scope all+base"  # weights, gradients and AdamW's memory of 860 million parameters are 13 GiB, and products need more


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    "The table, made anew."
    out = tmp_path_factory.mktemp("t4") / "table.json"
    done = launch.run(HERE / "table.py", "--out", out, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def rows(found):
    "Every row but those of what does not fit."
    return {f"{case}, {name}": row for case, of in found["now"].items() for name, row in of.items() if case != TOO_LARGE}


def test_everything_runs_in_a_t4(rows):
    assert not {name: row for name, row in rows.items() if name.endswith("error")}
    assert not {name: row["peak_gib"] for name, row in rows.items() if row["peak_gib"] > 13.5}


def test_nothing_runs_out_of_memory_once_training_has_begun(rows):
    assert not [name for name, row in rows.items() if row["out_of_memory"] and "preflight" not in name]


def test_no_kernel_gets_two_types_or_two_places(rows):
    assert not {name: row["mixed"] for name, row in rows.items() if row["mixed"]}


def test_what_can_be_half_is_half(rows):
    counted = {name: row["tflop"] for name, row in rows.items() if not name.startswith("features")}
    shares = {name: flop.get("float32", 0) / sum(flop.values()) for name, flop in counted.items() if flop}
    assert not {name: share for name, share in shares.items() if share > 0.01}


def test_what_does_not_fit_is_said_in_one_line(found):
    line = found["now"][TOO_LARGE]["error"]
    assert line.startswith("InputError: one image of this size does not fit into the 10.1 GiB that are free: it takes 11.1, 9.4 GiB of it")
    assert "gradients" in line and "--phases" in line and "\n" not in line


WEIGHTS = {"document": 1.7, "tuned": 1.7, "scope decoder+base": 2.7}  # GiB: half precision, and single where they train


def test_the_forecast_holds(found):
    for case, weights in WEIGHTS.items():
        of = found["now"][case]
        said = float(of["preflight"]["said"].split(" GiB beside")[0].split()[-1])
        most = max(row["peak_gib"] for name, row in of.items() if name != "preflight")
        assert abs(said + weights - most) < 0.3, (case, said, most)


def test_sixteen_images_take_four_gib(found):
    peaks = {name: row["peak_gib"] for name, row in found["now"]["generate 16"].items()}
    assert peaks.pop("two steps, one remembered") <= 4.2 and max(peaks.values()) <= 4


def test_six_gib_are_enough_where_they_are_asked_for(rows):
    small = {name: row["peak_gib"] for name, row in rows.items() if "6 GiB" in name}
    assert small and max(small.values()) <= 6


def test_a_failed_optimizer_step_is_taken_again(found):
    update = found["now"]["out of memory"]["update"]
    assert (update["calls"], update["images"]) == (2, 2)


def test_the_command_generates_in_half_precision(found):
    assert found["now"]["command generate"]["two steps"]["dtype"] == "float16"


def test_the_job_is_short(found):
    minutes = found["minutes"]
    assert minutes["90 images"] <= 6 and minutes["tuned, training"] + minutes["tuned, samples"] < 40
    assert minutes["quickstart"] < 40
    assert minutes["90 images, cache interval 2"] < 0.8 * minutes["90 images"]


def test_the_committed_table_is_this_one(found):
    assert COMMITTED["minutes"] == pytest.approx(found["minutes"], rel=0.05) and COMMITTED["now"].keys() == found["now"].keys()
    for case, of in COMMITTED["now"].items():
        peaks = {name: row["peak_gib"] for name, row in of.items() if name != "error"}
        assert {name: found["now"][case][name]["peak_gib"] for name in peaks} == pytest.approx(peaks, rel=0.05), case
