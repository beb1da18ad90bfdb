"Few-shot industrial defect generation. Modules are imported where they are used, so importing this package is quick."
__version__ = "0.1.0"
