import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;

/**
 * Members of groups, each a thread with Java's consumer: java Members.java BOOTSTRAP
 *
 * Standard input: "start NAME GROUP TOPIC PAUSE-MS KEY=VALUE..." and "stop NAME"; its end stops all. PAUSE-MS is what a
 * member sleeps between two polls. Standard output: "NAME owns 0 1 2" whenever its assignment changes,
 * "NAME record PARTITION OFFSET" for each record, before it is committed, and "NAME left".
 */
public class Members {
    private static final Map<String, Member> MEMBERS = new ConcurrentHashMap<>();

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("start")) {
                Member member = new Member(args[0], words);
                MEMBERS.put(words[1], member);
                member.start();
            } else {
                MEMBERS.get(words[1]).stopping = true;
            }
        }
        for (Member member : MEMBERS.values()) {
            member.stopping = true;
        }
        for (Member member : MEMBERS.values()) {
            member.join();
        }
    }

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static final class Member extends Thread implements ConsumerRebalanceListener {
        private final String name;
        private final String topic;
        private final long pause;
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final TreeSet<Integer> owned = new TreeSet<>();
        private boolean uncommitted;
        volatile boolean stopping;

        Member(String bootstrap, String[] words) {
            name = words[1];
            topic = words[3];
            pause = Long.parseLong(words[4]);
            Properties settings = new Properties();
            String bytes = "org.apache.kafka.common.serialization.ByteArrayDeserializer";
            settings.putAll(Map.of("bootstrap.servers", bootstrap, "group.id", words[2], "auto.offset.reset", "earliest",
                    "enable.auto.commit", "false", "key.deserializer", bytes, "value.deserializer", bytes));
            for (String word : List.of(words).subList(5, words.length)) {
                String[] parts = word.split("=", 2);
                settings.put(parts[0], parts[1]);
            }
            consumer = new KafkaConsumer<>(settings);
        }

        @Override
        public void run() {
            try (consumer) {
                consumer.subscribe(List.of(topic), this);
                while (!stopping) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(50))) {
                        say(name + " record " + record.partition() + " " + record.offset());
                        uncommitted = true;
                    }
                    if (uncommitted) {
                        commit();
                    }
                    Thread.sleep(pause);
                }
            } catch (Exception error) {
                error.printStackTrace();
                say(name + " failed");
                return;
            }
            say(name + " left");
        }

        private void commit() {
            try {
                consumer.commitSync();
                uncommitted = false;
            } catch (RebalanceInProgressException later) {
                // The next poll takes part in the rebalance; then again.
            } catch (CommitFailedException lost) {
                say(name + " lost");
                uncommitted = false;
            }
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            partitions.forEach(partition -> owned.add(partition.partition()));
            tell();
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            if (uncommitted) {
                commit();
            }
            partitions.forEach(partition -> owned.remove(partition.partition()));
            tell();
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            say(name + " lost");
            partitions.forEach(partition -> owned.remove(partition.partition()));
            tell();
        }

        private void tell() {
            StringBuilder line = new StringBuilder(name).append(" owns");
            owned.forEach(partition -> line.append(' ').append(partition));
            say(line.toString());
        }
    }
}
