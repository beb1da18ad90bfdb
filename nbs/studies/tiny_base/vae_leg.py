# %% [markdown]
# # The autoencoder
# > Reconstruction, perception by the features' maps, an adversary that sees the latents, latents that bear noise and halving
#
# Losses: absolute and squared error, the same on gradients at two scales, distance in the features' maps (each map's channels at unit
# length), a small KL term, and scale equivariance: latents averaged 2 x 2 decode to the picture averaged 2 x 2. Half of the latents get
# noise of up to a quarter of their spread. From a share of the time on, a discriminator with hinge loss, spectral norms and no strided
# convolutions (averages, so that no pixel phase is special) sees pictures small and, with the latents, large; feature matching goes with
# it. Both gradients meet at the decoded picture, where the adversary's is scaled to a share of the reconstruction's.

# %%
import json
from pathlib import Path

import torch
import torch.nn.functional as F
import world
from diffusers import AutoencoderKL
from legs import Average, Clock, Now, Pool, adamw, as_images, as_input, channels_last, compiled, half_precision, held_out, laplacian
from legs import leg_arguments, note, psnr, read, say, set_rate, sheet, write
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from defect_lora.evaluation.features import load_tiny_features


def make_vae(channels=(32, 48, 64, 64), latent=8):
    "The untrained network passes its input through: orthogonal weights, residual branches near zero."
    vae = AutoencoderKL(
        sample_size=world.SIZE,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=latent,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    for name, layer in vae.named_modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.orthogonal_(layer.weight, 0.05 if name.endswith("conv2") else 1.0)
            nn.init.zeros_(layer.bias)
    for coder in (vae.encoder, vae.decoder):
        coder.mid_block.attentions[0].to_out[0].weight.data.mul_(0.05)
    return vae


def conv(channels_in, channels_out, side=3):
    return spectral_norm(nn.Conv2d(channels_in, channels_out, side, padding=side // 2))


def halved(x):
    return F.avg_pool2d(x, 2)


def leaky(x):
    return F.leaky_relu(x, 0.2)


class Critic(nn.Module):
    "Is a patch real? Once at half size by texture alone, once at an eighth of the size beside the latents."

    def __init__(self, latent=8, c=(32, 64, 128, 160)):
        super().__init__()
        self.one, self.two, self.three, self.four = conv(3, c[0]), conv(c[0], c[1]), conv(c[1], c[2]), conv(c[2], c[3])
        self.latents, self.last = conv(latent, c[3], 1), conv(c[3], c[3])
        self.fine, self.mid, self.coarse = conv(c[1], 1, 1), conv(c[2], 1), conv(c[3], 1)

    def forward(self, x, z):
        one = leaky(self.one(x))
        two = leaky(self.two(halved(one)))
        three = leaky(self.three(halved(two)))
        four = leaky(self.four(halved(three)))
        last = leaky(self.last(four + self.latents(z)))
        return (self.fine(two), self.mid(three), self.coarse(last)), (one, two, three, last)


# %%
def gradient_loss(a, b):
    d = a - b
    return (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()


def pixel_loss(r, x):
    error = (r - x).abs().mean() + 0.5 * F.mse_loss(r, x)
    return error + 0.5 * gradient_loss(r, x) + 0.5 * gradient_loss(halved(r), halved(x))


def unit(maps):
    return maps * torch.rsqrt(maps.square().sum(1, keepdim=True) + 1e-4)


def perceptual(features, r, x):
    pairs = zip(features.maps(r), features.maps(x))
    return sum((unit(p.float()) - unit(q.float())).square().sum(1).mean() for p, q in pairs)


def spectra(x, side=16):
    "Log power of overlapping windows: what a texture is like, wherever its grains lie."
    windows = x.float().unfold(2, side, side // 2).unfold(3, side, side // 2)
    fade = torch.hann_window(side, device=x.device)
    return torch.log(torch.fft.rfft2(windows * fade[:, None] * fade).abs().square() + 0.03)


def hinge(real, fake):
    return sum(F.relu(1 - p.float()).mean() + F.relu(1 + q.float()).mean() for p, q in zip(real, fake))


def shifted(*pictures):
    "Shifted alike by up to 15 pixels: the features' strided convolutions leave a weave where they always see the same phase."
    by = tuple(torch.randint(0, 16, (2,)).tolist())
    return [channels_last(picture.roll(by, (2, 3))) for picture in pictures]


def varied(x):
    "Pictures mirrored or transposed, a quarter of them in other colours than the world's."
    n = len(x)
    if torch.rand(()) < 0.5:
        x = x.flip(-1)
    x[: n // 6] = x[: n // 6, torch.randperm(3).to(x.device)]
    x[n // 6 : n // 4] = -x[n // 6 : n // 4]
    if torch.rand(()) < 0.5:
        x = torch.cat([x[: n // 4].transpose(2, 3), x[n // 4 :]])
    return channels_last(x)


# %% [markdown]
# In the code, x is a picture, r its reconstruction, z its latents, noise what is added to them.


# %%
class Leg:
    def __init__(self, options):
        self.a, self.out, self.begin = options, Path(options.out), Path(options.begin) if options.begin else None
        self.vae, self.critic, scaling = make_vae(), Critic(), 1.0
        if self.begin:
            scaling = self._read()
        self.vae, self.critic, self.features = (self._moved(net) for net in (self.vae, self.critic, self._features()))
        if options.frozen:
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)
        self.learn = [p for p in self.vae.parameters() if p.requires_grad]
        self.optimizer = adamw(self.learn, options.rate, options, weight_decay=1e-4, betas=(0.9, 0.99))
        self.against = adamw(self.critic.parameters(), options.criticrate, options, weight_decay=1e-4, betas=(0.5, 0.95))
        self.average, self.scaling, self.spread = Average(self.vae), scaling, torch.full((), 1 / scaling, device=options.device)
        self.step, self.first = 0, None  # the critic's first step
        self.forward, self.likeness, self.fooling, self.judging = (
            compiled(part, options) for part in (self._forward, self._likeness, self._fooling, self._judging)
        )

    def _read(self):
        "Go on from a folder; returns the scaling factor of its latents."
        read(self.begin / "vae/diffusion_pytorch_model.safetensors", self.vae)
        if (self.begin / "critic.safetensors").exists():
            read(self.begin / "critic.safetensors", self.critic)
        return json.loads((self.begin / "vae/config.json").read_text())["scaling_factor"]

    def _moved(self, network):
        return network.to(self.a.device, memory_format=torch.channels_last)

    def _features(self):
        "Those that this run trained, else the ones of the folder that it goes on from, else the package's."
        folders = [folder / "features" for folder in (self.out, self.begin) if folder]
        return load_tiny_features(next((folder for folder in folders if (folder / "model.safetensors").exists()), None))

    def _forward_crop(self, x, noise, i, j):
        "The frozen encoder sees whole pictures, the decoder a square of their latents: a quarter of the cost."
        k = self.a.crop
        with torch.no_grad():
            mean = self.vae.quant_conv(self.vae.encoder(x)).float().chunk(2, 1)[0]
        z = mean[..., i : i + k, j : j + k]
        r = self.vae.decoder(self.vae.post_quant_conv(z + noise)).float()
        return r, z, r.new_zeros(()).requires_grad_(), mean.std()

    def _forward(self, x, posterior, noise):
        with half_precision(self.a):
            mean, logvar = self.vae.quant_conv(self.vae.encoder(x)).float().chunk(2, 1)
            logvar = logvar.clamp(-30, 20)
            deviation = (0.5 * logvar).exp()
            z = mean + deviation * posterior
            r = self.vae.decoder(self.vae.post_quant_conv(z + noise)).float()
            few = x[: len(x) // 4]
            small = self.vae.decoder(self.vae.post_quant_conv(halved(z[: len(few)]))).float()
        kl = (mean**2 + deviation**2 - 1 - logvar).mean()
        same = (small - halved(few)).abs().mean() + 0.5 * F.mse_loss(small, halved(few))
        return r, z, self.a.kl * kl + 0.25 * same, mean.std()

    def _likeness(self, r, x, shifted_r, shifted_x):
        with half_precision(self.a):
            far = perceptual(self.features, shifted_r, shifted_x)
        texture = (spectra(shifted_r) - spectra(shifted_x)).abs().mean() if self.a.spectrum else 0
        return pixel_loss(r, x) + self.a.perception * far + self.a.spectrum * texture

    def _fooling(self, r, x, z):
        with half_precision(self.a):
            logits, maps = self.critic(r, z)
            with torch.no_grad():
                _, real = self.critic(x, z)
        matching = sum(F.l1_loss(p.float(), q.float()) for p, q in zip(maps, real)) / 4
        return sum(-logit.float().mean() for logit in logits) / 3 + 3 * matching

    def _judging(self, r, x, z):
        with half_precision(self.a):
            fake, _ = self.critic(r, z)
            real, _ = self.critic(x, z)
        return hinge(real, fake)

    def _reconstruct(self, x, done):
        "Picture (a part of it), reconstruction, latents, noise on them, other losses, the latents' spread."
        n, side, device = len(x), world.SIZE // 8, x.device
        odd = (torch.arange(n, device=device) % 2)[:, None, None, None]
        posterior, noise = (torch.randn(n, 8, side, side, device=device) for _ in range(2))
        noise = self.a.noise * self.spread * torch.rand(n, 1, 1, 1, device=device) * odd * noise
        k = self.a.crop
        if not (k and self.a.frozen and done < 0.85):
            r, z, rest, spread = self.forward(x, posterior, noise)
            return x, r, z, noise, rest, spread
        i, j = torch.randint(0, side - k + 1, (2,)).tolist()
        r, z, rest, spread = self._forward_crop(x, noise[..., :k, :k], i, j)
        return channels_last(x[..., 8 * i : 8 * (i + k), 8 * j : 8 * (j + k)]), r, z, noise[..., :k, :k], rest, spread

    def _adversary(self, r, x, z, gradient):
        "The critic's step, and the reconstruction's gradient with a share of the critic's."
        if self.step - self.first >= self.a.criticwarm:
            self.critic.requires_grad_(False)
            (other,) = torch.autograd.grad(self.fooling(r, x, z), r)
            self.critic.requires_grad_(True)
            gradient = gradient + self.a.share * other * (gradient.flatten().norm() / other.flatten().norm().clamp_min(1e-12))
        lost = self.judging(r.detach(), x, z)
        self.against.zero_grad()
        lost.backward()
        self.against.step()
        return gradient, lost

    def train_step(self, x, done):
        "One step on a batch; returns losses by name."
        set_rate(self.optimizer, self.a.rate * (1 if self.first is None else 0.5), self.step, done, warm=200)
        set_rate(self.against, self.a.criticrate, self.step, 0.5 * done, warm=1)
        if self.first is None and done >= self.a.adversary:
            self.first = self.step
            say(f"vae: the critic begins at step {self.step}")
        x, r, z, noise, rest, spread = self._reconstruct(x, done)
        self.spread.lerp_(spread.detach(), 0.02)
        leaf = r.detach().requires_grad_()
        like = self.likeness(leaf, x, *shifted(leaf, x))
        (gradient,) = torch.autograd.grad(like, leaf)
        losses = dict(likeness=like, rest=rest)
        if self.first is not None:
            gradient, losses["critic"] = self._adversary(leaf, x, (z + noise).detach() / self.spread, gradient)
        self.optimizer.zero_grad()
        torch.autograd.backward([r, rest], [gradient, torch.ones_like(rest)])
        torch.nn.utils.clip_grad_norm_(self.learn, 1.0)
        self.optimizer.step()
        self.step += 1
        self.average.update(min(0.998, self.step / (self.step + 20)))
        return losses

    def save(self):
        with self.average:
            self.vae.register_to_config(scaling_factor=self.scaling if self.a.frozen else round(1 / float(self.spread), 4))
            self.vae.save_config(self.out / "vae")
            write(self.out / "vae/diffusion_pytorch_model.safetensors", self.vae, half=True)
        write(self.out / "critic.safetensors", self.critic, half=True)

    @torch.no_grad()
    def show(self, x):
        "Measure held-out pictures, and take the latents' spread from them."
        with self.average:
            self.vae.eval()
            z = torch.cat([self.vae.encode(part).latent_dist.mean for part in x.split(50)])
            r = self._decode(z)
            noisy = self._decode(z[:200] + 0.25 * z.std() * torch.randn_like(z[:200]))
            self.vae.train()
        self.spread.copy_(z.std())
        sharpness = laplacian(r).median() / laplacian(x).median()
        rough = (z - F.interpolate(halved(z), scale_factor=2)).var() / z.var()
        say(f"vae: held out {psnr(r, x):.2f} dB, sharpness {sharpness:.3f}, with noise {psnr(noisy, x[:200]):.2f} dB")
        say(f"vae: latents' spread {z.std():.3f}, mean {z.mean():.3f}, rough share {rough:.3f}")
        triples = zip(as_images(x[:24]), as_images(r[:24]), as_images(noisy[:24]))
        sheet(self.out / "vae.png", [image for triple in triples for image in triple], 12)

    def _decode(self, z):
        return torch.cat([self.vae.decode(part).sample for part in z.split(50)])


# %%
def main():
    losses = dict(adversary=0.55, share=0.15, criticrate=2e-4, criticwarm=200, kl=1e-3, perception=0.3, spectrum=0.0, noise=0.25)
    a = leg_arguments(batch=96, rate=2e-3, capacity=250_000, least=8000, frozen=0, crop=0, held=400, saveevery=60.0, **losses)
    pool, leg = Pool(a.shards, a.device, a.capacity, a.least), Leg(a)
    held = channels_last(held_out(a.shards, a.device)[0][: a.held])
    clock, talk, keep = Clock(a.minutes, a.steps), Now(15), Now(a.saveevery)
    while clock.done(leg.step) < 1:
        x = as_input(pool.pictures[torch.randint(0, pool.count, (a.batch,), device=a.device)])
        losses = leg.train_step(varied(x), clock.done(leg.step))
        if talk():
            say(f"vae: step {leg.step},", ", ".join(f"{name} {loss.item():.4f}" for name, loss in losses.items()))
        if keep():
            leg.show(held)
            leg.save()
    leg.show(held)
    leg.save()
    say(f"vae: {leg.step} steps, {leg.step * a.batch} pictures, {clock.spent():.0f} s")
    note(leg.out / "vae_log.jsonl", a, steps=leg.step, seconds=clock.spent())


if __name__ == "__main__":
    main()
