"""What a test needs and the machine may not have: skipped on a desk, a failure on a build machine."""

import importlib
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest


def is_ci() -> bool:
    """Tell whether this is a build machine (CI=true), where nothing may be missing."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false", "no")


def lacking(what: str) -> NoReturn:
    """Skip the running test because `what` is missing; with CI=true fail it."""
    if is_ci():
        pytest.fail(f"{what} is missing; scripts/prepare.sh or venv.sh brings it", pytrace=False)
    pytest.skip(f"{what} is missing", allow_module_level=True)


def need_program(name: str, *others: str) -> str:
    """Return the path of a program, or of the first of `others` that is there; else end the test with `lacking`."""
    for each in (name, *others):
        path = shutil.which(each, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if path is not None:
            return path
    return lacking(name)


def need_pam(name: str) -> None:
    """End the test with `lacking` if PAM does not have the module pam_NAME of its own."""
    for folder in ("lib", "lib64", "lib/*-linux-*"):
        if any(Path("/usr").glob(f"{folder}/security/pam_{name}.so")):
            return
    lacking(f"pam_{name}")


def need_module(name: str) -> ModuleType:
    """Return a module of Python, or end the test, or a whole file of them, with `lacking`."""
    try:
        return importlib.import_module(name)
    except ImportError:
        lacking(name)
