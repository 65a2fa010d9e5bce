#!/usr/bin/env bash
# Runs a broker as the official image does: KAFKA_SOME_KEY in the environment is some.key in its settings.
set -euo pipefail
settings=/tmp/server.properties
env | grep '^KAFKA_' | grep -v '^KAFKA_HEAP_OPTS=' | while IFS='=' read -r name value; do
    key=${name#KAFKA_}
    echo "$(echo "${key,,}" | sed 's/___/-/g; s/__/#/g; s/_/./g; s/#/_/g')=$value"
done >"$settings"
java() { /opt/java/bin/java -XX:+UseSerialGC -cp '/opt/kafka/libs/*' "$@"; }
java kafka.tools.StorageTool format --cluster-id "${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}" --config "$settings" --ignore-formatted
# shellcheck disable=SC2086
exec /opt/java/bin/java -XX:+UseSerialGC ${KAFKA_HEAP_OPTS:-} -cp '/opt/kafka/libs/*' kafka.Kafka "$settings"
