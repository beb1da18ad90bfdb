"""The command, and other programs, in a process of their own, which is forked from one that has imported everything.

So a test costs its work, not the imports. What concerns the imports themselves is tested with `python -m defect_lora.cli`.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["defect_lora.cli", "defect_lora.training.trainer", "defect_lora.usefulness.classification"])


def run(*argv, env=None):
    "Exit code, standard output and standard error of the command; `env` is added to the environment."
    return _fork(_command, argv, env)


def run_program(words, env=None, **_):
    "What subprocess.run gives for [sys.executable, file, *its arguments] with captured text, and takes its place in a patch."
    assert words[0] == sys.executable
    return subprocess.CompletedProcess(words, *_fork(_program, words[1:], env))


def _fork(work, argv, env):
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("out", "err")]
        process = _processes.Process(
            target=_work, args=(work, [str(word) for word in argv], {**os.environ, **(env or {})}, said, os.getcwd())
        )
        process.start()
        process.join(300)
        assert process.exitcode is not None, f"{argv} takes too long"
        return process.exitcode, *(path.read_text(encoding="utf-8") for path in said)


def _work(work, argv, environment, said, folder):
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    import torch

    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", torch.get_num_threads())))  # too late for OpenMP to read it
    code = work(argv)
    sys.stdout.flush()
    sys.exit(code)


def _command(argv):
    from defect_lora.cli import main

    return main(argv)


def _program(argv):
    sys.argv, sys.path[0] = argv, str(Path(argv[0]).parent)
    runpy.run_path(argv[0], run_name="__main__")
