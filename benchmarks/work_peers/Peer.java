import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A raw loop that commits whatever it has read, and Confluent's Parallel Consumer: each works on ROWS records of a topic,
 * answers each to another topic, and ends.
 *
 * <p>Peer raw|parallel BOOTSTRAP INGRESS EGRESS ROWS WORK_MS CONCURRENCY key|none URL|-
 */
public final class Peer {
  private static final int BATCH = 500;

  private final String bootstrap;
  private final String ingress;
  private final String egress;
  private final long workMs;
  private final int concurrency;
  private final boolean byKey;
  private final URI url;
  private final CountDownLatch answered;
  private final HttpClient http =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

  private Peer(String[] arguments) {
    bootstrap = arguments[1];
    ingress = arguments[2];
    egress = arguments[3];
    answered = new CountDownLatch(Integer.parseInt(arguments[4]));
    workMs = Long.parseLong(arguments[5]);
    concurrency = Integer.parseInt(arguments[6]);
    byKey = arguments[7].equals("key");
    url = arguments[8].equals("-") ? null : URI.create(arguments[8]);
  }

  public static void main(String[] arguments) throws Exception {
    Peer peer = new Peer(arguments);
    switch (arguments[0]) {
      case "raw" -> peer.raw();
      case "parallel" -> peer.parallel();
      default -> throw new IllegalArgumentException(arguments[0]);
    }
    System.exit(0);
  }

  /** Nothing is waited for, nothing is ordered, and what was read is committed, done or not. */
  private void raw() throws Exception {
    try (KafkaConsumer<String, byte[]> consumer = consumer();
        KafkaProducer<String, byte[]> producer = producer(5)) {
      consumer.subscribe(List.of(ingress));
      ExecutorService pool = Executors.newFixedThreadPool(concurrency);
      Semaphore slots = new Semaphore(2 * concurrency);
      AtomicInteger failed = new AtomicInteger();
      boolean inline = workMs == 0 && url == null;
      while (answered.getCount() > 0 && failed.get() == 0) {
        ConsumerRecords<String, byte[]> records = consumer.poll(Duration.ofMillis(100));
        for (ConsumerRecord<String, byte[]> record : records) {
          if (inline) {
            send(producer, record, failed);
            continue;
          }
          slots.acquire();
          pool.execute(
              () -> {
                send(producer, record, failed);
                slots.release();
              });
        }
        consumer.commitAsync();
      }
      pool.shutdownNow();
      if (failed.get() > 0) {
        System.exit(1);
      }
    }
  }

  private void send(
      KafkaProducer<String, byte[]> producer,
      ConsumerRecord<String, byte[]> record,
      AtomicInteger failed) {
    try {
      producer.send(
          new ProducerRecord<>(egress, record.key(), work(record.value())),
          (metadata, error) -> {
            if (error == null) {
              answered.countDown();
            } else {
              failed.incrementAndGet();
            }
          });
    } catch (IOException | InterruptedException error) {
      failed.incrementAndGet();
    }
  }

  /** As its own examples have it: a record is done when its answer is acknowledged. */
  private void parallel() throws Exception {
    // Work that waits is spread record by record; without work, records are taken and answered many at a time.
    int batch = workMs == 0 && url == null ? BATCH : 1;
    var options =
        ParallelConsumerOptions.<String, byte[]>builder()
            .consumer(consumer())
            .producer(producer(0))
            .ordering(
                byKey
                    ? ParallelConsumerOptions.ProcessingOrder.KEY
                    : ParallelConsumerOptions.ProcessingOrder.UNORDERED)
            .maxConcurrency(concurrency)
            .batchSize(batch)
            .build();
    ParallelStreamProcessor<String, byte[]> processor =
        ParallelStreamProcessor.createEosStreamProcessor(options);
    processor.subscribe(List.of(ingress));
    processor.pollAndProduceMany(
        context ->
            context.stream()
                .map(
                    record -> {
                      try {
                        return new ProducerRecord<>(egress, record.key(), work(record.value()));
                      } catch (IOException | InterruptedException error) {
                        throw new IllegalStateException(error);
                      }
                    })
                .toList(),
        result -> answered.countDown());
    answered.await();
    processor.closeDrainFirst();
  }

  private byte[] work(byte[] value) throws IOException, InterruptedException {
    long begun;
    long ended;
    if (url == null) {
      begun = System.nanoTime();
      if (workMs > 0) {
        Thread.sleep(workMs);
      }
      ended = System.nanoTime();
    } else {
      HttpRequest request =
          HttpRequest.newBuilder(url).POST(BodyPublishers.ofByteArray(value)).build();
      String said = http.send(request, BodyHandlers.ofString()).body();
      begun = number(said, "\"begun\":");
      ended = number(said, "\"ended\":");
    }
    return ByteBuffer.allocate(25).put((byte) 1).putLong(id(value)).putLong(begun).putLong(ended).array();
  }

  private static long number(String json, String name) {
    int from = json.indexOf(name) + name.length();
    int to = from;
    while (to < json.length() && Character.isDigit(json.charAt(to))) {
      to++;
    }
    return Long.parseLong(json.substring(from, to));
  }

  /** The datum's first field: a long, behind the five bytes that name the schema. */
  private static long id(byte[] value) {
    long number = 0;
    int shift = 0;
    for (int at = 5; ; at++) {
      number |= (value[at] & 0x7FL) << shift;
      if (value[at] >= 0) {
        return (number >>> 1) ^ -(number & 1);
      }
      shift += 7;
    }
  }

  private KafkaConsumer<String, byte[]> consumer() {
    Map<String, Object> settings = new HashMap<>();
    settings.put("bootstrap.servers", bootstrap);
    settings.put("group.id", egress);
    settings.put("auto.offset.reset", "earliest");
    settings.put("enable.auto.commit", "false");
    settings.put("isolation.level", "read_committed");
    settings.put("max.poll.records", "5000");
    return new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer());
  }

  private KafkaProducer<String, byte[]> producer(int lingerMs) {
    Map<String, Object> settings = new HashMap<>();
    settings.put("bootstrap.servers", bootstrap);
    settings.put("acks", "all");
    settings.put("enable.idempotence", "true");
    settings.put("compression.type", "lz4");
    settings.put("linger.ms", String.valueOf(lingerMs));
    settings.put("batch.size", "262144");
    return new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer());
  }
}
