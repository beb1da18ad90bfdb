"Fetching one category from the Hub: a loopback server stands in for it and counts what is asked for."

import pytest
from hub import NOWHERE, Hub, run_with_hub, serving

from defect_lora.data.cables import write_cables

REPO = "DefectSpectrum/Defect_Spectrum"
CODE = """
import sys
from defect_lora.data.dataset import DefectSpectrumDataset
from defect_lora.data.layouts import download_category
from defect_lora.data.files import InputError
try:
    root = download_category(sys.argv[1], cache_dir=sys.argv[2])
except InputError as error:
    sys.exit(str(error))
dataset = DefectSpectrumDataset(root, sys.argv[1], masks=True, size=64)
print(dataset.category, len(dataset), len(dataset.classes), int(dataset[0]["mask"].sum()) > 0)
"""


@pytest.fixture
def hub(tmp_path):
    "Address of a Hub with two categories, and the set of files that were asked for."
    write_cables(tmp_path / "repo", per_class=1, size=64)
    source = tmp_path / "repo" / "DS-MVTec" / "cable" / "image" / "good" / "000.png"
    other = tmp_path / "repo" / "DS-MVTec" / "screw" / "image" / "good" / "000.png"
    other.parent.mkdir(parents=True)
    other.write_bytes(source.read_bytes())
    hub = Hub()
    hub.add_folder(f"datasets/{REPO}", tmp_path / "repo")
    with serving(hub) as address:
        yield address, hub.asked


def fetch(category, cache, endpoint):
    return run_with_hub(CODE, endpoint, category, cache)


def test_one_category_is_fetched_and_kept(hub, tmp_path):
    endpoint, asked = hub
    first = fetch("cable", tmp_path / "cache", endpoint)
    assert first.stdout.split() == ["cable", "9", "9", "True"], first.stderr
    assert asked and all(name.startswith("DS-MVTec/cable/") for name in asked)
    assert fetch("cable", tmp_path / "cache", NOWHERE).stdout == first.stdout


def test_an_unknown_category_is_named(hub, tmp_path):
    done = fetch("bolt", tmp_path / "cache", hub[0])
    assert done.returncode == 1 and "no category 'bolt'" in done.stderr


def test_no_network_and_no_cache_is_one_line(tmp_path):
    done = fetch("cable", tmp_path / "cache", NOWHERE)
    assert done.returncode == 1 and "could not be fetched" in done.stderr.splitlines()[-1]
