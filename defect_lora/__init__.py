"Few-shot industrial defect generation. Each name of the face is imported when it is first used, so importing the package is quick."
from importlib import import_module

__version__ = "0.1.0"

_HOMES = {  # module -> the names that it gives to the face
    "data.files": ["InputError"],
    "data.images": ["image_grid", "open_image"],
    "data.layouts": ["download_category", "find_good_parts"],
    "data.dataset": ["DefectSpectrumDataset"],
    "data.cables": ["write_cables"],
    "data.overview": ["overview"],
    "model.base": ["fetch_base", "load_base"],
    "model.unet": ["ClassConditionedUNet", "ClassEmbedding"],
    "model.pipeline": ["DefectPipeline"],
    "evaluation.features": ["choose_features"],
    "evaluation.report": ["contact_sheet", "markdown_table", "write_report"],
    "evaluation.evaluator": ["Evaluator"],
    "evaluation.curation": ["screen_images"],
    "training.config": ["TrainConfig"],
    "training.trainer": ["Trainer"],
    "generation.sampling": ["generate_images"],
    "generation.painting": ["paint_defects", "paint_images"],
    "generation.pasting": ["paste_defects"],
    "usefulness.comparison": ["plot_usefulness"],
    "usefulness.classification": ["FeatureClassifier", "measure_usefulness"],
    "usefulness.detection": ["measure_detection"],
    "usefulness.advice": ["give_advice"],
    "usefulness.loop": ["AdviceConfig"],
    "widgets.generate": ["GenerateWidget"],
    "widgets.paint": ["PaintWidget"],
    "widgets.watch": ["WatchWidget"],
    "widgets.compare": ["CompareWidget", "ReportWidget"],
}
_FACE = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted([*_FACE, "versions"])


def versions() -> str:
    "What this runs with, in one line: for the top of a notebook, and for a question about it."
    import platform
    from importlib.metadata import version

    others = ("torch", "torchvision", "diffusers", "peft", "transformers", "accelerate", "ipywidgets", "anywidget")
    return ", ".join([f"defect-lora {__version__}", f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in others)])


def __getattr__(name):
    if name not in _FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_FACE[name]}", __name__), name)
    globals()[name] = value  # the next use finds it without this function
    return value


def __dir__():
    return sorted({*globals(), *__all__})
