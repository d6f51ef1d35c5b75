"""Python and this project's dependencies for aarch64, run by QEMU: nothing is installed on the machine, no root needed.

Debian's packages come by way of apt-get, with lists and a state of its own in a folder, from the sources that the
machine has; wheels come by way of pip.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("numba", "llvmlite", "numpy", "scipy", "rich")  # what nagd_numba needs
DEBIAN = ("python3:arm64", "libstdc++6:arm64")
QEMU = ("qemu-aarch64-static", "qemu-aarch64")
OWN = 'Dir::State "{0}/state";\nDir::State::status "{0}/state/status";\nDir::Cache "{0}/cache";\n'
OWN += 'APT::Architectures {{ "{1}"; "arm64"; }};\nAPT::Sandbox::User "";\nAPT::Install-Recommends "false";\n'
OWN += 'Acquire::Languages "none";\nDebug::NoLocking "true";\n'


class Unavailable(Exception):
    """This machine cannot have it; says why."""


def python(folder: Path) -> tuple[list[str], str]:
    """The command that runs Python for aarch64, and the folder of its packages; they are got once."""
    made = folder / "complete.json"
    wanted = {name: version(name) for name in PACKAGES}
    if not made.exists() or json.loads(made.read_text()) != wanted:
        _get(folder)
        made.write_text(json.dumps(wanted))
    qemu = next(filter(None, map(shutil.which, QEMU)), None) or _own_qemu(folder)
    root = folder / "root"
    return [str(qemu), "-L", str(root), str(root / "usr/bin/python3")], str(folder / "site")


def _own_qemu(folder: Path) -> Path:
    return next(file for name in QEMU if (file := folder / "qemu/usr/bin" / name).exists())


def _get(folder: Path) -> None:
    if sys.platform != "linux" or platform.machine() == "aarch64" or not shutil.which("dpkg-deb"):
        raise Unavailable("is emulated on Debian, on other processors")
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("state/lists/partial", "cache/archives/partial", "root/usr", "qemu"):
        (folder / name).mkdir(parents=True)
    (folder / "state/status").touch()
    for name in ("bin", "lib", "sbin"):  # as Debian has it, whichever of the two a package names
        (folder / "root/usr" / name).mkdir()
        (folder / "root" / name).symlink_to(f"usr/{name}")

    native = _run("dpkg", "--print-architecture").strip()
    (folder / "apt.conf").write_text(OWN.format(folder, native))
    packages = [*DEBIAN, *(() if any(map(shutil.which, QEMU)) else ("qemu-user-static",))]
    _run("apt-get", "update", "-qq", apt=folder)
    _run("apt-get", "install", "-qq", "-y", "--download-only", *packages, apt=folder)
    for file in sorted((folder / "cache/archives").glob("*.deb")):
        architecture = file.stem.rpartition("_")[2]
        if architecture != native:
            _run("dpkg-deb", "-x", str(file), str(folder / "root"))
        elif file.name.startswith("qemu-user"):
            _run("dpkg-deb", "-x", str(file), str(folder / "qemu"))
    shutil.rmtree(folder / "cache")

    minor = (folder / "root/usr/bin/python3").readlink().name.removeprefix("python")
    kinds = [*(f"manylinux_2_{n}_aarch64" for n in range(17, 37)), "manylinux2014_aarch64"]
    _run(
        *(sys.executable, "-m", "pip", "install", "-q", "--target", str(folder / "site"), "--only-binary=:all:"),
        *("--implementation", "cp", "--python-version", minor, *(f"--platform={kind}" for kind in kinds)),
        *(f"{name}=={version(name)}" for name in PACKAGES),
    )


def _run(*command: str, apt: Path | None = None) -> str:
    own = {"APT_CONFIG": str(apt / "apt.conf")} if apt else {}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | own)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise Unavailable(f"{' '.join(command[:2])} ended with status {done.returncode} and said: {said[-1]}")
    return done.stdout
