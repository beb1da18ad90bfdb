# %% [markdown]
# # A wider rendered world
# > Scenes for a tiny base: cables, and many other products with damage of many shapes
#
# A scene is a picture of 128 x 128 pixels and its words. What a cable suffers is never among the words that the generator is told; damage
# is named on other products only: connectors in arbitrary colours, plugs, ribbons, screws, capsules, rings, gears, and flat material. The
# picture of scene `i` is a function of `i` alone.

# %%
import math
import sys
import time
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from defect_lora.data import cables
from defect_lora.data.cables import (
    Bundle,
    Core,
    jitter_color,
    octave_noise,
    render_bundle,
    sample_bundle,
    scale_color,
    torn_strip,
    wobbly_circle,
)

SIZE = 128
ROUND, OBJECTS = ["cable", "connector"], ["plug", "ribbon", "screw", "capsule", "ring", "gear"]
FLAT = ["tile", "plate", "cloth", "wood", "leather", "mesh", "slab"]
DAMAGE = ["missing", "thinned", "torn", "bent", "swapped", "notched", "splintered", "cracked", "hole", "stain", "scratch", "dent"]
CORES, PLACES = [f"core{k}" for k in range(1, 7)], [f"at{k}" for k in range(8)]  # how many cores; where damage is, by eighths of a turn
WORDS = [*ROUND, *OBJECTS, *FLAT, "intact", *DAMAGE, "several", *CORES, "grayscale", "typical", "dark", *PLACES]
INDEX = {word: i for i, word in enumerate(WORDS)}
MIRROR = [INDEX[f"at{(3 - int(w[2:])) % 8}"] if w in PLACES else i for i, w in enumerate(WORDS)]  # what a word becomes in a mirror
TAU = 2 * math.pi

# %% [markdown]
# Soft shadows take a fifth of the time of a part: blurring only where there is something to blur gives the same picture.
# Parts are rendered by internals of `defect_lora.data.cables`, so that both kinds look alike.


# %%
class Canvas(cables._Canvas):
    "A canvas whose shadows cost less."

    def shadow(self, points, blur, strength):
        "Darken what lies under a blurred polygon, blurring only around it."
        corners, edge = np.asarray(points, np.float32), 4 * blur + 2
        x0, y0 = (int(v) for v in np.maximum(corners.min(0) - edge, 0))
        x1, y1 = (int(v) for v in np.minimum(corners.max(0) + edge + 1, self.picture.size))
        if x1 > x0 and y1 > y0:
            shape = Image.new("L", (x1 - x0, y1 - y0))
            ImageDraw.Draw(shape).polygon([(x - x0, y - y0) for x, y in points], fill=int(255 * strength))
            self.picture.paste((8, 10, 14), (x0, y0), shape.filter(ImageFilter.GaussianBlur(blur)))


def color(rng, lo=20, hi=240):
    "Any colour; the duller, the commoner."
    c = rng.uniform(lo, hi, 3)
    return tuple(int(v) for v in c.mean() + (c - c.mean()) * rng.uniform(0.1, 1))


def grey(c):
    return (int(sum(c) / 3),) * 3


def pick(rng, items, p=None):
    return items[int(rng.choice(len(items), p=p))]


def places(angles):
    return [PLACES[int(a % TAU / TAU * 8) % 8] for a in angles]


def developed(rng, canvas, light=None, plain=False):
    "Reduce, light and grain; other cameras than the factory's are blurred or noisy too."
    if not plain and rng.random() < 0.2:
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.6)))
    x = np.asarray(canvas.resize((SIZE, SIZE), Image.LANCZOS if plain or rng.random() < 0.7 else Image.BOX), np.float32)
    light = light or Bundle(light=rng.uniform(0.75, 1.25), slope=tuple(rng.normal(0, 0.12, 2)))
    u = np.linspace(-1, 1, SIZE, dtype=np.float32)
    x = x * (light.light * (1 + light.slope[0] * u[:, None] + light.slope[1] * u))[..., None]
    noise = 2.0 if plain or rng.random() < 0.5 else rng.uniform(0.3, 6)
    flat = not plain and rng.random() < 0.3
    x = x + noise * (rng.standard_normal((SIZE, SIZE, 1), np.float32) if flat else rng.standard_normal(x.shape, np.float32))
    return np.clip(x, 0, 255).astype(np.uint8)


# %% [markdown]
# ## Round products
# The factory's cable is rendered by the package's own code. A connector has one to six cores in any colour, and damage in more shapes than
# the cable knows.


# %%
def typical_bundle(rng):
    "A three-core part whose colours are near the factory's."
    bundle, k = sample_bundle(rng), rng.choice([rng.uniform(0, 6), rng.uniform(0, 25)])
    bundle.sheath, bundle.filler, bundle.ground = (jitter_color(rng, c, k) for c in (bundle.sheath, bundle.filler, bundle.ground))
    bundle.cores = [replace(c, color=jitter_color(rng, c.color, k)) for c in bundle.cores]
    return bundle


def random_core(rng, bundle, turn, d, r):
    a = turn + rng.normal(0, 0.03)
    return Core(
        bundle.x + d * math.cos(a),
        bundle.y + d * math.sin(a),
        r,
        color(rng, 20, 230),
        color(rng) if rng.random() < 0.25 else None,
        float(rng.choice([0.1, 0.5, 0.95])),
        int(rng.choice([2, 3, 3, 3, 4])),
        rng.uniform(0.4, 0.62),
    )


