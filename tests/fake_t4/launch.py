"""Runs a program of this folder in a process whose torch finds a Tesla T4 that is not there: `python launch.py table.py --help`."""

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
_CRT = "__host__ __device__ __global__ __cudart_builtin__ __device_builtin__ CUDARTAPI CUDARTAPI_CDECL __forceinline__ __noinline__"
_CRT += " __device_builtin_texture_type__ __device_builtin_surface_type__ CUDA_CB __no_return__"


def _site():
    return Path(find_spec("torch").origin).parents[1]


def _headers():
    "Folders that hold the runtime's header, which torch's CUDA build brings."
    return sorted({path.parent for path in (_site() / "nvidia").glob("**/cuda_runtime_api.h")})


def missing() -> str | None:
    "What this machine lacks for a simulated T4; None where it has all."
    if sys.platform != "linux" or not shutil.which("gcc") or not shutil.which("nm"):
        return "no gcc on this machine"
    return None if (_site() / "torch/lib/libtorch_cuda.so").is_file() and _headers() else "torch is not a CUDA build"


def _compile(source, library, *flags):
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", *flags, "-o", str(library), str(source)], check=True)


def _build_runtime(folder):
    "The fake runtime; headers that only the CUDA compiler has are empty."
    (folder / "crt").mkdir()
    sizes = "#define __align__(n) __attribute__((aligned(n)))\n#define __builtin_align__ __align__\n"
    for name in ("crt/host_defines.h", "crt/host_config.h", "host_defines.h"):
        (folder / name).write_text(
            "#pragma once\n#ifndef __host__\n" + "".join(f"#define {w}\n" for w in _CRT.split()) + sizes + "#endif\n"
        )
    _compile(HERE / "runtime.c", folder / "libfaket4.so", f"-I{folder}", f"-I{_headers()[0]}")


def _build_driver(folder):
    "A driver library whose every function says yes."
    symbols = subprocess.run(["nm", "-D", "-u", _site() / "torch/lib/libtorch_cuda.so"], capture_output=True, text=True).stdout.split()
    names = sorted({name for name in symbols if name.startswith("cu") and name[2:3].isupper()} - {"cuDevicePrimaryCtxGetState"})
    code = "\n".join(f"int {name}() {{ return 0; }}" for name in names if "@" not in name)
    state = "int cuDevicePrimaryCtxGetState(int d, unsigned *f, int *a) { *f = 0; *a = 0; return 0; }"
    (folder / "driver.c").write_text(f"{code}\n{state}\n")
    _compile(folder / "driver.c", folder / "libcuda.so.1")


def run(
    *words,  # a program and what it is given
    **options,  # of subprocess.run
) -> subprocess.CompletedProcess:
    "Run a Python program beside a simulated T4."
    with tempfile.TemporaryDirectory() as folder:
        _build_runtime(Path(folder))
        _build_driver(Path(folder))
        libraries = os.pathsep.join(filter(None, [folder, os.environ.get("LD_LIBRARY_PATH")]))
        env = os.environ | dict(LD_PRELOAD=f"{folder}/libfaket4.so", LD_LIBRARY_PATH=libraries, CUDA_VISIBLE_DEVICES="0")
        return subprocess.run([sys.executable, *map(str, words)], env=env, **options)


if __name__ == "__main__":
    sys.exit(missing() or run(HERE / sys.argv[1], *sys.argv[2:]).returncode)
