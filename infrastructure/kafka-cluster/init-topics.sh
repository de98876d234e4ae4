#!/usr/bin/env bash
# Makes the topics that are missing; those that exist stay as they are.
#
#   docker exec kafka-1 bash /init-topics.sh
#   BOOTSTRAP=127.0.0.1:9092 KAFKA_TOPICS="java -cp jars/* org.apache.kafka.tools.TopicCommand" ./init-topics.sh
#
# BOOTSTRAP     brokers, host:port and others after commas
# KAFKA_TOPICS  the command of Kafka's topic tool
# PARTITIONS, REPLICATION, MIN_ISR, COMPRESSION
set -euo pipefail
set -f # the tool's class path may have a star

BOOTSTRAP="${BOOTSTRAP:-kafka-1:19092,kafka-2:19092,kafka-3:19092}"
KAFKA_TOPICS="${KAFKA_TOPICS:-/opt/kafka/bin/kafka-topics.sh}"
PARTITIONS="${PARTITIONS:-12}"
REPLICATION="${REPLICATION:-3}"
MIN_ISR="${MIN_ISR:-2}"
COMPRESSION="${COMPRESSION:-snappy}"

DAY=$((24 * 60 * 60 * 1000))
SEVEN_DAYS=$((7 * DAY))
THIRTY_DAYS=$((30 * DAY))

# name and retention in milliseconds
topics() {
    echo "events $SEVEN_DAYS"
    echo "events.dlq $THIRTY_DAYS"
    echo "aggregates $SEVEN_DAYS"
    echo "alerts $SEVEN_DAYS"
    echo "audit $THIRTY_DAYS"
}

topics | while read -r name retention; do
    # The tool reads standard input, where the list is.
    $KAFKA_TOPICS --bootstrap-server "$BOOTSTRAP" --create --if-not-exists --topic "$name" \
        --partitions "$PARTITIONS" --replication-factor "$REPLICATION" \
        --config "min.insync.replicas=$MIN_ISR" --config "compression.type=$COMPRESSION" \
        --config "retention.ms=$retention" < /dev/null
done

$KAFKA_TOPICS --bootstrap-server "$BOOTSTRAP" --list < /dev/null
