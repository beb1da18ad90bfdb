"""What rounding costs where adapters are merged into half-precision weights: `python benchmarks/merging.py [--out FILE]`.

Stable Diffusion 1.5's geometry with random weights, 16 x 16 latents, one prediction; arithmetic is single precision, so that the rounding
of the merged weights is all that differs. Adapters are as large as their recipe's learning rates allow, or a tenth of that. A minute.
"""

import argparse
import json
from pathlib import Path

CASES = {"tuned": ("all", 32, 32, 0.03), "tuned, a tenth": ("all", 32, 32, 0.003), "document": ("attention", 8, 16, 0.0017)}


def distance(one, other, beside):
    return float((one - other).norm() / beside.norm())


def measure(targets, rank, alpha, size):
    "The error of a prediction, as a share of what the adapters change, and the largest share that a layer rounds away."
    import torch
    from diffusers import UNet2DConditionModel
    from peft.tuners.tuners_utils import BaseTunerLayer
    from speed import random_weights

    from defect_lora.model.scopes import TARGETS
    from defect_lora.model.unet import ClassConditionedUNet

    torch.manual_seed(0)
    unet = random_weights(UNet2DConditionModel, dict(sample_size=64, cross_attention_dim=768)).half().float()
    model = ClassConditionedUNet(unet, 9, rank=rank, alpha=alpha, target_modules=TARGETS[targets]).eval()
    noisy, embeds = torch.randn(1, 4, 16, 16), model.prompt_embeds(torch.tensor([3])).detach()
    with torch.no_grad():
        base = unet(noisy, 500, encoder_hidden_states=embeds).sample
        for name, parameter in model.adapter_parameters().items():
            if ".lora_B." in name:
                parameter.uniform_(-size, size)
        beside, shares = unet(noisy, 500, encoder_hidden_states=embeds).sample, []
        for name, layer in unet.named_modules():
            if isinstance(layer, BaseTunerLayer) and ".attn2." not in name:
                weight, added = layer.get_base_layer().weight, layer.get_delta_weight("default")
                merged = (weight + added).half().float()
                shares.append(distance(merged - weight, added, added))
                weight.copy_(merged)
                layer.scaling["default"] = 0.0
        found = unet(noisy, 500, encoder_hidden_states=embeds).sample
    error = distance(found, beside, beside - base)
    return dict(adapters_change=distance(beside, base, base), error=error, largest_layer=max(shares), layers=len(shares))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "merging.json")
    out = parser.parse_args().out
    found = {name: measure(*case) for name, case in CASES.items()}
    out.write_text(json.dumps({name: {key: round(value, 5) for key, value in row.items()} for name, row in found.items()}, indent=1) + "\n")
    print(out.read_text())


if __name__ == "__main__":
    main()
