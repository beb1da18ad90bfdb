"What a step promises: every image counts the same, and what samples in another thread does not matter."

import threading

import torch

from defect_lora import DefectSpectrumDataset, TrainConfig, Trainer
from defect_lora.data.cables import render_cable
from defect_lora.model.base import load_base
from defect_lora.model.unet import ClassConditionedUNet


def trainer_of(tmp_path, images):
    data = DefectSpectrumDataset.from_images(
        [render_cable("good", i, size=64)[0] for i in range(images)], ["a", "b"] * (images // 2), size=64
    )
    config = TrainConfig.from_recipe(
        "tuned", base="tiny", rank=2, epochs=2, dropout=0.0, batch_size=4, gradient_accumulation_steps=2, mask_weight=1
    )
    trainer = Trainer(config, tmp_path / "run", data)
    trainer.data.prepare()
    trainer.enter(trainer.plan[0].phase)
    return trainer


def gradient(trainer, step):
    trainer.updates.clear()
    loss = trainer.backward(trainer.data.batch(trainer.plan[step]), step)
    return float(loss), torch.cat([p.grad.flatten().clone() for p in trainer.updates.parameters if p.grad is not None])


def test_an_image_counts_the_same_in_a_ragged_batch(tmp_path):
    trainer = trainer_of(tmp_path, 10)  # a step of eight, and one of two
    (loss, new), _ = gradient(trainer, 1), trainer.updates.follow(1)
    old_loss, old = gradient(trainer, 1)
    assert loss == old_loss and torch.allclose(new, old / 4, rtol=1e-4, atol=1e-9)
    trainer.updates.follow(2)
    (_, whole), _ = gradient(trainer, 0), trainer.updates.follow(1)
    assert torch.equal(whole, gradient(trainer, 0)[1])


def test_a_data_set_smaller_than_the_batch_takes_whole_steps(tmp_path):
    trainer = trainer_of(tmp_path, 4)
    (_, new), _ = gradient(trainer, 0), trainer.updates.follow(1)
    assert torch.equal(new, gradient(trainer, 0)[1])


def test_a_second_thread_merges_what_the_first_lets_go():
    model = ClassConditionedUNet(load_base("tiny").unet, 2, rank=2).eval()
    layers, merged, begun, seen = model._mergeable(), threading.Event(), threading.Event(), []

    def second():
        begun.set()
        with model.merged():
            seen.append(all(layer.merged for layer in layers))

    with model.merged():
        thread = threading.Thread(target=second)
        thread.start()
        begun.wait()
        merged.wait(0.5)  # it waits for the lock by now
    thread.join()
    assert layers and seen == [True] and not any(layer.merged for layer in layers)
