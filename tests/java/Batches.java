// Reads and writes record batches with Kafka's own classes, for tests/real_java_reads.rs.
//   java -cp JARS Batches.java read FILE        prints what is in it
//   java -cp JARS Batches.java write FILE SEED  writes random batches, and prints what was put into them
// A line for each batch, "batch CODEC PRODUCER_ID EPOCH SEQUENCE COUNT", then one for each record:
// "TIMESTAMP KEY VALUE NAME=VALUE...", all in hex but the first, "-" for null.

import java.io.*;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.*;

public class Batches {
    static final PrintStream out = new PrintStream(new BufferedOutputStream(System.out));

    public static void main(String[] args) throws Exception {
        if (args[0].equals("read")) read(new File(args[1])); else write(Path.of(args[1]), Long.parseLong(args[2]));
        out.flush();
    }

    static void read(File file) throws Exception {
        try (FileRecords records = FileRecords.open(file, false)) {
            for (var batch : records.batches()) {
                batch.ensureValid(); // size and CRC
                out.printf("batch %s %d %d %d %d%n", batch.compressionType().name, batch.producerId(),
                    batch.producerEpoch(), batch.baseSequence(), batch.lastOffset() - batch.baseOffset() + 1);
                for (var record : batch) {
                    record.ensureValid();
                    line(record.timestamp(), bytes(record.key()), bytes(record.value()), record.headers());
                }
            }
        }
    }

    static byte[] bytes(ByteBuffer buffer) {
        if (buffer == null) return null;
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    static String hex(byte[] bytes) {
        return bytes == null ? "-" : HexFormat.of().formatHex(bytes);
    }

    static void line(long timestamp, byte[] key, byte[] value, Header[] headers) {
        var line = new StringBuilder(timestamp + " " + hex(key) + " " + hex(value));
        for (Header header : headers) {
            line.append(' ').append(hex(header.key().getBytes(StandardCharsets.UTF_8)));
            line.append('=').append(hex(header.value()));
        }
        out.println(line);
    }

    static void write(Path file, long seed) throws Exception {
        Random random = new Random(seed);
        try (var to = Files.newOutputStream(file)) {
            for (int round = 0; round < 10; round++) {
                for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
                    int count = 1 + random.nextInt(40);
                    long id = random.nextInt(1 << 20);
                    short epoch = (short) random.nextInt(1 << 15);
                    int sequence = random.nextInt(1 << 30);
                    // Compressed ones come out smaller; the buffer grows by itself anyway.
                    var builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 20), RecordBatch.CURRENT_MAGIC_VALUE,
                        Compression.of(codec).build(), TimestampType.CREATE_TIME, 0, -1, id, epoch, sequence, false, -1);
                    out.printf("batch %s %d %d %d %d%n", codec, id, epoch, sequence, count);
                    for (int i = 0; i < count; i++) {
                        long timestamp = 1_700_000_000_000L + random.nextInt();
                        byte[] key = some(random, 200), value = some(random, 10_000);
                        Header[] headers = new Header[random.nextInt(4)];
                        for (int h = 0; h < headers.length; h++) {
                            headers[h] = new RecordHeader("h" + random.nextInt(3), some(random, 50));
                        }
                        builder.append(timestamp, key, value, headers);
                        line(timestamp, key, value, headers);
                    }
                    to.write(bytes(builder.build().buffer()));
                }
            }
        }
    }

    /** Null, empty, random or repetitive. */
    static byte[] some(Random random, int limit) {
        int kind = random.nextInt(8);
        if (kind == 0) return null;
        byte[] bytes = new byte[kind == 1 ? 0 : random.nextInt(limit + 1)];
        if (kind < 4) random.nextBytes(bytes); else Arrays.fill(bytes, (byte) random.nextInt());
        return bytes;
    }
}
