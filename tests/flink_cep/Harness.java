// Runs pattern cases through Flink's own automaton (NFA), without a Flink job: a case per line of JSON in, a line out.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.functions.RuntimeContext;
import org.apache.flink.api.common.state.KeyedStateStore;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.typeutils.base.IntSerializer;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.cep.configuration.SharedBufferCacheConfig;
import org.apache.flink.cep.nfa.NFA;
import org.apache.flink.cep.nfa.NFAState;
import org.apache.flink.cep.nfa.aftermatch.AfterMatchSkipStrategy;
import org.apache.flink.cep.nfa.compiler.NFACompiler;
import org.apache.flink.cep.nfa.sharedbuffer.SharedBuffer;
import org.apache.flink.cep.nfa.sharedbuffer.SharedBufferAccessor;
import org.apache.flink.cep.pattern.Pattern;
import org.apache.flink.cep.pattern.conditions.IterativeCondition;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;

public final class Harness {
    private static final ObjectMapper JSON = new ObjectMapper();

    /** The events of the case at hand; the automaton sees their positions. */
    private static JsonNode events;

    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            Map<String, Object> result = new LinkedHashMap<>();
            try {
                run(JSON.readTree(line), result);
            } catch (Exception | StackOverflowError error) {
                result.clear();
                result.put("error", error.toString());
            }
            System.out.println(JSON.writeValueAsString(result));
        }
        System.exit(0); // a buffer's timer outlives an error
    }

    private static void run(JsonNode test, Map<String, Object> result) throws Exception {
        events = test.get("events");
        JsonNode described = test.get("pattern");
        AfterMatchSkipStrategy skip = skip(described.get("skip"));
        Pattern<Integer, ?> pattern = steps(described.get("steps"), skip);
        if (!described.get("within_ms").isNull()) {
            pattern = pattern.within(Duration.ofMillis(described.get("within_ms").asLong()));
        }
        NFA<Integer> nfa = NFACompiler.<Integer>compileFactory(pattern, true).createNFA();
        nfa.open(context(), null);
        NFAState state = nfa.createInitialNFAState();
        SharedBuffer<Integer> buffer =
                new SharedBuffer<>(store(), IntSerializer.INSTANCE, new SharedBufferCacheConfig());
        List<Map<String, List<Integer>>> matches = new ArrayList<>();
        List<Object> timeouts = new ArrayList<>();
        long last = 0;
        for (int position = 0; position < events.size(); position++) {
            last = events.get(position).get("ts").asLong();
            advance(nfa, buffer, state, last, skip, matches, timeouts);
            try (SharedBufferAccessor<Integer> accessor = buffer.getAccessor()) {
                long now = last;
                matches.addAll(nfa.process(accessor, state, position, last, skip, () -> now));
            }
        }
        if (test.hasNonNull("advance_to_ms")) {
            advance(nfa, buffer, state, test.get("advance_to_ms").asLong(), skip, matches, timeouts);
        }
        result.put("matches", matches);
        result.put("timeouts", timeouts);
        buffer.releaseCacheStatisticsTimer();
    }

    private static void advance(
            NFA<Integer> nfa,
            SharedBuffer<Integer> buffer,
            NFAState state,
            long time,
            AfterMatchSkipStrategy skip,
            List<Map<String, List<Integer>>> matches,
            List<Object> timeouts)
            throws Exception {
        try (SharedBufferAccessor<Integer> accessor = buffer.getAccessor()) {
            Tuple2<
                            Collection<Map<String, List<Integer>>>,
                            Collection<Tuple2<Map<String, List<Integer>>, Long>>>
                    brought = nfa.advanceTime(accessor, state, time, skip);
            matches.addAll(brought.f0);
            for (Tuple2<Map<String, List<Integer>>, Long> timeout : brought.f1) {
                timeouts.add(Map.of("labels", timeout.f0, "at_ms", timeout.f1));
            }
        }
    }

    private static AfterMatchSkipStrategy skip(JsonNode described) {
        String to = described.get("to").asText();
        switch (described.get("strategy").asText()) {
            case "skip_to_next":
                return AfterMatchSkipStrategy.skipToNext();
            case "skip_past_last":
                return AfterMatchSkipStrategy.skipPastLastEvent();
            case "skip_to_first":
                return AfterMatchSkipStrategy.skipToFirst(to);
            case "skip_to_last":
                return AfterMatchSkipStrategy.skipToLast(to);
            default:
                return AfterMatchSkipStrategy.noSkip();
        }
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    private static Pattern<Integer, ?> steps(JsonNode steps, AfterMatchSkipStrategy skip) {
        Pattern pattern = null;
        for (JsonNode step : steps) {
            JsonNode group = step.get("group");
            Pattern inner = group == null ? null : steps(group.get("steps"), AfterMatchSkipStrategy.noSkip());
            pattern = append(pattern, step, inner, skip);
            if (group == null && !step.get("condition").isNull()) {
                pattern = pattern.where(new Condition(step.get("condition").toString()));
            }
            pattern = quantify(pattern, step);
        }
        return pattern;
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    private static Pattern append(Pattern pattern, JsonNode step, Pattern inner, AfterMatchSkipStrategy skip) {
        String name = step.get("name").asText();
        if (pattern == null) {
            return inner == null ? Pattern.begin(name, skip) : Pattern.begin(inner, skip);
        }
        switch (step.get("contiguity").asText()) {
            case "next":
                return inner == null ? pattern.next(name) : pattern.next(inner);
            case "followed_by_any":
                return inner == null ? pattern.followedByAny(name) : pattern.followedByAny(inner);
            case "not_next":
                return pattern.notNext(name);
            case "not_followed_by":
                return pattern.notFollowedBy(name);
            default:
                return inner == null ? pattern.followedBy(name) : pattern.followedBy(inner);
        }
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    private static Pattern quantify(Pattern pattern, JsonNode step) {
        int minimum = step.get("quantifier").get("min").asInt();
        JsonNode maximum = step.get("quantifier").get("max");
        if (maximum.isNull()) {
            pattern = minimum == 1 ? pattern.oneOrMore() : pattern.timesOrMore(minimum);
        } else if (maximum.asInt() > 1) {
            pattern = minimum == maximum.asInt() ? pattern.times(minimum) : pattern.times(minimum, maximum.asInt());
        }
        if (step.get("optional").asBoolean()) {
            pattern = pattern.optional();
        }
        if (step.get("greedy").asBoolean()) {
            pattern = pattern.greedy();
        }
        if (step.get("inner").asText().equals("strict")) {
            pattern = pattern.consecutive();
        } else if (step.get("inner").asText().equals("any")) {
            pattern = pattern.allowCombinations();
        }
        if (!step.get("until").isNull()) {
            pattern = pattern.until(new Condition(step.get("until").toString()));
        }
        return pattern;
    }

    /** A name, and for iterative ones also a bound on what the partial match holds so far. */
    private static final class Condition extends IterativeCondition<Integer> {
        private final String described;
        private transient JsonNode parsed;

        Condition(String described) {
            this.described = described;
        }

        @Override
        public boolean filter(Integer position, Context<Integer> context) throws Exception {
            if (parsed == null) {
                parsed = JSON.readTree(described);
            }
            return holds(parsed, position, context);
        }

        private static boolean holds(JsonNode condition, int position, Context<Integer> context) throws Exception {
            if (condition.has("all")) {
                for (JsonNode part : condition.get("all")) {
                    if (!holds(part, position, context)) {
                        return false;
                    }
                }
                return true;
            }
            if (condition.has("field")) {
                String value = events.get(position).get(condition.get("field").asText()).asText();
                return value.equals(condition.get("value").asText());
            }
            double sum = events.get(position).get("price").asDouble();
            for (int taken : context.getEventsForPattern(condition.get("step").asText())) {
                sum += events.get(taken).get("price").asDouble();
            }
            return sum < condition.get("limit").asDouble();
        }
    }

    /** The conditions here ask nothing of it. */
    private static RuntimeContext context() {
        return (RuntimeContext)
                Proxy.newProxyInstance(
                        Harness.class.getClassLoader(),
                        new Class<?>[] {RuntimeContext.class},
                        (proxy, method, arguments) -> null);
    }

    /** State in plain maps: what the automaton needs of Flink's. */
    private static KeyedStateStore store() {
        return (KeyedStateStore)
                Proxy.newProxyInstance(
                        Harness.class.getClassLoader(),
                        new Class<?>[] {KeyedStateStore.class},
                        (proxy, method, arguments) -> {
                            switch (method.getName()) {
                                case "getMapState":
                                    return mapState(new HashMap<>());
                                case "getState":
                                    return valueState(new Object[1]);
                                default:
                                    throw new UnsupportedOperationException(method.getName());
                            }
                        });
    }

    private static Object mapState(Map<Object, Object> map) {
        return Proxy.newProxyInstance(
                Harness.class.getClassLoader(),
                new Class<?>[] {MapState.class},
                (proxy, method, arguments) -> {
                    switch (method.getName()) {
                        case "get":
                            return map.get(arguments[0]);
                        case "put":
                            map.put(arguments[0], arguments[1]);
                            return null;
                        case "putAll":
                            map.putAll((Map<?, ?>) arguments[0]);
                            return null;
                        case "remove":
                            map.remove(arguments[0]);
                            return null;
                        case "contains":
                            return map.containsKey(arguments[0]);
                        case "entries":
                            return map.entrySet();
                        case "keys":
                            return map.keySet();
                        case "values":
                            return map.values();
                        case "iterator":
                            return map.entrySet().iterator();
                        case "isEmpty":
                            return map.isEmpty();
                        case "clear":
                            map.clear();
                            return null;
                        default:
                            throw new UnsupportedOperationException(method.getName());
                    }
                });
    }

    private static Object valueState(Object[] value) {
        return Proxy.newProxyInstance(
                Harness.class.getClassLoader(),
                new Class<?>[] {ValueState.class},
                (proxy, method, arguments) -> {
                    switch (method.getName()) {
                        case "value":
                            return value[0];
                        case "update":
                            value[0] = arguments[0];
                            return null;
                        case "clear":
                            value[0] = null;
                            return null;
                        default:
                            throw new UnsupportedOperationException(method.getName());
                    }
                });
    }
}
