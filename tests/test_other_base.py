"A model fits the base that it was trained on: other weights under the same name are told, and no run goes on with them."

import json
import shutil

import pytest

from defect_lora.data.files import InputError
from defect_lora.model.base import TINY, base_digest, load_base
from defect_lora.model.pipeline import DefectPipeline
from defect_lora.model.unet import ClassConditionedUNet
from defect_lora.sharing.hub import _shareable_config
from defect_lora.training.run_folder import _check_base


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    base = load_base("tiny")
    known = dict(base_name=base.name, base_digest=base.digest)
    pipe = DefectPipeline(ClassConditionedUNet(base.unet, 2), base.vae, base.scheduler, **known)
    return pipe.save_pretrained(tmp_path_factory.mktemp("model") / "model")


def changed(model, **fields):
    "A copy of the model whose configuration says other things."
    copy = shutil.copytree(model, model.parent / "copy", dirs_exist_ok=True)
    config = json.loads((model / "config.json").read_text()) | fields
    (copy / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return copy


def test_a_model_knows_its_base(model, caplog):
    assert json.loads((model / "config.json").read_text())["base_digest"] == base_digest(str(TINY))
    assert _shareable_config(model)["base_digest"] == base_digest(str(TINY))
    again = DefectPipeline.from_pretrained(model)
    assert not caplog.records and again.base_digest == base_digest(str(TINY))


@pytest.mark.parametrize("digest, said", [("sha256:" + "0" * 64, "of other weights"), (None, "by an earlier version")])
def test_another_base_is_told_in_one_line(digest, said, model, caplog):
    DefectPipeline.from_pretrained(changed(model, base_digest=digest))
    assert len(caplog.records) == 1 and said in caplog.text and "trained again" in caplog.text


def test_what_cannot_be_compared_says_nothing(model, caplog):
    DefectPipeline.from_pretrained(changed(model, base_digest="commit:0123"))
    base = load_base("tiny")
    DefectPipeline.from_pretrained(changed(model, base_digest="sha256:0"), unet=base.unet, vae=base.vae)
    assert not caplog.records


def test_no_run_goes_on_with_other_weights(tmp_path, caplog):
    with pytest.raises(InputError, match="begun on other weights of the base tiny"):
        _check_base("sha256:1", "sha256:2", "tiny", tmp_path)
    for before, now, name in (("sha256:1", "sha256:1", "tiny"), (None, None, "tiny"), (None, "commit:1", "sd15")):
        _check_base(before, now, name, tmp_path)
    assert not caplog.records
    _check_base(None, "sha256:1", "tiny", tmp_path)
    _check_base("commit:1", "commit:2", "sd15", tmp_path)
    assert "by an earlier version" in caplog.records[0].message and "other weights" in caplog.records[1].message
