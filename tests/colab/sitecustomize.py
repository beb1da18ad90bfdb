"What Colab's kernel does before the first cell."

import google.colab  # noqa: F401  Colab has imported it before the first cell
