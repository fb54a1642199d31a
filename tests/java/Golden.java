// Lets Kafka's own producer and broker write known bytes, and keeps them: see tests/golden/README.md.
// Run by scripts/golden: java -cp JARS Golden.java HOST:PORT BROKER_DIR OUTPUT_DIR

import java.io.*;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.*;
import org.apache.kafka.common.protocol.*;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.requests.RequestHeader;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Golden {
    static final long T = 1_700_000_000_000L;
    static final long DAY = 86_400_000L;
    static String bootstrap;
    static Path brokerDir, output;
    static PrintWriter facts;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        brokerDir = Path.of(args[1]);
        output = Path.of(args[2]);
        facts = new PrintWriter(Files.newBufferedWriter(output.resolve("facts.txt")));
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            facts.println("cluster " + admin.describeCluster().clusterId().get());
            facts.println("port " + bootstrap.split(":")[1]);
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
                create(admin, codec, Map.of());
                produce(codec, codec, 25);
                keep(codec);
            }
            create(admin, "append-time", Map.of("message.timestamp.type", "LogAppendTime"));
            produce("append-time", "gzip", 5);
            keep("append-time");
            transactions(admin);
            compacted(admin);
            create(admin, "written", Map.of());
            responses(admin);
        }
        facts.close();
    }

    static void create(Admin admin, String topic, Map<String, String> config) throws Exception {
        Map<String, String> all = new HashMap<>(config);
        all.put("retention.ms", "-1"); // the timestamps are old, but the marks of transactions are of now
        all.putIfAbsent("segment.ms", "3153600000000");
        admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1).configs(all))).all().get();
    }

    static byte[] utf8(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    static KafkaProducer<byte[], byte[]> producer(String codec, Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>(more);
        config.put("bootstrap.servers", bootstrap);
        config.put("compression.type", codec);
        config.put("linger.ms", 60_000); // what is sent before a flush is one batch
        config.put("batch.size", 100_000);
        config.put("enable.idempotence", true);
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** The list of tests/golden.rs: `count` records in one batch, and one more in a second batch. */
    static void produce(String topic, String codec, int count) throws Exception {
        try (var producer = producer(codec, Map.of())) {
            // Metadata first, else records of one linger may come to different batches.
            producer.partitionsFor(topic);
            var records = new ArrayList<ProducerRecord<byte[], byte[]>>();
            records.add(new ProducerRecord<>(topic, 0, T, (byte[]) null, (byte[]) null));
            records.add(new ProducerRecord<>(topic, 0, T + 1, utf8("k1"), new byte[0]));
            records.add(new ProducerRecord<>(topic, 0, T + 2, new byte[0], utf8("v"), List.of(
                new RecordHeader("a", utf8("1")), new RecordHeader("a", (byte[]) null),
                new RecordHeader("a", utf8("1")), new RecordHeader("", new byte[0]))));
            records.add(new ProducerRecord<>(topic, 0, T - 1000, utf8("\u043a\u043b\u044e\u0447"), utf8("x".repeat(300))));
            records.add(new ProducerRecord<>(topic, 0, T + DAY, null, utf8("plain")));
            for (int i = records.size(); i < count; i++) {
                records.add(new ProducerRecord<>(topic, 0, T + i, utf8("key-" + i), utf8("value number " + i)));
            }
            for (var record : records) producer.send(record);
            producer.flush();
            producer.send(new ProducerRecord<>(topic, 0, T + 99, null, utf8("second batch")));
            producer.flush();
        }
    }

    static void transactions(Admin admin) throws Exception {
        create(admin, "transactions", Map.of());
        try (var producer = producer("none", Map.of("transactional.id", "golden"))) {
            producer.initTransactions();
            for (String end : List.of("abort", "commit")) {
                producer.beginTransaction();
                for (int i = 0; i < 2; i++) {
                    producer.send(new ProducerRecord<>("transactions", 0, T + i, utf8("k"), utf8(end + " " + i)));
                }
                producer.flush();
                if (end.equals("abort")) producer.abortTransaction(); else producer.commitTransaction();
            }
        }
        // The last mark is written behind the producer's back.
        var partition = new TopicPartition("transactions", 0);
        await("the commit's mark", () -> admin
            .listOffsets(Map.of(partition, OffsetSpec.latest()), new ListOffsetsOptions(IsolationLevel.READ_COMMITTED))
            .partitionResult(partition).get().offset() == 6);
        keep("transactions");
    }

    /** Six records of which four stay, one of them a tombstone; the second batch, a day later, begins a new segment. */
    static void compacted(Admin admin) throws Exception {
        create(admin, "compacted", Map.of("cleanup.policy", "compact", "segment.ms", "3600000",
            "min.cleanable.dirty.ratio", "0.01", "delete.retention.ms", "86400000"));
        try (var producer = producer("none", Map.of())) {
            producer.partitionsFor("compacted");
            String[][] records = {{"a", "1"}, {"b", "1"}, {"a", "2"}, {"c", "1"}, {"c", null}, {"d", "1"}};
            for (int i = 0; i < records.length; i++) {
                producer.send(new ProducerRecord<>("compacted", 0, T + i, utf8(records[i][0]), utf8(records[i][1])));
            }
            producer.flush();
            producer.send(new ProducerRecord<>("compacted", 0, T + DAY, utf8("z"), utf8("1")));
            producer.flush();
        }
        Path segment = log("compacted").resolve("00000000000000000000.log");
        await("the cleaner", () -> {
            try (FileRecords file = FileRecords.open(segment.toFile(), false)) {
                int left = 0;
                for (var record : file.records()) left++;
                return left == 4;
            }
        });
        keep("compacted");
    }

    interface Condition { boolean holds() throws Exception; }

    static void await(String what, Condition condition) throws Exception {
        long deadline = System.nanoTime() + 60_000_000_000L;
        while (!condition.holds()) {
            if (System.nanoTime() > deadline) throw new IllegalStateException("no end of waiting for " + what);
            Thread.sleep(50);
        }
    }

    static Path log(String topic) throws IOException {
        try (var paths = Files.walk(brokerDir)) {
            return paths.filter(path -> path.endsWith(topic + "-0") && Files.isDirectory(path)).findFirst().orElseThrow();
        }
    }

    /** Keeps a partition's first segment, which is its batches one after the other, and how Java reads the headers. */
    static void keep(String topic) throws IOException {
        Path segment = log(topic).resolve("00000000000000000000.log");
        Path kept = output.resolve(topic + ".batches");
        try (FileRecords file = FileRecords.open(segment.toFile(), false);
             var out = Files.newOutputStream(kept)) {
            for (var batch : file.batches()) {
                batch.ensureValid();
                ByteBuffer buffer = ByteBuffer.allocate(batch.sizeInBytes());
                batch.writeTo(buffer);
                out.write(buffer.array());
                var whole = new DefaultRecordBatchView(buffer.flip());
                facts.printf("batch %s %d %d %d %d %d %d %d %d %d %d%n", topic, batch.baseOffset(), batch.lastOffset(),
                    batch.partitionLeaderEpoch(), whole.attributes(), whole.baseTimestamp(), batch.maxTimestamp(),
                    batch.producerId(), batch.producerEpoch(), batch.baseSequence(), whole.count());
            }
        }
    }

    /** What Java's batches of a file do not tell. */
    record DefaultRecordBatchView(ByteBuffer bytes) {
        int attributes() { return bytes.getShort(21); }
        long baseTimestamp() { return bytes.getLong(27); }
        int count() { return bytes.getInt(57); }
    }

    // Responses, as they come from the socket.

    static int correlation = 100;

    static ByteBufferAccessor ask(String file, ApiKeys api, int version, ApiMessage request) throws IOException {
        var header = new RequestHeader(api, (short) version, "golden", ++correlation);
        ByteBuffer head = MessageUtil.toByteBufferAccessor(header.data(), header.headerVersion()).buffer();
        ByteBuffer body = MessageUtil.toByteBufferAccessor(request, (short) version).buffer();
        byte[] frame;
        try (Socket socket = new Socket("127.0.0.1", Integer.parseInt(bootstrap.split(":")[1]))) {
            var out = new DataOutputStream(new BufferedOutputStream(socket.getOutputStream()));
            out.writeInt(head.remaining() + body.remaining());
            out.write(head.array(), head.position(), head.remaining());
            out.write(body.array(), body.position(), body.remaining());
            out.flush();
            var in = new DataInputStream(socket.getInputStream());
            frame = new byte[in.readInt()];
            in.readFully(frame);
        }
        if (file != null) {
            Files.write(output.resolve(file + "." + version + ".response"), frame);
            facts.printf("correlation %s.%d %d%n", file, version, correlation);
        }
        var bytes = new ByteBufferAccessor(ByteBuffer.wrap(frame));
        new ResponseHeaderData(bytes, api.responseHeaderVersion((short) version));
        return bytes;
    }

    static void responses(Admin admin) throws Exception {
        var topics = admin.describeTopics(List.of("none", "transactions", "compacted", "written")).allTopicNames().get();
        for (var topic : topics.values()) facts.printf("topic %s %s%n", topic.name(), hex(topic.topicId()));
        Uuid none = topics.get("none").topicId(), written = topics.get("written").topicId();

        var versions = new ApiVersionsResponseData(ask("ApiVersions", ApiKeys.API_VERSIONS, 4,
            new ApiVersionsRequestData().setClientSoftwareName("golden").setClientSoftwareVersion("1")), (short) 4);
        for (var api : versions.apiKeys()) {
            facts.printf("api %d %d %d%n", api.apiKey(), api.minVersion(), api.maxVersion());
        }
        for (int version : new int[] {12, 13}) {
            ask("Metadata", ApiKeys.METADATA, version, new MetadataRequestData().setAllowAutoTopicCreation(false)
                .setTopics(List.of(new MetadataRequestData.MetadataRequestTopic().setName("none"),
                    new MetadataRequestData.MetadataRequestTopic().setName("nowhere"))));
        }
        fetch("Fetch", 18, "none", none, 0, 0);
        fetch("Fetch", 12, "none", none, 0, 0);
        fetch("FetchAborted", 18, "transactions", topics.get("transactions").topicId(), 0, 1);
        fetch("FetchOutOfRange", 18, "none", none, 1000, 0);

        produce("Produce", 13, written);
        produce("ProduceUnknown", 13, new Uuid(1, 2));
        produce("ProduceInvalid", 13, topics.get("compacted").topicId());

        await("the group's coordinator", () -> findCoordinator(null).coordinators().get(0).errorCode() == 0);
        findCoordinator("FindCoordinator");
        ask("DescribeProducers", ApiKeys.DESCRIBE_PRODUCERS, 0, new DescribeProducersRequestData().setTopics(List.of(
            new DescribeProducersRequestData.TopicRequest().setName("none").setPartitionIndexes(List.of(0)))));
    }

    static String hex(Uuid id) {
        return String.format("%016x%016x", id.getMostSignificantBits(), id.getLeastSignificantBits());
    }

    static void fetch(String file, int version, String name, Uuid id, long offset, int isolation) throws IOException {
        var topic = new FetchRequestData.FetchTopic().setPartitions(List.of(new FetchRequestData.FetchPartition()
            .setPartition(0).setCurrentLeaderEpoch(-1).setFetchOffset(offset).setPartitionMaxBytes(1 << 20)));
        if (version < 13) topic.setTopic(name); else topic.setTopicId(id);
        ask(file, ApiKeys.FETCH, version, new FetchRequestData().setMaxWaitMs(500).setMinBytes(1).setMaxBytes(1 << 20)
            .setIsolationLevel((byte) isolation).setSessionId(0).setSessionEpoch(-1).setTopics(List.of(topic)));
    }

    static void produce(String file, int version, Uuid id) throws IOException {
        var records = MemoryRecords.withRecords(Compression.NONE, new SimpleRecord(T, utf8("no key")));
        if (file.equals("ProduceInvalid")) records = MemoryRecords.withRecords(Compression.NONE,
            new SimpleRecord(T, utf8("k"), utf8("v")), new SimpleRecord(T, utf8("no key")));
        var partition = new ProduceRequestData.PartitionProduceData().setIndex(0).setRecords(records);
        var topics = new ProduceRequestData.TopicProduceDataCollection();
        topics.add(new ProduceRequestData.TopicProduceData().setTopicId(id).setPartitionData(List.of(partition)));
        ask(file, ApiKeys.PRODUCE, version,
            new ProduceRequestData().setAcks((short) -1).setTimeoutMs(10_000).setTopicData(topics));
    }

    static FindCoordinatorResponseData findCoordinator(String file) throws IOException {
        return new FindCoordinatorResponseData(ask(file, ApiKeys.FIND_COORDINATOR, 5,
            new FindCoordinatorRequestData().setKeyType((byte) 0).setCoordinatorKeys(List.of("g"))), (short) 5);
    }
}
