# %% [markdown]
# # The UNet
# > Learns to generate the world in the autoencoder's latents, told by one token: the sum of the words' vectors
#
# The parts are Stable Diffusion 1.5's, the cost of a step is that of the first tiny base. It predicts v; two thirds of the timesteps lie
# where the parts take shape. A tenth of the words (of those that say where, four tenths) is left out at random, an eighth of the tokens is
# zero: the null condition.

# %%
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import torch
import torch.nn.functional as F
import world
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from legs import Average, Clock, Now, adamw, as_images, as_input, channels_last, compiled, descend, half_precision, held_out
from legs import leg_arguments, note, read, read_shard, say, set_rate, shards, sheet, write


def make_unet(latent=8):
    return UNet2DConditionModel(
        sample_size=world.SIZE // 8,
        in_channels=latent,
        out_channels=latent,
        block_out_channels=(64, 112, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=768,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def make_scheduler():
    beta = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    return DDIMScheduler(**beta, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1)


class OneToken:
    "Cross-attention on one token: its softmax is 1, so query and key do nothing."

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **kwargs):
        return attn.to_out[0](attn.to_v(encoder_hidden_states)).expand(-1, hidden_states.shape[1], -1)


class SelfAttention:
    "With heads padded to a multiple of 8."

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **kwargs):
        q, k, v = (f(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for f in (attn.to_q, attn.to_k, attn.to_v))
        width = q.shape[-1]
        q, k, v = (F.pad(t, (0, -width % 8)) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, scale=width**-0.5)[..., :width]
        return attn.to_out[0](out.transpose(1, 2).flatten(2))


@torch.no_grad()
def encode(vae, pictures, options, size=500):
    "Latents of pictures and of their mirrors: (n, 2, c, h, w), half precision."
    rows = []
    for part in pictures.split(size):
        x = channels_last(as_input(part))
        with half_precision(options):
            both = [vae.encode(side).latent_dist.mean for side in (x, x.flip(-1))]
        rows.append(torch.stack(both, 1).mul(vae.config.scaling_factor).half())
    return torch.cat(rows)


@torch.no_grad()
def generate(unet, vocabulary, scheduler, said, n, guidance=4.0, steps=25, seed=0):
    "Latents of n pictures of what each list of words says, seeded."
    device = vocabulary.weight.device
    token = torch.stack([vocabulary.weight[[world.INDEX[word] for word in words]].sum(0) for words in said])
    token = token.repeat_interleave(n, 0)[:, None]
    tokens = torch.cat([torch.zeros_like(token), token])
    shape, chance = (n, unet.config.in_channels, world.SIZE // 8, world.SIZE // 8), torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=chance).to(device).repeat(len(said), 1, 1, 1)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        null, told = unet(torch.cat([x, x]), t.to(device), tokens).sample.float().chunk(2)
        x = scheduler.step(null + guidance * (told - null), t, x).prev_sample
    return x


SHOWN = [
    ["cable", "core3", "typical"],
    *(["connector", "core3", word] for word in ("intact", "missing", "thinned", "torn", "bent", "swapped", "notched", "splintered")),
    ["plug", "missing"],
    ["tile", "grayscale", "hole"],
    ["plate", "grayscale", "cracked"],
    ["cloth", "stain"],
    ["wood", "scratch"],
    ["gear", "missing"],
    ["capsule", "cracked"],
]


# %% [markdown]
# Pictures are read from the disk once and only their latents stay, so that 240,000 scenes fit on a device.


# %%
class Latents:
    "Latents and told words of the shards; `top_up` encodes what was rendered since."

    def __init__(self, vae, options):
        self.vae, self.a, self.count, self.seen = vae, options, 0, set()
        side, device = world.SIZE // 8, options.device
        self.latents = torch.zeros(options.capacity, 2, vae.config.latent_channels, side, side, dtype=torch.float16, device=device)
        self.told = torch.zeros(options.capacity, len(world.WORDS), dtype=torch.uint8, device=device)
        self.mirror = torch.tensor(world.MIRROR, device=device)
        self.leave_out = torch.tensor([0.4 if word in world.PLACES else 0.1 for word in world.WORDS], device=device)
        while self.count < min(options.least, options.capacity):
            self.top_up(10.0)
            time.sleep(0.2)

    def top_up(self, seconds):
        "Encode new shards for at most so long."
        start = time.time()
        for path in [path for path in shards(self.a.shards) if path.stem not in self.seen]:
            shard = read_shard(path, self.a.device)
            rows = slice(self.count, self.count + len(shard["pictures"]))
            if rows.stop > len(self.latents) or time.time() - start > seconds:
                break
            self.latents[rows], self.told[rows] = encode(self.vae, shard["pictures"], self.a), shard["told"]
            self.seen.add(path.stem)
            self.count = rows.stop
        say(f"unet: {self.count} pictures encoded, {time.time() - start:.1f} s")

    def batch(self):
        "Latents, noise, timesteps, words said, and 0 for the null condition."
        n, device = self.a.batch, self.a.device
        i, mirrored = torch.randint(0, self.count, (n,), device=device), torch.randint(0, 2, (n,), device=device)
        x, said = self.latents[i, mirrored].float(), self.told[i]
        said = torch.where(mirrored[:, None] > 0, said[:, self.mirror], said)
        said = said * (torch.rand(said.shape, device=device) > self.leave_out)
        middle, any_time = (torch.randint(low, high, (n,), device=device) for low, high in ((120, 700), (0, 1000)))
        t = torch.where(torch.rand(n, device=device) < 0.65, middle, any_time)
        return x, torch.randn_like(x), t, said.float(), (torch.rand(n, 1, device=device) > 0.12).float()


# %%
class Leg:
    def __init__(self, options):
        self.a, self.out = options, Path(options.out)
        begin = Path(options.begin) if options.begin else None
        if not (self.out / "vae/config.json").exists():  # the folder is to be a whole base
            shutil.copytree(begin / "vae", self.out / "vae")
        self.vae = AutoencoderKL.from_pretrained(self.out / "vae").to(options.device, memory_format=torch.channels_last)
        self.vae.eval().requires_grad_(False)
        self.unet, self.vocabulary, self.scheduler = make_unet(), torch.nn.Embedding(len(world.WORDS), 768), make_scheduler()
        torch.nn.init.normal_(self.vocabulary.weight, std=0.3)
        if begin and (begin / "vocabulary.safetensors").exists():
            read(begin / "unet/diffusion_pytorch_model.safetensors", self.unet)
            read(begin / "vocabulary.safetensors", self.vocabulary)
        self.unet = self.unet.to(options.device, memory_format=torch.channels_last)
        self.vocabulary = self.vocabulary.to(options.device)
        self.stock = self.unet.attn_processors
        self.unet.set_attn_processor({name: OneToken() if "attn2" in name else SelfAttention() for name in self.stock})
        self.alphas, self.step = self.scheduler.alphas_cumprod.to(options.device), 0
        self.learn = [*self.unet.parameters(), *self.vocabulary.parameters()]
        self.optimizer = adamw(self.learn, options.rate, options, weight_decay=0.01, betas=(0.9, 0.99))
        self.averages = [Average(self.unet), Average(self.vocabulary)]
        self.loss = compiled(self._loss, options)

    def _loss(self, x, noise, t, said, unsaid):
        "said: share of each word, 0 or 1; unsaid: 0 is the null condition."
        alpha = self.alphas[t][:, None, None, None]
        p, q = alpha.sqrt(), (1 - alpha).sqrt()
        token = ((said @ self.vocabulary.weight) * unsaid)[:, None]
        with half_precision(self.a):
            v = self.unet(p * x + q * noise, t, token, return_dict=False)[0]
        return F.mse_loss(v.float(), p * noise - q * x)

    def train_step(self, batch, done):
        set_rate(self.optimizer, self.a.rate, self.step, done, warm=300, flat=self.a.flat)
        loss = self.loss(*batch)
        descend(loss, self.optimizer, self.learn)
        self.step += 1
        for average in self.averages:
            average.update(min(0.9993, (1 + self.step) / (10 + self.step)))
        return loss

    def averaged(self):
        "Inside `with`, the networks have their averages' parameters and are in evaluation mode."
        stack = ExitStack()
        for average in self.averages:
            stack.enter_context(average)
        self.unet.eval()
        stack.callback(self.unet.train)
        return stack

    def hold_out(self):
        "Held-out latents with fixed noise and timesteps."
        pictures, told, _ = held_out(self.a.shards, self.a.device)
        with torch.no_grad():
            x = torch.cat([self.vae.encode(part).latent_dist.mean for part in pictures.split(100)]) * self.vae.config.scaling_factor
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
        t = torch.linspace(20, 980, len(x)).long()[order]
        self.held = x, noise.to(x.device), t.to(x.device), told.float(), torch.ones(len(x), 1, device=x.device)

    @torch.no_grad()
    def check(self):
        "Loss on what was held out."
        parts = list(zip(*(tensor.split(250) for tensor in self.held)))
        with self.averaged():
            losses = [self._loss(*part).item() * len(part[0]) for part in parts]
        return sum(losses) / len(self.held[0])

    def save(self):
        with self.averaged():
            self.unet.save_config(self.out / "unet")
            write(self.out / "unet/diffusion_pytorch_model.safetensors", self.unet, half=True)
            write(self.out / "vocabulary.safetensors", self.vocabulary, half=True)
        self.scheduler.save_pretrained(self.out / "scheduler")

    @torch.no_grad()
    def preview(self, n):
        "A sheet of what the words look like; the stock attention shows that the base needs none of ours."
        self.unet.set_attn_processor(self.stock)
        with self.averaged():
            z = generate(self.unet, self.vocabulary, self.scheduler, SHOWN, n)
        pictures = torch.cat([self.vae.decode(part / self.vae.config.scaling_factor).sample for part in z.split(48)])
        sheet(self.out / "unet.png", as_images(pictures), 2 * n)


# %%
def main():
    a = leg_arguments(batch=512, rate=1.2e-3, capacity=240_000, least=8000, flat=0.35, saveevery=60.0, topup=15.0, stop=90.0, preview=6)
    leg = Leg(a)
    pool = Latents(leg.vae, a)
    leg.hold_out()
    clock, talk, keep, more = Clock(a.minutes, a.steps), Now(15), Now(a.saveevery), Now(a.topup)
    while clock.done(leg.step) < 1:
        loss = leg.train_step(pool.batch(), clock.done(leg.step))
        if talk():
            say(f"unet: step {leg.step}, loss {loss.item():.4f}, {leg.step * a.batch / clock.spent():.0f} pictures/s")
        if keep():
            say(f"unet: held out {leg.check():.4f}")
            leg.save()
        if pool.count < a.capacity and more():
            pool.top_up(4.0)
        if clock.spent() > a.stop:  # the processors are wanted elsewhere
            (Path(a.shards) / "stop").touch()
    leg.save()
    seconds = clock.spent()
    say(f"unet: {leg.step} steps, {leg.step * a.batch} pictures of {pool.count} scenes, {seconds:.0f} s, held out {leg.check():.4f}")
    note(leg.out / "unet_log.jsonl", a, steps=leg.step, scenes=pool.count, seconds=seconds)
    if a.preview:
        leg.preview(a.preview)


if __name__ == "__main__":
    main()
