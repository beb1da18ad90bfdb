"""Class vectors that begin as the words of a text encoder: Stable Diffusion 1.5's layout, with random weights and letters for words.

The reference is diffusers' own `StableDiffusionPipeline.encode_prompt`."""

import json
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline
from hub import Hub, run_with_hub, serving
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from defect_lora.cli import main
from defect_lora.data.cables import write_cables
from defect_lora.data.files import InputError
from defect_lora.model.base import SD15, TINY, encode_words
from defect_lora.training.config import Phase, TrainConfig
from defect_lora.training.trainer import Trainer

CODE = """
import torch
torch.cuda.is_available = lambda: True
from defect_lora.data.files import InputError
from defect_lora.model.base import encode_words, load_base
load_base("sd15")
first, again = (encode_words("sd15", ["bent_wire"], local_files_only=offline) for offline in (False, True))
print(torch.equal(first, again), first.double().sum().item())
try:
    encode_words("user/plain", ["bent_wire"])
except InputError as error:
    print(error)
"""


def write_text_encoder(folder):
    "As `stable-diffusion-v1-5` has it, in both precisions; two narrow layers, and a vocabulary of letters."
    letters = [letter + end for end in ("", "</w>") for letter in "abcdefghijklmnopqrstuvwxyz"]
    (folder / "tokenizer").mkdir(parents=True)
    vocabulary = {token: i for i, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder / "tokenizer", model_max_length=77).save_pretrained(folder / "tokenizer")
    size = dict(hidden_size=768, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32, max_position_embeddings=77)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = CLIPTextModel(CLIPTextConfig(vocab_size=len(vocabulary), bos_token_id=0, eos_token_id=2, **size))  # sic
    encoder.save_pretrained(folder / "text_encoder")
    file = folder / "text_encoder" / "model.safetensors"
    halves = {name: value.half() for name, value in load_file(file).items()}
    save_file(halves, file.with_suffix(".fp16.safetensors"), {"format": "pt"})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words") / "base"
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("features"))
    write_text_encoder(folder)
    return folder


@pytest.fixture(scope="module")
def prompt_embeds(base):
    "What diffusers hands to the UNet for a text."
    parts = dict(vae=None, unet=None, scheduler=None, safety_checker=None, feature_extractor=None)
    tokenizer, encoder = CLIPTokenizer.from_pretrained(base / "tokenizer"), CLIPTextModel.from_pretrained(base / "text_encoder")
    pipe = StableDiffusionPipeline(text_encoder=encoder, tokenizer=tokenizer, requires_safety_checker=False, **parts)
    return lambda text: pipe.encode_prompt(text, "cpu", 1, False)[0][0].detach()


def test_it_is_what_cross_attention_sees(base, prompt_embeds):
    theirs = prompt_embeds("bent wire")  # start, 8 letters, end, padding
    assert theirs.shape == (77, 768)
    for tokens, start, end in ((1, 9, 10), (4, 6, 10), (10, 0, 10), (20, 0, 20), (77, 0, 77)):
        found = encode_words(base, ["good", "bent_wire"], tokens)
        assert found.shape == (2, tokens, 768) and found.dtype == torch.float32
        torch.testing.assert_close(found[1], theirs[start:end])


@pytest.fixture(scope="module")
def train(base, tmp_path_factory):
    "Makes a trainer of two steps on rendered cables."
    folder = tmp_path_factory.mktemp("runs")
    data = write_cables(folder / "data", per_class=1, size=64)
    quiet = dict(sample_every=0, evaluate_every=0, held_out_per_class=0, gradient_checkpointing=False, batch_size=9, warmup_steps=0)
    phases = [Phase("all", 2, 1e-3)]

    def make(name, base=base, **options):
        config = TrainConfig(str(data), base=str(base), size=64, phases=phases, gradient_accumulation_steps=1, **quiet | options)
        return Trainer(config, folder / name)

    return make


@pytest.mark.parametrize("tokens", [1, 3])
def test_training_begins_with_them_and_goes_on_without_the_encoder(tokens, base, train, prompt_embeds, tmp_path):
    shutil.copytree(base, copy := tmp_path / "base")
    options = dict(init_embedding="words", tokens=tokens, base=copy)
    whole = train(f"whole {tokens}", **options)
    at = whole.data.classes.index("poke_insulation")
    before = whole.model.embedding_weight().clone()
    torch.testing.assert_close(before[at], prompt_embeds("poke insulation")[16 - tokens : 16])
    assert before.dtype == torch.float32 and not any("text" in name for name, _ in whole.model.named_modules())
    whole.fit()
    assert not torch.equal(whole.model.embedding_weight(), before)
    train(f"stopped {tokens}", **options).fit(lambda row: False)
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(copy / part)
    again = train(f"stopped {tokens}", **options)
    again.fit()
    assert torch.equal(again.model.embedding_weight(), whole.model.embedding_weight())


def test_nothing_else_begins_otherwise(train):
    words, random = train("words", init_embedding="words").model, train("random").model
    found = {name for name, value in words.state_dict().items() if not torch.equal(value, random.state_dict()[name])}
    assert found == {"embedding.table.weight"}


def test_a_base_without_words_is_refused_in_one_line(train, tmp_path, capsys):
    data = write_cables(tmp_path / "data", per_class=1, size=64)
    argv = ["train", "--data", str(data), "--out", str(tmp_path / "run"), "--base", "tiny", "--size", "64", "--init-embedding"]
    assert main([*argv, "words"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("defect-lora: tiny: a base without text_encoder") and "init_embedding random" in said
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_without_its_words_is_refused(base, tmp_path):
    "transformers makes an empty one of a folder without files."
    shutil.copytree(base, tmp_path / "base")
    shutil.rmtree(tmp_path / "base" / "tokenizer")
    (tmp_path / "base" / "tokenizer").mkdir()
    with pytest.raises(InputError, match="base: its tokenizer knows . tokens, its text encoder 54; copy both"):
        encode_words(tmp_path / "base", ["good"])


def test_the_encoder_is_fetched_once(base, tmp_path):
    "And its half precision, where there is a GPU."
    hub = Hub()
    hub.add_folder(f"models/{SD15}", base)
    hub.add_folder("models/user/plain", TINY)
    with serving(hub) as address:
        done = run_with_hub(CODE, address, HF_HOME=str(tmp_path))
    wanted = {"text_encoder/config.json", "text_encoder/model.fp16.safetensors"}
    assert {name for name in hub.asked if name.startswith("text_encoder/")} == wanted, done.stderr
    found, refused = done.stdout.splitlines()
    same, total = found.split()
    assert same == "True" and float(total) == pytest.approx(encode_words(base, ["bent_wire"]).double().sum().item(), abs=0.5)
    assert refused.startswith("user/plain: its text_encoder cannot be loaded") and refused.endswith("or take init_embedding random")
