"""Recognises files of Python, PyTorch and installed packages by their paths.

The path may come from another machine with another operating system.
"""

import re

_LIBRARY = re.compile(
    r"(?:site|dist)-packages/|<frozen|/lib/python3|^[A-Za-z]:/.*/Lib/|torchinductor_|"
    # A PyTorch that was built from source in this folder; a user's folder may have its name.
    r"/torch/(?:_\w+|autograd|distributed/\w+|fx|jit|nn/(?:modules|parallel)|utils/(?:data|_\w+))/|"
    r"/torch/(?:_\w+|functional|overrides|serialization|nn/functional|utils/checkpoint|"
    r"optim/(?:optimizer|adam\w*|sgd|lr_scheduler)|cuda/(?:memory|graphs|_\w+))\.py"
)


def is_library(file: str) -> bool:
    """Return whether a file belongs to Python or to an installed package, not to the user.

    >>> [is_library(name) for name in ("/opt/pytorch/torch/nn/functional.py", "/me/torch/train.py")]
    [True, False]
    """
    return _LIBRARY.search(file.replace("\\", "/")) is not None
