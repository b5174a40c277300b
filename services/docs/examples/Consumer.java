import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * Reads Caselock's events from the first one on, and prints each event once. Needs kafka-clients.
 *
 * <p>Usage: java -cp 'libs/*' Consumer.java BROKERS TOPIC [--follow] [NAME=VALUE…]
 *
 * <p>It ends with the events there are when it starts; with --follow it goes on. NAME=VALUE are further settings of the client,
 * such as security.protocol=SSL.
 */
public class Consumer {
    // What to remember in a database, with the work that an event causes: ids and sequences outlive this process there.
    private static final Set<String> seen = new HashSet<>();
    private static final Map<List<String>, String> last = new HashMap<>();

    public static void main(String[] args) {
        var more = Arrays.asList(args).subList(2, args.length);
        var follow = more.contains("--follow");
        var settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        // Without a group nothing is committed. What is to go on where it stopped subscribes in a group instead, with
        // auto.offset.reset=earliest, and commits after its own work is durable.
        settings.put("enable.auto.commit", "false");
        for (var setting : more) {
            if (!setting.equals("--follow")) {
                settings.put(setting.split("=", 2)[0], setting.split("=", 2)[1]);
            }
        }
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            var partitions = consumer.partitionsFor(args[1]).stream()
                    .map(info -> new TopicPartition(info.topic(), info.partition()))
                    .toList();
            if (partitions.isEmpty()) {
                throw new IllegalArgumentException("there is no topic " + args[1]);
            }
            var ends = consumer.endOffsets(partitions);
            consumer.assign(partitions);
            // From the beginning, whatever was read before: a replay.
            consumer.seekToBeginning(partitions);
            while (follow || partitions.stream().anyMatch(one -> consumer.position(one) < ends.get(one))) {
                for (var event : consumer.poll(Duration.ofSeconds(1))) {
                    handle(event);
                }
            }
        }
    }

    private static void handle(ConsumerRecord<String, byte[]> event) {
        var headers = Arrays.stream(event.headers().toArray())
                .collect(Collectors.toMap(header -> header.key(), header -> new String(header.value(), StandardCharsets.UTF_8)));
        var id = headers.get("ce_id");
        // Delivery is at least once. A repeated event may come behind later ones, so ids are looked at before the order is.
        if (!seen.add(id)) {
            return;
        }
        // Order holds for each source and subject, which is for each recording or case: in one partition, with growing sequences.
        var stream = List.of(headers.get("ce_source"), headers.get("ce_subject"));
        var sequence = headers.get("ce_sequence");
        var before = last.put(stream, sequence);
        if (before != null && sequence.compareTo(before) <= 0) {
            throw new IllegalStateException("out of order: " + stream + " has " + sequence + " after " + before);
        }
        // The payload, event.value(), is the protobuf message of the type. Pass over types you do not know.
        System.out.println(headers.get("ce_type") + " " + headers.get("ce_subject") + " " + sequence + " " + id);
    }
}
