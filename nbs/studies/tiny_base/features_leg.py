# %% [markdown]
# # Features of the wider world
# > A small network that says which words are on a picture, the damage of cables too
#
# It judges, and it is the perceptual loss of the autoencoder; it never generates.

# %%
from pathlib import Path

import torch
import torch.nn.functional as F
import world
from legs import Clock, Now, Pool, adamw, as_input, channels_last, compiled, descend, half_precision, held_out, leg_arguments, note, read
from legs import say, set_rate, write

from defect_lora.evaluation.features import TinyFeatures, save_tiny_features


def word_weights():
    "Damage counts twice, its place not at all."
    weights = torch.ones(len(world.WORDS))
    weights[[world.INDEX[word] for word in ["intact", *world.DAMAGE, "several"]]] = 2
    weights[[world.INDEX[word] for word in world.PLACES]] = 0
    return weights


def varied(x):
    "Pictures mirrored, a quarter of them noisy, half of them blurred: what generated pictures are too."
    quarter, half = len(x) // 4, len(x) // 2
    if torch.rand(()) < 0.5:
        x = x.flip(-1)
    x[:quarter] += 0.1 * torch.rand(quarter, 1, 1, 1, device=x.device) * torch.randn_like(x[:quarter])
    soft = F.interpolate(F.avg_pool2d(x[half:], 2), scale_factor=2, mode="bilinear")
    x[half:] = torch.lerp(x[half:], soft, torch.rand(len(soft), 1, 1, 1, device=x.device))
    return channels_last(x)


# %%
def main():
    a = leg_arguments(batch=512, rate=3e-3, least=8000, capacity=150_000)
    folder, pool = Path(a.out) / "features", Pool(a.shards, a.device, a.capacity, a.least)
    features = TinyFeatures().to(a.device, memory_format=torch.channels_last)
    head, weights = torch.nn.Linear(features.dim, len(world.WORDS)).to(a.device), word_weights().to(a.device)
    if a.begin:
        read(Path(a.begin) / "features/model.safetensors", features)
        read(Path(a.begin) / "features/head.safetensors", head)
    optimizer = adamw([*features.parameters(), *head.parameters()], a.rate, a, weight_decay=0.02)

    def loss_of(x, said):
        with half_precision(a):
            logits = head(features(x))
        return (F.binary_cross_entropy_with_logits(logits.float(), said, reduction="none") * weights).sum(1).mean()

    def batch():
        i = torch.randint(0, pool.count, (a.batch,), device=a.device)
        return varied(as_input(pool.pictures[i])), pool.said[i].float()

    def save():
        save_tiny_features(features, folder)
        write(folder / "head.safetensors", head)

    step_loss, clock, step, talk, keep = compiled(loss_of, a), Clock(a.minutes, a.steps), 0, Now(10), Now(60)
    while clock.done(step) < 1:
        set_rate(optimizer, a.rate, step, clock.done(step), warm=100)
        loss = step_loss(*batch())
        descend(loss, optimizer, list(features.parameters()))
        step += 1
        if talk():
            say(f"features: step {step}, loss {loss.item():.3f}, pool {pool.count}")
        if keep():
            save()
    save()
    right = held_out_accuracy(features, head, a)
    say(f"features: {step} steps, {step * a.batch} pictures, held out:", right)
    note(folder / "log.jsonl", a, steps=step, seconds=clock.spent(), right=right)


@torch.no_grad()
def held_out_accuracy(features, head, a):
    "How often each word is judged rightly."
    x, _, said = held_out(a.shards, a.device)
    found = torch.cat([head(features(part)) for part in x.split(100)]) > 0
    hits = (found == (said > 0)).float().mean(0).tolist()
    return {word: round(hits[world.INDEX[word]], 3) for word in ["intact", *world.DAMAGE, "core3", "typical"]}


if __name__ == "__main__":
    main()
