// The pattern benchmark's job in Flink: the same events, made from their numbers, through Flink's CEP operator.

import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.java.functions.KeySelector;
import org.apache.flink.cep.CEP;
import org.apache.flink.cep.functions.PatternProcessFunction;
import org.apache.flink.cep.nfa.aftermatch.AfterMatchSkipStrategy;
import org.apache.flink.cep.pattern.Pattern;
import org.apache.flink.cep.pattern.conditions.SimpleCondition;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.util.Collector;

public final class Bench {
    private static final int RATE = 100; // events per ms of event time

    private static volatile long warm;
    private static volatile long warmCpu;
    private static long matches;
    private static long taken;
    private static long ids;

    public static final class Event {
        public long id;
        public String user;
        public int kind;

        public Event() {}
    }

    public static void main(String[] arguments) throws Exception {
        String shape = arguments[0];
        long count = Long.parseLong(arguments[1]);
        int keys = Integer.parseInt(arguments[2]);
        Duration within = Duration.ofMillis(Long.parseLong(arguments[3]));
        Configuration configuration = new Configuration();
        StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(1, configuration);
        env.getConfig().enableObjectReuse();
        DataStream<Event> events =
                env.fromSequence(0, count - 1)
                        .map(new Make(keys, count / 5))
                        .returns(TypeInformation.of(Event.class))
                        .assignTimestampsAndWatermarks(
                                WatermarkStrategy.<Event>forMonotonousTimestamps()
                                        .withTimestampAssigner((event, before) -> event.id / RATE));
        KeySelector<Event, String> user = event -> event.user;
        CEP.pattern(events.keyBy(user), pattern(shape).within(within)).process(new Count()).sinkTo(new DiscardingSink<>());
        env.execute();
        double seconds = (System.nanoTime() - warm) / 1e9;
        double cpuSeconds = (cpu() - warmCpu) / 1e9;
        long measured = count - count / 5;
        System.out.printf(
                "{\"events_per_second\": %.0f, \"events_per_cpu_second\": %.0f,"
                        + " \"matches\": %d, \"taken\": %d, \"ids\": %d}%n",
                measured / seconds, measured / cpuSeconds, matches, taken, ids);
        System.exit(0);
    }

    /** Nanoseconds of CPU of the whole process so far. */
    private static long cpu() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
                .getProcessCpuTime();
    }

    private static Pattern<Event, ?> pattern(String shape) {
        AfterMatchSkipStrategy skip = AfterMatchSkipStrategy.skipPastLastEvent();
        Pattern<Event, Event> first = Pattern.begin("a", skip);
        switch (shape) {
            case "steps":
                return first.where(is(1)).followedBy("b").where(is(2)).followedBy("c").where(is(3));
            case "strict":
                return first.where(below(5)).times(3).consecutive();
            default:
                return first.where(is(1)).followedBy("b").where(is(2)).oneOrMore().followedBy("c").where(is(3));
        }
    }

    private static SimpleCondition<Event> is(int kind) {
        return SimpleCondition.of(event -> event.kind == kind);
    }

    private static SimpleCondition<Event> below(int kind) {
        return SimpleCondition.of(event -> event.kind < kind);
    }

    private static long mixed(long number) {
        long z = number * 0x9E3779B97F4A7C15L;
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return (z ^ (z >>> 31)) >>> 1;
    }

    /** Makes events of their numbers; notes when the first fifth, which warms up, is over. */
    private static final class Make implements MapFunction<Long, Event> {
        private final int keys;
        private final long from;

        Make(int keys, long from) {
            this.keys = keys;
            this.from = from;
        }

        @Override
        public Event map(Long number) {
            if (number == from) {
                warm = System.nanoTime();
                warmCpu = cpu();
            }
            Event event = new Event();
            event.id = number;
            event.user = mixed(2 * number + 1) % keys + "@example.org";
            event.kind = (int) (mixed(2 * number + 2) % 50);
            return event;
        }
    }

    private static final class Count extends PatternProcessFunction<Event, Long> {
        @Override
        public void processMatch(Map<String, List<Event>> match, Context context, Collector<Long> out) {
            matches++;
            for (List<Event> events : match.values()) {
                for (Event event : events) {
                    taken++;
                    ids += event.id;
                }
            }
        }
    }
}
