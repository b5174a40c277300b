"""Reads Caselock's events from the first one on, and prints each event once. Needs confluent-kafka.

Usage: consumer.py BROKERS TOPIC [--follow] [NAME=VALUE…]

It ends with the events there are when it starts; with --follow it goes on. NAME=VALUE are further settings of librdkafka, such as
security.protocol=SSL.
"""

import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

brokers, topic, *more = sys.argv[1:]
follow = "--follow" in more
consumer = Consumer({
    "bootstrap.servers": brokers,
    # Partitions are assigned below, so this group has no members and nothing is committed. What is to go on where it stopped
    # subscribes instead, with auto.offset.reset=earliest, and commits after its own work is durable.
    "group.id": "caselock-example",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    **dict(setting.split("=", 1) for setting in more if setting != "--follow"),
})
known = consumer.list_topics(topic, timeout=30).topics[topic]
if known.error:
    raise KafkaException(known.error)
ends = {
    partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)[1]
    for partition in known.partitions
}
# From the beginning, whatever was read before: a replay.
consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in ends])

# What to remember in a database, with the work that an event causes: ids and sequences outlive this process there.
seen = set()
last = {}


def handle(event):
    headers = {name: value.decode() for name, value in event.headers()}
    # Delivery is at least once. A repeated event may come behind later ones, so ids are looked at before the order is.
    if headers["ce_id"] in seen:
        return
    seen.add(headers["ce_id"])
    # Order holds for each source and subject, which is for each recording or case: in one partition, with growing sequences.
    stream, sequence = (headers["ce_source"], headers["ce_subject"]), headers["ce_sequence"]
    if sequence <= last.get(stream, ""):
        sys.exit(f"out of order: {stream} has {sequence} after {last[stream]}")
    last[stream] = sequence
    # The payload, event.value(), is the protobuf message of the type. Pass over types you do not know.
    print(headers["ce_type"], headers["ce_subject"], sequence, headers["ce_id"], flush=follow)


while follow or ends:
    event = consumer.poll(1)
    if event is None:
        continue
    if event.error() is None:
        handle(event)
    elif event.error().code() != KafkaError._PARTITION_EOF:
        raise KafkaException(event.error())
    # There may be nothing to read right before an end, so the partition's end counts as well.
    if event.error() or event.offset() + 1 >= ends.get(event.partition(), 0):
        ends.pop(event.partition(), None)
consumer.close()