def random_bundle(rng, n):
    "A round part with n cores, in any colour and turn."
    turn, dark = rng.uniform(0, TAU), rng.uniform(0.3, 1) if rng.random() < 0.2 else 1
    bundle = Bundle(
        x=0.5 + rng.normal(0, 0.02),
        y=0.5 + rng.normal(0, 0.02),
        radius=rng.uniform(0.36, 0.46),
        wall=rng.uniform(0.04, 0.09),
        lobes=rng.uniform(0, 0.04),
        turn=turn,
        sheath=color(rng, 40, 250),
        filler=color(rng, 30, 210),
        ground=color(rng, 10, 190),
        light=dark * rng.uniform(0.8, 1.2),
        slope=tuple(rng.normal(0, 0.08, 2)),
    )
    inner = bundle.radius - bundle.wall
    r = {1: 0.55, 2: 0.42, 3: 0.42, 4: 0.37, 5: 0.33, 6: 0.3}[n] * inner * rng.uniform(0.85, 1.08)
    d = 0 if n == 1 else min(inner - r * 1.02, max(inner * 0.55, r / math.sin(math.pi / n) * 1.02))
    bundle.cores = [random_core(rng, bundle, turn + TAU * i / n, d, r) for i in range(n)]
    if n > 3 and rng.random() < 0.3:
        bundle.cores[0] = replace(bundle.cores[0], x=bundle.x, y=bundle.y)  # one in the middle
    return bundle


CORE_FAULTS = {"missing": "missing_core", "thinned": "missing_strands", "torn": "cut_core", "bent": "bent", "swapped": "swapped"}
SHEATH_FAULTS = {"notched": "cut_sheath", "splintered": "poke"}


def faults_of(rng, bundle, names):
    "Places for the named damage: (core's index -> faults, (name, angle) of the sheath's, names used, angles)."
    n, cores, sheath, used = len(bundle.cores), {}, [], []
    free = list(rng.permutation(n))
    for fault in names:
        if fault in CORE_FAULTS:
            if not free or (fault == "swapped" and n < 2):
                continue
            i = int(free.pop())
            cores[i] = fault
            if fault == "swapped":
                j = (i + int(rng.integers(1, n))) % n
                bundle.cores[i] = replace(bundle.cores[i], color=bundle.cores[j].color, patch=bundle.cores[j].patch)
        else:
            sheath.append((fault, float(rng.uniform(0, TAU))))
        used.append(fault)
    return (
        cores,
        sheath,
        used,
        [a for _, a in sheath] + [math.atan2(bundle.cores[i].y - bundle.y, bundle.cores[i].x - bundle.x) for i in cores if n > 1],
    )


def cable(rng):
    "A cable: picture, words told to the generator, all words. Its damage is not told."
    typical = rng.random() < 0.72
    n = 3 if typical or rng.random() < 0.5 else pick(rng, [1, 2, 3, 4, 5, 6])
    bundle = typical_bundle(rng) if typical else random_bundle(rng, n)
    names = rng.choice([*CORE_FAULTS, *SHEATH_FAULTS], pick(rng, [0, 1, 1, 1, 1, 2]), replace=False)
    cores, sheath, used, _ = faults_of(rng, bundle, names)
    told = ["cable", f"core{n}"] + ["typical"] * typical
    image, _ = render_bundle(
        bundle, rng, SIZE, {i: {CORE_FAULTS[fault]} for i, fault in cores.items()}, tuple((SHEATH_FAULTS[fault], a) for fault, a in sheath)
    )
    return np.asarray(image), told, told + (used or ["intact"]) + ["several"] * (len(used) > 1)


