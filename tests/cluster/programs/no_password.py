"""Tries what any local user can: to use PyFlink's two ports without the password. It never becomes a job."""

import os
import socket
import subprocess
import sys

from py4j.protocol import ERROR_RETURN_MESSAGE
from pyflink.java_gateway import get_gateway

from barmill.platform.ports import LOOPBACK

WITHOUT_PASSWORD = """
import sys
from py4j.java_gateway import GatewayParameters, JavaGateway
print(JavaGateway(gateway_parameters=GatewayParameters(port=int(sys.argv[1]))).jvm.System.getProperty("java.home"))
"""
# The first object that Python offers to Java.
CALL_PYTHON = b"c\np0\ngetPythonFunction\nsos\nsgetcwd\ne\n"

port = os.environ["PYFLINK_GATEWAY_PORT"]
done = subprocess.run([sys.executable, "-c", WITHOUT_PASSWORD, port], capture_output=True, text=True, check=False)
gateway = f"answered {done.stdout.strip()}" if done.returncode == 0 else "refused"

callback_port = get_gateway().get_callback_server().get_listening_port()
with socket.create_connection((LOOPBACK, callback_port), timeout=10) as connection:
    connection.sendall(CALL_PYTHON)
    try:
        refused = connection.recv(1_000) in (b"", ERROR_RETURN_MESSAGE.encode())
    except ConnectionResetError:
        refused = True
raise RuntimeError(f"gateway {gateway}, callbacks {'refused' if refused else 'answered'}")
