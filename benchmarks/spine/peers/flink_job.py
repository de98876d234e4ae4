"""The sensor job as Flink SQL: parallelism 1, per-partition watermarks, object reuse on (Flink's own tuning advice)."""

import os

from pyflink.table import EnvironmentSettings, TableEnvironment

bootstrap, source, sink = (os.environ[f"BENCH_{name}"] for name in ("BOOTSTRAP", "INPUT", "OUTPUT"))

tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
config = tables.get_config()
config.set("pipeline.jars", "file://" + os.environ["BENCH_FLINK_JAR"])
config.set("parallelism.default", "1")
config.set("pipeline.object-reuse", "true")
config.set("table.local-time-zone", "UTC")

tables.execute_sql(f"""
    CREATE TABLE readings (
        sensor_id STRING, ts BIGINT, temperature DOUBLE, humidity DOUBLE,
        event_time AS TO_TIMESTAMP_LTZ(ts, 3),
        WATERMARK FOR event_time AS event_time - INTERVAL '1' SECOND
    ) WITH (
        'connector' = 'kafka', 'topic' = '{source}', 'properties.bootstrap.servers' = '{bootstrap}',
        'properties.group.id' = 'flink-{sink}', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json'
    )""")
tables.execute_sql(f"""
    CREATE TABLE averages (sensor_id STRING, window_start BIGINT, average DOUBLE) WITH (
        'connector' = 'kafka', 'topic' = '{sink}', 'properties.bootstrap.servers' = '{bootstrap}', 'format' = 'json'
    )""")
tables.execute_sql("""
    INSERT INTO averages
    SELECT sensor_id, UNIX_TIMESTAMP(DATE_FORMAT(window_start, 'yyyy-MM-dd HH:mm:ss')) * 1000, AVG(temperature)
    FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(event_time), INTERVAL '1' SECOND))
    WHERE temperature BETWEEN 0 AND 100
    GROUP BY sensor_id, window_start, window_end
""").wait()
