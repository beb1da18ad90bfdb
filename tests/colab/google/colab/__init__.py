"A stand-in for Colab's package, for tests."

from . import drive as drive
from . import files as files
