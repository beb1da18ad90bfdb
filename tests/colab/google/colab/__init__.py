"A stand-in for Colab's package, for tests."
from . import drive, files
