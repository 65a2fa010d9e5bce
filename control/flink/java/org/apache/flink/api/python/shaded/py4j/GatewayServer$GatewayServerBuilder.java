package org.apache.flink.api.python.shaded.py4j;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Paths;
import javax.net.ServerSocketFactory;

/**
 * Replaces py4j's builder in the JobManager, so that PyFlink's gateway asks for a password.
 *
 * PyFlink 2.3 (PythonEnvUtils.startGatewayServer) calls the three methods below and never sets a password, and any
 * local user who connects to such a gateway runs code as the user of the JobManager. This directory comes before
 * Flink's jars in the class path. Without a password no gateway starts. flink_jobs/launch.py is the other side.
 */
public class GatewayServer$GatewayServerBuilder {
    private Gateway gateway;
    private int javaPort;

    public GatewayServer$GatewayServerBuilder gateway(Gateway gateway) {
        this.gateway = gateway;
        return this;
    }

    public GatewayServer$GatewayServerBuilder javaPort(int javaPort) {
        this.javaPort = javaPort;
        return this;
    }

    public GatewayServer build() throws IOException {
        String password = new String(Files.readAllBytes(Paths.get(System.getenv("BARMILL_GATEWAY_PASSWORD_FILE")))).trim();
        if (password.isEmpty()) {
            throw new IOException("BARMILL_GATEWAY_PASSWORD_FILE is empty.");
        }
        CallbackClient given = (CallbackClient) this.gateway.getCallbackClient();
        given.shutdown();
        CallbackClient client = new CallbackClient(given.getPort(), given.getAddress(), password);
        return new GatewayServer(
            this.gateway.getEntryPoint(), this.javaPort, GatewayServer.defaultAddress(), 0, 0, null, client,
            ServerSocketFactory.getDefault(), password);
    }
}
