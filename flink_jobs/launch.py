"""The launcher of a PyFlink program in the JobManager, with the gateway's password: launch.py PROGRAM [ARGUMENT ...].

The gateway, through which a program controls the JobManager's JVM, listens on a TCP port on loopback, as does the
server for callbacks from the JVM. Both require the password of the home. The JVM's side is in control/flink/java.
"""

import os
import runpy
import sys
from functools import partial
from pathlib import Path

import pyflink.java_gateway as gateway


def main() -> None:
    """Run the program named on the command line as the main module."""
    password = Path(os.environ["BARMILL_GATEWAY_PASSWORD_FILE"]).read_text().strip()
    # PyFlink creates both parameters without a password and has no setting for one.
    gateway.GatewayParameters = partial(gateway.GatewayParameters, auth_token=password)
    gateway.CallbackServerParameters = partial(gateway.CallbackServerParameters, auth_token=password)
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
