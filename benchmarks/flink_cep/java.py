"""Fetches Flink CEP and a Java compiler from Maven Central, once, and compiles a Java file against them.

Java itself and Maven come from the machine; on Debian, as root, they are installed where absent.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

FLINK = "2.3.0"
COMPILER = "3.33.0"
"""Eclipse's compiler: a jar that runs on a Java runtime without `javac`."""
_JARS = [
    ("org.apache.flink", "flink-cep", FLINK),
    ("org.apache.flink", "flink-streaming-java", FLINK),
    ("org.apache.flink", "flink-clients", FLINK),
    ("org.slf4j", "slf4j-nop", "1.7.36"),
    ("org.eclipse.jdt", "ecj", COMPILER),
]
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>thalweg</groupId><artifactId>flink-cep</artifactId><version>1</version>
  <dependencies>{}</dependencies>
</project>
"""
_DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


def command(source: Path, *options: str) -> list[str]:
    """The command that runs a Java file's main class (named like the file) with Flink CEP's jars."""
    jars = _jars()
    classes = _compiled(source, jars)
    opens = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "util", "util.concurrent", "time")]
    return [_java(), *opens, *options, "-cp", f"{classes}{os.pathsep}{jars / '*'}", source.stem]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "thalweg"


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        _install()
        java = shutil.which("java")
    if java is None:
        raise RuntimeError("Flink CEP needs Java 17 or newer and Maven: `java` and `mvn` on the PATH")
    return java


def _install() -> None:
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (
        ("update", "-qq"),
        ("install", "-y", "-qq", "--no-install-recommends", "maven", "default-jre-headless"),
    ):
        subprocess.run(["apt-get", *arguments], env=environment, check=True, capture_output=True)


def _jars() -> Path:
    """The folder of the jars; what is there under its final name is complete."""
    folder = _cache() / f"flink-cep-{FLINK}-{COMPILER}"
    if folder.is_dir():
        return folder
    _java()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".flink-cep-") as name:
        work = Path(name)
        (work / "pom.xml").write_text(_POM.format("".join(_DEPENDENCY.format(*jar) for jar in _JARS)))
        maven = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={work / 'jars'}"]
        _run(maven, work)
        _rename(work / "jars", folder)
    return folder


def _compiled(source: Path, jars: Path) -> Path:
    """The folder of a file's classes, by what the file says."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    folder = _cache() / f"classes-{source.stem}-{FLINK}-{digest}"
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".classes-") as name:
        out = Path(name) / "classes"
        ecj = str(jars / f"ecj-{COMPILER}.jar")
        libraries = os.pathsep.join(str(jar) for jar in sorted(jars.glob("*.jar")))
        _run([_java(), "-jar", ecj, "-17", "-nowarn", "-cp", libraries, "-d", str(out), str(source)], Path(name))
        _rename(out, folder)
    return folder


def _rename(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # another process was faster: its folder is as good
            raise


def _run(arguments: list[str], folder: Path) -> None:
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments[:4])} … failed:\n{(done.stdout + done.stderr)[-3000:]}")
