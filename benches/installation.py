"""Puts the peers of `benches/peers` where they are kept for the next run.

That is the cache of `tests/run`: `$PYSTROBE_TEST_CACHE`, by default `~/.cache/pystrobe-tests`.
"""

import os
import pathlib
import shutil
import subprocess

import measure
from profilers import Failed, gist


def cache():
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "pystrobe-tests"
    return pathlib.Path(os.environ.get("PYSTROBE_TEST_CACHE") or default)


def done(*command):
    """Whether a command succeeds, and what it says."""
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    return ended.returncode == 0, ended.stdout.decode(errors="replace")


def interpreters():
    """Installs CPython 3.14 and 3.15 where the machine has none. Returns why that failed, if it did."""
    went, told = done(str(measure.ROOT / "tests/interpreters"), "install", str(cache() / "cpython"))
    return None if went else gist(told)


def requirements():
    """`{"py-spy": "py-spy==0.4.3", …}`"""
    lines = (measure.ROOT / "benches/peers.txt").read_text().splitlines()
    return {line.partition("==")[0]: line for line in lines if line and not line.startswith("#")}


def environment(pythons):
    """A virtual environment for the peers from PyPI; they are programs, so any Python will do that has pip."""
    folder = cache() / "peers"
    if done(str(folder / "bin/python"), "-m", "pip", "--version")[0]:
        return folder
    told = "there is no Python here that can make one"
    for python in reversed(pythons):
        if not done(python, "-c", "import venv, ensurepip")[0]:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        went, told = done(python, "-m", "venv", str(folder))
        if went:
            return folder
    raise Failed("no virtual environment: " + gist(told))


def from_pypi(package, program, pythons):
    """The path of a program of a package of `peers.txt`, in the version that is pinned there."""
    folder = environment(pythons)
    wanted = requirements()[package]
    pip = (str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check")
    if wanted not in done(*pip, "freeze", "--all")[1].splitlines():
        went, told = done(*pip, "install", "-q", wanted)
        if not went:
            raise Failed("could not install %s: %s" % (wanted, gist(told)))
    return str(folder / "bin" / program)


def austin(pythons):
    """The command that starts Austin. Its binary may be newer than the C library of the system; then it is started
    with the one that came with CPython 3.14 and 3.15."""
    program = from_pypi("austin-dist", "austin", pythons)
    went, told = done(program, "--version")
    if went:
        return [program]
    for loader in sorted((cache() / "cpython/lib").glob("*/ld-linux-*.so.*")):
        start = [str(loader), "--library-path", str(loader.parent), program]
        if done(*start, "--version")[0]:
            return start
    raise Failed("it does not start: " + gist(told))


def py_spy(pythons):
    program = from_pypi("py-spy", "py-spy", pythons)
    went, told = done(program, "--version")
    if not went:
        raise Failed("it does not start: " + gist(told))
    return program
