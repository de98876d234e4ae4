"""One Nexmark query of the benchmark as Flink SQL: parallelism 1, object reuse on; settings by `BENCH_…` variables."""

import json
import os

from pyflink.table import EnvironmentSettings, TableEnvironment

bootstrap, prefix, sink = (os.environ[f"BENCH_{name}"] for name in ("BOOTSTRAP", "PREFIX", "OUTPUT"))
spec = json.loads(os.environ["BENCH_SQL"])

tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
config = tables.get_config()
config.set("pipeline.jars", "file://" + os.environ["BENCH_FLINK_JAR"])
config.set("parallelism.default", "1")
config.set("pipeline.object-reuse", "true")
config.set("table.local-time-zone", "UTC")

COLUMNS = {
    "person": "id BIGINT, name STRING, email_address STRING, credit_card STRING, city STRING, state STRING",
    "auction": "id BIGINT, item_name STRING, description STRING, initial_bid BIGINT, reserve BIGINT, expires BIGINT,"
    " seller BIGINT, category BIGINT",
    "bid": "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING",
}
for name, columns in COLUMNS.items():
    tables.execute_sql(f"""
        CREATE TABLE {name} ({columns}, date_time BIGINT, extra STRING,
            et AS TO_TIMESTAMP_LTZ(date_time, 3), WATERMARK FOR et AS et - INTERVAL '0.001' SECOND
        ) WITH (
            'connector' = 'kafka', 'topic' = '{prefix}{name}', 'properties.bootstrap.servers' = '{bootstrap}',
            'properties.group.id' = 'flink-{sink}', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json'
        )""")
key = spec.get("key")
primary = f", PRIMARY KEY ({key}) NOT ENFORCED" if key else ""
formats = "'key.format' = 'json', 'value.format' = 'json'" if key else "'format' = 'json'"
tables.execute_sql(f"""
    CREATE TABLE results ({spec["columns"]}{primary}) WITH (
        'connector' = '{"upsert-kafka" if key else "kafka"}', 'topic' = '{sink}',
        'properties.bootstrap.servers' = '{bootstrap}', {formats}
    )""")
tables.execute_sql(f"INSERT INTO results {spec['sql']}").wait()