# %%
def bend_more(canvas, core, rng):
    "Strands that leave the bundle: few or many, short or long, straight or curled."
    n = canvas.size[0]
    draw, r, a0 = ImageDraw.Draw(canvas), core.radius * n, rng.uniform(0, TAU)
    spread, curl, reach = rng.uniform(0.1, 0.8), rng.uniform(0, 0.8), rng.uniform(0.5, 1.5)
    for _ in range(rng.integers(2, 17)):
        a, b, s = a0 + rng.normal(0, spread), rng.uniform(0, TAU), rng.uniform(0, 0.5) * core.copper * r
        x, y = core.x * n + s * math.cos(b), core.y * n + s * math.sin(b)
        length, bow, w = rng.uniform(0.7, 1.2) * reach * r, rng.normal(0, curl), max(2, int(r * rng.uniform(0.06, 0.14)))
        p = [(x + q * length * math.cos(a + bow * q), y + q * length * math.sin(a + bow * q)) for q in np.linspace(0, 1, 7)]
        bright = rng.random() < 0.6
        draw.line(p, fill=(26, 18, 16), width=w + max(2, w // 2), joint="curve")
        draw.line(p, fill=(96, 60, 46) if bright else (48, 34, 30), width=w, joint="curve")
        if bright:
            draw.line(p[1:], fill=scale_color((235, 208, 190), rng.uniform(0.7, 1)), width=max(1, w // 2), joint="curve")
        draw.ellipse(cables._disc(*p[-1], w * 0.5), fill=(245, 228, 214))


def slash(canvas, core, rng):
    "A thin cut, or a bite, through one core's insulation."
    n = canvas.size[0]
    draw, r, a = ImageDraw.Draw(canvas), core.radius * n, rng.uniform(0, TAU)
    x, y = core.x * n + 0.65 * r * math.cos(a), core.y * n + 0.65 * r * math.sin(a)
    if rng.random() < 0.5:
        draw.polygon(
            torn_strip(
                rng, x - 0.4 * r * math.cos(a), y - 0.4 * r * math.sin(a), 0.9 * r, r * rng.uniform(0.05, 0.14), a + rng.normal(0, 0.7)
            ),
            fill=scale_color((44, 28, 24), rng.uniform(0.6, 1.5)),
        )
    else:
        draw.polygon(
            wobbly_circle(rng, core.x * n + 0.85 * r * math.cos(a), core.y * n + 0.85 * r * math.sin(a), r * rng.uniform(0.15, 0.35), 0.15),
            fill=scale_color(core.color, rng.uniform(0.15, 0.5)),
        )


def chip(canvas, bundle, rng, angle):
    "A piece that broke out of the sheath's rim."
    n = canvas.size[0]
    r = (bundle.radius - rng.uniform(0, bundle.wall)) * n
    ImageDraw.Draw(canvas).polygon(
        wobbly_circle(rng, bundle.x * n + r * math.cos(angle), bundle.y * n + r * math.sin(angle), n * rng.uniform(0.03, 0.08), 0.2, 14),
        fill=scale_color(bundle.ground, rng.uniform(0.3, 0.9)),
    )


def mark(canvas, bundle, rng, angle, name):
    "A crack, stain, scratch, hole or dent on a round part."
    n = canvas.size[0]
    r = bundle.radius * rng.uniform(0.2, 0.95) * n
    FLAT_FAULTS[name](
        rng, canvas, bundle.x * n + r * math.cos(angle), bundle.y * n + r * math.sin(angle), bundle.sheath, n, rng.uniform(0.4, 0.8)
    )


def connector(rng):
    "A connector, whose damage has a name."
    n = 3 if rng.random() < 0.6 else pick(rng, [1, 2, 4, 5, 6])
    bundle = random_bundle(rng, n)
    k = pick(rng, [0, 1, 1, 1, 1, 2])
    known, more = [*CORE_FAULTS, *SHEATH_FAULTS], ["cracked", "stain", "scratch", "hole", "dent"]
    cores, sheath, used, angles = faults_of(
        rng, bundle, [str(fault) for fault in rng.choice(known + more, k, replace=False, p=[0.12] * 7 + [0.032] * 5)]
    )
    size = 2 * SIZE
    canvas = cables._render_ground(rng, size, bundle.ground)
    cables._render_sheath(Canvas(canvas), bundle, rng)
    for fault, a in sheath:
        if fault == "notched":
            cables._cut_sheath(Canvas(canvas), bundle, rng, a) if rng.random() < 0.65 else chip(canvas, bundle, rng, a)
    for i, c in enumerate(bundle.cores):
        fault = cores.get(i)
        if fault == "missing" and rng.random() < 0.8:
            cables._empty_hole(Canvas(canvas), c, rng)
            continue
        cables._render_insulation(Canvas(canvas), c, rng)
        if fault == "missing":
            ImageDraw.Draw(canvas).ellipse(
                cables._disc(c.x * size, c.y * size, c.copper * c.radius * size), fill=scale_color((30, 26, 24), rng.uniform(0.4, 1.6))
            )
            continue  # its strands are gone
        cables._render_strands(Canvas(canvas), c, rng, cables._thin_strands(c, rng) if fault == "thinned" else None)
        if fault == "torn":
            cables._cut_core(Canvas(canvas), c, rng) if rng.random() < 0.65 else slash(canvas, c, rng)
    for i, fault in cores.items():
        if fault == "bent":
            cables._bend_wires(Canvas(canvas), bundle.cores[i], rng) if rng.random() < 0.6 else bend_more(canvas, bundle.cores[i], rng)
    for fault, a in sheath:
        if fault == "splintered":
            cables._poke(Canvas(canvas), bundle, rng, a)
        elif fault in more:
            mark(canvas, bundle, rng, a, fault)
    words = ["connector", f"core{n}", *(used or ["intact"])] + ["several"] * (len(used) > 1) + ["dark"] * (bundle.light < 0.6)
    return developed(rng, canvas, bundle, plain=rng.random() < 0.7), words + places(angles), words


# %% [markdown]
# ## Flat material
# Tiles, brushed plates, cloth, wood, leather, mesh and stone slabs, half of them grey, some dark, with damage of their own.


# %%
def streaks(rng, n, k):
    return np.tile(octave_noise(rng, n, (k,), (1,))[:1], (n, 1))


def relief(rng, kind, n):
    "Relative brightness of an intact surface, (n, n) or (n, n, 3)."
    u, turn = np.arange(n, dtype=np.float32), rng.random() < 0.5
    if kind == "cloth":
        f, a = rng.uniform(0.12, 0.9), rng.uniform(0, math.pi)
        s, t = f * (u[:, None] * math.cos(a) + u * math.sin(a)), f * (u[:, None] * math.sin(a) - u * math.cos(a))
        if rng.random() < 0.5:
            w = np.sin(s) + np.sin(t)
        else:
            w = np.where(np.sin(s / 2) * np.sin(t / 2) > 0, np.abs(np.sin(s)), np.abs(np.sin(t))) * 2 - 1  # over and under
        return rng.uniform(0.06, 0.22) * w + 0.1 * octave_noise(rng, n, (12, 120), (0.5, 0.6))
    if kind == "plate":
        fine = (
            streaks(rng, n, int(rng.integers(60, 250))) * rng.uniform(0.02, 0.14)
            + streaks(rng, n, int(rng.integers(4, 20))) * rng.uniform(0, 0.15)
            + rng.uniform(0.02, 0.1) * octave_noise(rng, n, (4, 20, 128), (0.6, 0.3, 0.3))
        )
        return fine.T if turn else fine
    if kind == "wood":
        bend = 3 * octave_noise(rng, n, (3, 8), (1, 0.3)) + (u / n * rng.uniform(3, 14))[None]
        t = 0.14 * np.sin(TAU * bend) + 0.08 * streaks(rng, n, 200) + 0.08 * octave_noise(rng, n, (6, 90), (0.5, 0.4))
        return t.T if turn else t
    if kind == "leather":
        t = octave_noise(rng, n, (int(rng.integers(20, 60)),), (1,))
        return -rng.uniform(0.1, 0.3) * np.exp(-((t / rng.uniform(0.1, 0.4)) ** 2)) + 0.08 * octave_noise(rng, n, (5, 100), (0.6, 0.4))
    if kind == "mesh":
        p, q = rng.uniform(10, 40), rng.uniform(0.2, 0.5)
        a = rng.choice([0, math.pi / 4, rng.uniform(0, 1.5)])
        s, t = (u[:, None] * math.cos(a) + u * math.sin(a)) / p % 1, (u[:, None] * math.sin(a) - u * math.cos(a)) / p % 1
        return np.where((s < q) | (t < q), 0.15 * np.sin(TAU * s / q) * (s < q) + 0.1, -rng.uniform(0.4, 0.8)) + 0.05 * octave_noise(
            rng, n, (8, 60), (0.5, 0.5)
        )
    if kind == "slab":  # stone with grains, or laid in joints
        t = rng.uniform(0.05, 0.25) * octave_noise(rng, n, tuple(rng.integers(8, 120, 3)), (0.5, 0.5, 0.4))
        if rng.random() < 0.5:
            t = t + rng.uniform(0.1, 0.4) * (octave_noise(rng, n, (int(rng.integers(20, 60)),), (1,)) > rng.uniform(0.6, 1.4)) * rng.choice(
                [-1, 1]
            )
        if rng.random() < 0.5:
            p, w, (x, y) = rng.uniform(40, 130), rng.uniform(2, 7), rng.uniform(0, 100, 2)
            t = np.where(((u[:, None] + y) % p < w) | ((u + x) % p < w), rng.choice([-0.5, 0.4]), t)
        return t
    return rng.uniform(0.03, 0.16) * octave_noise(rng, n, (5, 16, 90), (0.6, 0.3, 0.3))


def surface(rng, kind, base, n):
    t = relief(rng, kind, n)
    return Image.fromarray(np.clip(np.asarray(base, np.float32) * (1 + t[..., None]), 0, 255).astype(np.uint8))


def ink(rng, base, lo=0.1, hi=0.5):
    return scale_color(base, rng.uniform(lo, hi) if rng.random() < 0.75 else rng.uniform(1.4, 2.2))


def crack(rng, canvas, x, y, base, n, size=1.0):
    draw = ImageDraw.Draw(canvas)
    for _ in range(pick(rng, [1, 1, 1, 2, 3])):
        a, p, step, turn = rng.uniform(0, TAU), [(x, y)], n * size * rng.uniform(0.02, 0.07), rng.uniform(0.15, 0.6)
        for _ in range(rng.integers(5, 16)):
            a += rng.normal(0, turn)
            p.append((p[-1][0] + math.cos(a) * step, p[-1][1] + math.sin(a) * step))
        draw.line(p, fill=ink(rng, base, 0.1, 0.55), width=int(rng.integers(1, 6)))


def hole(rng, canvas, x, y, base, n, size=1.0):
    for _ in range(rng.integers(1, 6)):
        at = np.array([x, y]) + rng.normal(0, 0.06 * n * size, 2)
        ImageDraw.Draw(canvas).polygon(wobbly_circle(rng, *at, rng.uniform(0.008, 0.08) * n * size, 0.1), fill=ink(rng, base, 0.05, 0.5))


def stain(rng, canvas, x, y, base, n, size=1.0):
    m = Image.new("L", (n, n))
    draw = ImageDraw.Draw(m)
    for _ in range(rng.integers(1, 4)):
        at = np.array([x, y]) + rng.normal(0, 0.05 * n * size, 2)
        p = wobbly_circle(rng, *at, rng.uniform(0.04, 0.26) * n * size, 0.15)
        draw.polygon(p, fill=int(rng.uniform(60, 200)))
        if rng.random() < 0.3:
            draw.polygon([(x + 0.85 * (a - x), y + 0.85 * (b - y)) for a, b in p], fill=int(rng.uniform(20, 90)))  # a rim
    tone = grey(base) == base and rng.random() < 0.8
    canvas.paste(
        scale_color(base, pick(rng, [0.3, 0.5, 1.6])) if tone else color(rng, 5, 250),
        mask=m.filter(ImageFilter.GaussianBlur(n * rng.uniform(0.003, 0.03))),
    )


def scratch(rng, canvas, x, y, base, n, size=1.0):
    a0 = rng.uniform(0, TAU)
    for _ in range(rng.integers(1, 6)):
        a, length, (dx, dy) = a0 + rng.normal(0, 0.2), rng.uniform(0.1, 0.6) * n * size, rng.normal(0, 0.03 * n * size, 2)
        p = [(x + dx + q * length * math.cos(a), y + dy + q * length * math.sin(a)) for q in (-0.5, 0.1, 0.5)]
        p[1] = tuple(np.array(p[1]) + rng.normal(0, 0.04 * length, 2))
        ImageDraw.Draw(canvas).line(p, fill=scale_color(base, rng.choice([0.45, 0.6, 1.5, 1.9])), width=int(rng.integers(1, 4)))


def splinter(rng, canvas, x, y, base, n, size=1.0):
    for _ in range(rng.integers(3, 16)):
        at = np.array([x, y]) + rng.normal(0, 0.06 * n * size, 2)
        ImageDraw.Draw(canvas).polygon(
            torn_strip(rng, *at, rng.uniform(0.03, 0.14) * n * size, rng.uniform(0.006, 0.03) * n * size, rng.uniform(0, TAU)),
            fill=scale_color(base, rng.choice([0.3, 0.5, 1.3])),
        )


def tear(rng, canvas, x, y, base, n, size=1.0):
    a = rng.uniform(0, TAU)
    for _ in range(rng.integers(1, 4)):
        b, length = a + rng.normal(0, 0.4), rng.uniform(0.15, 0.4) * n * size
        ImageDraw.Draw(canvas).polygon(
            torn_strip(rng, x, y, length, length * rng.uniform(0.08, 0.3), b), fill=scale_color(base, rng.uniform(0.1, 0.45))
        )
        ImageDraw.Draw(canvas).polygon(
            torn_strip(rng, x + 0.06 * length, y + 0.06 * length, 0.7 * length, length * 0.05, b + rng.normal(0, 0.2)),
            fill=scale_color(base, rng.uniform(1.1, 1.5)),
        )


def dent(rng, canvas, x, y, base, n, size=1.0):
    "A hollow: dark on one side, light on the other."
    r, a = rng.uniform(0.03, 0.14) * n * size, rng.uniform(0, TAU)
    for k, tone in ((1, rng.uniform(0.3, 0.6)), (-1, rng.uniform(1.3, 1.8))):
        m = Image.new("L", (n, n))
        ImageDraw.Draw(m).ellipse(
            cables._disc(x + k * 0.35 * r * math.cos(a), y + k * 0.35 * r * math.sin(a), r * 0.8), fill=int(rng.uniform(110, 220))
        )
        canvas.paste(scale_color(base, tone), mask=m.filter(ImageFilter.GaussianBlur(0.3 * r)))


FLAT_FAULTS = {"cracked": crack, "hole": hole, "stain": stain, "scratch": scratch, "splintered": splinter, "torn": tear, "dent": dent}


def suffer(rng, canvas, base, n, span=0.5, size=1.0):
    "Nought to two faults of flat material on a canvas: names and angles from the middle."
    names = [str(fault) for fault in rng.choice(list(FLAT_FAULTS), pick(rng, [0, 1, 1, 1, 1, 1, 2]), replace=False)]
    angles = []
    for fault in names:
        x, y = 0.5 + rng.uniform(-0.6, 0.6, 2) * span
        FLAT_FAULTS[fault](rng, canvas, x * n, y * n, base, n, size)
        angles.append(math.atan2(y - 0.5, x - 0.5))
    return names, angles


def any_base(rng):
    "A colour, and whether it is grey or dark."
    c, dark = color(rng, 40, 225), rng.random() < 0.25
    if dark:
        c = scale_color(c, rng.uniform(0.25, 0.6))
    without = rng.random() < 0.5
    return (grey(c) if without else c), ["grayscale"] * without + ["dark"] * dark


def flat(rng):
    "Flat material with damage or none, and its words."
    n, kind = 2 * SIZE, pick(rng, FLAT)
    base, words = any_base(rng)
    canvas = surface(rng, kind, base, n)
    names, angles = suffer(rng, canvas, base, n)
    if rng.random() < 0.12:  # a photograph that is no square
        k, side = int(n * rng.uniform(0.1, 0.3)), rng.random() < 0.5
        for box in ((0, 0, k, n), (n - k, 0, n, n)) if side else ((0, 0, n, k), (0, n - k, n, n)):
            canvas.paste((0, 0, 0) if rng.random() < 0.8 else base, box)
    words = [kind, *words, *(names or ["intact"])] + ["several"] * (len(names) > 1)
    image = developed(rng, canvas)
    if "grayscale" in words:
        image = np.repeat(image.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    return image, words + places(angles), words


# %% [markdown]
# ## Objects
# Plugs with pins, ribbons of wires, screws, capsules, rings and gears: parts are missing, bent, swapped or notched, and surfaces suffer as
# flat material does.


# %%
def placed(rng, base, n):
    "An underlay for an object, its colour and extra words."
    words = any_base(rng)[1] if base is None else []
    ground = color(rng, 10, 200)
    ground = grey(ground) if "grayscale" in words else ground
    kind = pick(rng, ["tile", "tile", "plate", "cloth", "wood", "slab"])
    return (cables._render_ground(rng, n, ground) if rng.random() < 0.4 else surface(rng, kind, ground, n)), words


def turned(rng, x, y, a, n, dx, dy):
    return (x + (dx * math.cos(a) - dy * math.sin(a)) * n, y + (dx * math.sin(a) + dy * math.cos(a)) * n)


def box(rng, x, y, a, n, w, h, r=0.0):
    return [
        turned(rng, x, y, a, n, dx, dy)
        for dx, dy in ((-w, -h + r), (-w + r, -h), (w - r, -h), (w, -h + r), (w, h - r), (w - r, h), (-w + r, h), (-w, h - r))
    ]


def plug(rng, n, a):
    "A block with a grid of pins."
    canvas, _ = placed(rng, (), n)
    draw = ImageDraw.Draw(canvas)
    body, pin = color(rng, 20, 230), pick(rng, [(214, 196, 120), (200, 200, 205), color(rng, 60, 240)])
    rows, columns = pick(rng, [1, 2, 2, 3]), int(rng.integers(2, 7))
    w, h = rng.uniform(0.26, 0.4), rng.uniform(0.12, 0.34)
    Canvas(canvas).shadow(box(rng, n * 0.515, n * 0.525, a, n, w * 1.03, h * 1.05, 0.02), n * 0.015, 0.8)
    draw.polygon(box(rng, n / 2, n / 2, a, n, w, h, 0.02), fill=scale_color(body, 0.7))
    draw.polygon(box(rng, n / 2, n / 2, a, n, w * 0.95, h * 0.93, 0.02), fill=body)
    fault, r = (
        pick(rng, ["intact", "missing", "bent", "swapped", "surface", "surface", "thinned", "notched"]),
        min(w / columns, h / rows) * rng.uniform(0.4, 0.65),
    )
    spots = [(i, j) for i in range(rows) for j in range(columns)]
    hit = set(map(int, rng.permutation(len(spots))[: pick(rng, [1, 1, 1, 2])]))
    where = []
    other, square = color(rng), rng.random() < 0.5
    if fault == "notched":
        s = pick(rng, [0, 1, 2, 3]) * TAU / 4 + a
        at = (n / 2 + (w if s in (a, a + TAU / 2) else h) * n * math.cos(s), n / 2 + (w if s in (a, a + TAU / 2) else h) * n * math.sin(s))
        draw.polygon(wobbly_circle(rng, *at, n * rng.uniform(0.04, 0.09), 0.15, 16), fill=scale_color(canvas.getpixel((4, 4)), 0.6))
        where.append(s)
    for k, (i, j) in enumerate(spots):
        dx, dy = w * (2 * (j + 0.5) / columns - 1) * 0.9, h * (2 * (i + 0.5) / rows - 1) * 0.85
        bad = k in hit
        x, y = turned(rng, n / 2, n / 2, a, n, dx, dy)
        if bad and fault in ("missing", "bent", "swapped", "thinned"):
            where.append(math.atan2(y - n / 2, x - n / 2))
        if square:
            draw.polygon(box(rng, x, y, a, n, r * 1.25, r * 1.25), fill=scale_color(body, 0.45))
        else:
            draw.ellipse(cables._disc(x, y, r * 1.25 * n), fill=scale_color(body, 0.45))
        if bad and fault == "missing":
            draw.ellipse(cables._disc(x, y, r * n), fill=(8, 8, 10))
            continue
        if bad and fault == "bent":
            s, length = rng.uniform(0, TAU), rng.uniform(1.2, 2.8) * r * n
            draw.line(
                [(x, y), (x + length * math.cos(s), y + length * math.sin(s))], fill=scale_color(pin, 0.5), width=max(3, int(r * n * 1.4))
            )
            draw.line([(x, y), (x + length * math.cos(s), y + length * math.sin(s))], fill=pin, width=max(2, int(r * n * 0.9)))
            continue
        tone = other if bad and fault == "swapped" else pin
        q = r * (0.45 if bad and fault == "thinned" else 0.85)
        draw.ellipse(cables._disc(x, y, q * n), fill=scale_color(tone, 0.6))
        draw.ellipse(cables._disc(x - q * n * 0.12, y - q * n * 0.12, q * n * 0.75), fill=scale_color(tone, rng.uniform(0.9, 1.15)))
    return canvas, body, fault, where


def ribbon(rng, n, a):
    "Wires side by side, cut across: insulation and strands of each."
    canvas, _ = placed(rng, (), n)
    k = int(rng.integers(2, 6))
    r = 0.44 / k * rng.uniform(0.8, 1)
    tones = [color(rng, 20, 230) for _ in range(k)]
    if rng.random() < 0.4:
        tones = [tones[0]] * k
    at = [turned(rng, n / 2, n / 2, a, n, (2 * i + 1 - k) * r * 1.02, rng.normal(0, 0.006)) for i in range(k)]
    cores = [
        Core(x / n, y / n, r, tones[i], None, float(rng.choice([0.1, 0.5, 0.95])), pick(rng, [1, 2, 3]), rng.uniform(0.4, 0.65))
        for i, (x, y) in enumerate(at)
    ]
    fault, i = pick(rng, ["intact", "missing", "thinned", "torn", "bent", "swapped", "surface"]), int(rng.integers(k))
    if fault == "swapped":
        cores[i] = replace(cores[i], color=color(rng) if len(set(tones)) == 1 else tones[(i + 1) % k])
    for j, c in enumerate(cores):
        if j == i and fault == "missing":
            cables._empty_hole(Canvas(canvas), c, rng)
            continue
        cables._render_insulation(Canvas(canvas), c, rng)
        cables._render_strands(Canvas(canvas), c, rng, cables._thin_strands(c, rng) if j == i and fault == "thinned" else None)
        if j == i and fault == "torn":
            cables._cut_core(Canvas(canvas), c, rng) if rng.random() < 0.6 else slash(canvas, c, rng)
    if fault == "bent":
        cables._bend_wires(Canvas(canvas), cores[i], rng) if rng.random() < 0.5 else bend_more(canvas, cores[i], rng)
    return canvas, tones[0], fault, [math.atan2(at[i][1] - n / 2, at[i][0] - n / 2)] if fault not in ("intact", "surface") else []


def disc_of(rng, n, canvas, r, base, steps=4):
    "A metal disc with a turned face."
    x, y = n * (0.5 + rng.normal(0, 0.02)), n * (0.5 + rng.normal(0, 0.02))
    draw = ImageDraw.Draw(canvas)
    Canvas(canvas).shadow(wobbly_circle(rng, x + 0.015 * n, y + 0.02 * n, r * n * 1.03, 0.004), n * 0.014, 0.8)
    draw.polygon(wobbly_circle(rng, x, y, r * n, 0.005), fill=scale_color(base, 0.6))
    draw.polygon(wobbly_circle(rng, x, y, r * n * 0.96, 0.005), fill=base)
    for _ in range(steps * 6):
        q, s = rng.uniform(0.1, 0.93) * r * n, rng.uniform(0, 360)
        draw.arc(cables._disc(x, y, q), s, s + rng.uniform(20, 140), fill=scale_color(base, rng.uniform(0.75, 1.25)), width=1)
    return x, y, draw


def screw(rng, n, a):
    canvas, _ = placed(rng, (), n)
    base, r = pick(rng, [color(rng, 60, 230), grey(color(rng, 60, 230))]), rng.uniform(0.22, 0.44)
    x, y, draw = disc_of(rng, n, canvas, r, base)
    fault, where = pick(rng, ["intact", "surface", "surface", "missing", "notched", "torn"]), []
    drive, dark = pick(rng, ["slot", "cross", "hex"]), scale_color(base, rng.uniform(0.15, 0.4))
    if fault != "missing":
        if drive == "hex":
            draw.polygon(
                [(x + 0.5 * r * n * math.cos(a + k * TAU / 6), y + 0.5 * r * n * math.sin(a + k * TAU / 6)) for k in range(6)], fill=dark
            )
        else:
            for k in range(1 if drive == "slot" else 2):
                draw.polygon(box(rng, x, y, a + k * TAU / 4, n, r * rng.uniform(0.6, 0.75), r * 0.11), fill=dark)
        if fault == "torn":
            tear(rng, canvas, x, y, base, n, r * 1.4)  # a worn drive
    if fault == "notched":
        s = rng.uniform(0, TAU)
        where.append(s)
        draw.polygon(
            wobbly_circle(rng, x + r * n * math.cos(s), y + r * n * math.sin(s), n * r * rng.uniform(0.15, 0.35), 0.15, 16),
            fill=scale_color(canvas.getpixel((3, 3)), 0.6),
        )
    return canvas, base, fault, where


def ring(rng, n, a):
    canvas, _ = placed(rng, (), n)
    base, r = pick(rng, [color(rng, 30, 230), grey(color(rng, 30, 230))]), rng.uniform(0.28, 0.45)
    x, y, draw = disc_of(rng, n, canvas, r, base)
    q = r * rng.uniform(0.35, 0.75)
    draw.polygon(wobbly_circle(rng, x, y, q * n, 0.01), fill=scale_color(canvas.getpixel((5, 5)), rng.uniform(0.3, 0.8)))
    fault, where, s = pick(rng, ["intact", "notched", "missing", "surface", "bent"]), [], rng.uniform(0, TAU)
    tone = scale_color(canvas.getpixel((3, 3)), 0.7)
    if fault == "notched":
        draw.polygon(
            wobbly_circle(
                rng,
                x + pick(rng, [q, r]) * n * math.cos(s),
                y + pick(rng, [q, r]) * n * math.sin(s),
                n * (r - q) * rng.uniform(0.3, 0.7),
                0.15,
                16,
            ),
            fill=tone,
        )
        where = [s]
    if fault == "missing":
        draw.pieslice(
            cables._disc(x, y, r * 1.05 * n), math.degrees(s) - rng.uniform(8, 40), math.degrees(s) + rng.uniform(8, 40), fill=tone
        )
        where = [s]
    if fault == "bent":
        draw.polygon(wobbly_circle(rng, x + r * n * math.cos(s), y + r * n * math.sin(s), n * (r - q) * 0.7, 0.2, 20), fill=base)
        where = [s]
    return canvas, base, fault, where


def gear(rng, n, a):
    canvas, _ = placed(rng, (), n)
    base, r, k = pick(rng, [color(rng, 50, 230), grey(color(rng, 50, 230))]), rng.uniform(0.26, 0.36), int(rng.integers(7, 20))
    fault, hit = pick(rng, ["intact", "missing", "bent", "surface"]), int(rng.integers(k))
    x = y = n / 2
    h = rng.uniform(0.04, 0.09)
    where = []
    shapes = []
    for i in range(k):
        s, w = a + i * TAU / k, r * TAU / k * 0.3
        if i == hit and fault in ("missing", "bent"):
            where = [s]
            if fault == "missing":
                if rng.random() < 0.5:
                    shapes.append(
                        torn_strip(rng, x + r * 0.9 * n * math.cos(s), y + r * 0.9 * n * math.sin(s), h * n * 0.8, w * n * 0.8, s)
                    )
                continue
        t = s + (rng.choice([-1, 1]) * rng.uniform(0.3, 0.7) if i == hit and fault == "bent" else 0)
        shapes.append(
            [
                turned(rng, x + r * 0.93 * n * math.cos(s), y + r * 0.93 * n * math.sin(s), t, n, dx, dy)
                for dx, dy in ((0, -w), (h + 0.07 * r, -w * 0.7), (h + 0.07 * r, w * 0.7), (0, w))
            ]
        )
    Canvas(canvas).shadow(wobbly_circle(rng, x + 0.02 * n, y + 0.02 * n, (r + h * 0.7) * n, 0.004), n * 0.015, 0.7)
    for p in shapes:
        ImageDraw.Draw(canvas).polygon(p, fill=scale_color(base, 0.85))
    draw = ImageDraw.Draw(canvas)
    draw.polygon(wobbly_circle(rng, x, y, r * n, 0.002), fill=base)
    for _ in range(20):
        q, s = rng.uniform(0.2, 0.95) * r * n, rng.uniform(0, 360)
        draw.arc(cables._disc(x, y, q), s, s + rng.uniform(20, 140), fill=scale_color(base, rng.uniform(0.8, 1.2)), width=1)
    draw.ellipse(cables._disc(x, y, r * rng.uniform(0.15, 0.4) * n), fill=scale_color(canvas.getpixel((5, 5)), rng.uniform(0.3, 0.8)))
    return canvas, base, fault, where


def capsule(rng, n, a):
    canvas, _ = placed(rng, (), n)
    left, right = color(rng, 30, 245), color(rng, 30, 245)
    length, r = rng.uniform(0.2, 0.3), rng.uniform(0.1, 0.18)
    draw = ImageDraw.Draw(canvas)
    fault, where = pick(rng, ["intact", "surface", "surface", "missing", "dent", "swapped"]), []
    ends = [turned(rng, n / 2, n / 2, a, n, s * length, 0) for s in (-1, 1)]
    Canvas(canvas).shadow(box(rng, n * 0.515, n * 0.525, a, n, length + r, r, r * 0.6), n * 0.02, 0.7)
    if fault == "swapped":
        left = right
    for s, (x, y), tone in zip((-1, 1), ends, (left, right)):
        if fault == "missing" and s > 0:
            where = [a]
            draw.polygon(torn_strip(rng, n / 2, n / 2, 0.08 * n, 0.08 * n, a), fill=scale_color(right, 0.5))
            continue
        for q, k in ((1, 0.65), (0.9, 1), (0.45, 1.15)):
            off = turned(rng, 0, 0, 0, n, -0.2 * r * (1 - q), -0.35 * r * (1 - q))
            p = [turned(rng, n / 2, n / 2, a, n, dx, dy) for dx, dy in ((0, -r * q), (s * length, -r * q), (s * length, r * q), (0, r * q))]
            draw.polygon([(u + off[0], v + off[1]) for u, v in p], fill=scale_color(tone, k))
            draw.ellipse(cables._disc(x + off[0], y + off[1], r * q * n), fill=scale_color(tone, k))
    if fault == "dent":
        s = rng.uniform(-0.8, 0.8)
        dent(rng, canvas, *turned(rng, n / 2, n / 2, a, n, s * length, 0), left if s < 0 else right, n, 0.7)
        where = [a if s > 0 else a + math.pi]
    return canvas, left, fault, where


MAKERS = dict(plug=plug, ribbon=ribbon, screw=screw, ring=ring, gear=gear, capsule=capsule)


def item(rng):
    "An object with a fault or none, and its words."
    kind, n = pick(rng, list(MAKERS)), 2 * SIZE
    canvas, base, fault, angles = MAKERS[kind](rng, n, rng.choice([0, 0, rng.normal(0, 0.15), rng.uniform(0, TAU)]))
    names = [fault]
    if fault == "surface":
        names, angles = suffer(rng, canvas, base, n, 0.3, 0.55)
        names = names or ["intact"]
    words, dark, without = [kind, *names] + ["several"] * (len(names) > 1), rng.random() < 0.15, rng.random() < 0.3
    image = developed(rng, canvas, Bundle(light=rng.uniform(0.3, 0.6), slope=tuple(rng.normal(0, 0.1, 2))) if dark else None)
    if without:
        image = np.repeat(image.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    words += ["dark"] * dark + ["grayscale"] * without
    return image, words + places(angles), words


# %% [markdown]
# ## A scene
# `SHARES` says how often each kind comes.

# %%
SHARES = {cable: 0.42, connector: 0.34, flat: 0.12, item: 0.12}


def scene(seed):
    "Scene number `seed`: (picture (128, 128, 3) uint8, words told to the generator, all words)."
    rng = np.random.default_rng([78, seed])
    return pick(rng, list(SHARES), list(SHARES.values()))(rng)


def row(words):
    "Words as a row of zeros and ones."
    out = np.zeros(len(WORDS), np.uint8)
    out[[INDEX[w] for w in words]] = 1
    return out


def check(told):
    "No word tells a cable's damage, nor its place, to the generator."
    assert "cable" not in told or not set(told) & {"intact", "several", *DAMAGE, *PLACES}, told


# %%
def write_sheet(path, pictures, columns=16):
    height = math.ceil(len(pictures) / columns) * SIZE
    out = Image.new("RGB", (columns * SIZE, height))
    for i, picture in enumerate(pictures):
        out.paste(Image.fromarray(picture), (i % columns * SIZE, i // columns * SIZE))
    out.save(path)


if __name__ == "__main__":  # world.py [COUNT]: sheets of scenes, and of what is no round product
    start, scenes = time.time(), [scene(i) for i in range(int(sys.argv[1]) if len(sys.argv) > 1 else 96)]
    print(f"{(time.time() - start) / len(scenes) * 1e3:.1f} ms a scene")
    write_sheet("world.png", [picture for picture, *_ in scenes])
    chance = np.random.default_rng(5)
    write_sheet("world_wide.png", [(flat, item)[i // 8 % 2](chance)[0] for i in range(128)])
