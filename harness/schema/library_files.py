"""Files of installed packages, of Python and of PyTorch, told from the user's by their path.

The path may come from another machine and another system.
"""

import re

_LIBRARY = re.compile(
    r"(?:site|dist)-packages/|<frozen|/lib/python3|^[A-Za-z]:/.*/Lib/|torchinductor_|"
    # A PyTorch that was built where it lies; a user's folder may have its name.
    r"/torch/(?:_\w+|nn|autograd|optim|utils|cuda|distributed|amp|fx|func|jit)/|"
    r"/torch/(?:_\w+|functional|overrides|serialization)\.py"
)


def is_library(file: str) -> bool:
    """Return whether a file is none of the user's.

    >>> [is_library(name) for name in ("/opt/pytorch/torch/nn/functional.py", "/me/torch/train.py")]
    [True, False]
    """
    return _LIBRARY.search(file.replace("\\", "/")) is not None
