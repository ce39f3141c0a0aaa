"""Exceptions for user errors; each message states the error and the remedy."""

import difflib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path


class HarnessError(Exception):
    """Base class of the errors that the command line prints in one line, without a traceback.

    >>> import harness
    >>> try:
    ...     harness.Workload(depth=0)
    ... except harness.HarnessError as error:
    ...     print(error)
    depth must be between 1 and 65,536, got 0
    """


class UnsupportedError(HarnessError):
    """The harness does not support the request; the message gives the reason.

    >>> import harness
    >>> issubclass(harness.UnsupportedError, harness.HarnessError)
    True
    """


class UnavailableError(HarnessError):
    """Something that the request needs is missing on this machine, e.g. a compiler or memory.

    >>> import harness
    >>> issubclass(harness.UnavailableError, harness.HarnessError)
    True
    """

    def __str__(self) -> str:
        """Return the message; for a missing compiler, name the command that installs it."""
        return super().__str__().replace(_APT, install_compiler())


class StepError(HarnessError, ValueError):
    """The description of a step is invalid, or the user's code fails during the step.

    >>> import harness
    >>> from torch import nn
    >>> harness.predict(nn.Linear(8, 2), 0, inputs=(8,))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    harness...StepError: batch must be a whole number of at least 1, got 0
    """


_APT = "apt-get install gcc g++ libc6-dev"
_DNF = "dnf install gcc gcc-c++ glibc-devel"
_ZYPPER = "zypper install gcc gcc-c++ glibc-devel"
_COMPILERS = {"alpine": "apk add gcc g++ musl-dev", "arch": "pacman -S gcc", "suse": _ZYPPER}
_COMPILERS |= dict.fromkeys(("fedora", "rhel"), _DNF)


def install_compiler(release: str | None = None) -> str:
    """Return the shell command that installs a C++ compiler on this Linux distribution."""
    place = Path("/etc/os-release")
    if release is None:
        release = place.read_text(encoding="utf-8") if place.is_file() else ""
    words = re.findall(r"\w+", " ".join(re.findall(r"^ID(?:_LIKE)?=(.*)$", release, re.M)))
    return next((_COMPILERS[word] for word in words if word in _COMPILERS), _APT)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return a hint with the known name most similar to ``given``; empty if no name is similar."""
    near = difflib.get_close_matches(given, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


_MODULE = re.compile(r"module '(\w+)' has no attribute|cannot import name '\w+' from '(\w+)'")


def hidden_module(error: BaseException) -> str:
    """Return a clause that names the user's file if it hides a module of Python's own.

    A file such as ``statistics.py`` in the working folder or in PYTHONPATH is imported by all
    libraries in place of Python's module.
    """
    found = _MODULE.search(str(error))
    name = "" if found is None else found[1] or found[2]
    file = getattr(sys.modules.get(name), "__file__", None)
    if name not in sys.stdlib_module_names or file is None:
        return ""
    if Path(file).resolve().is_relative_to(Path(os.__file__).resolve().parent):
        return ""
    return f"; {file} hides Python's own module {name}: rename this file"
