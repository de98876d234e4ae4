"""SQL injection: an address probes with UNION SELECT, and within 30 seconds one of its requests succeeds.

python examples/feed.py requests
python examples/sql_injection.py
"""

import os
from dataclasses import dataclass

from thalweg import App
from thalweg.cep import PatternBuilder, PatternMatcher
from thalweg.streams import WatermarkGenerator


@dataclass
class Request:
    ts: int  # event time, ms UTC
    ip: str
    url: str
    status_code: int


sql_injection = (
    PatternBuilder.create("sql-injection", "SQL Injection Attack")
    .where("probe", lambda e: "UNION SELECT" in e.url)
    .where("exploit", lambda e: e.status_code == 200)
    .within("30s")
    .build()
)
matcher = PatternMatcher(key="ip")
matcher.register_pattern(sql_injection)
matcher.on("match", lambda match: print(f"SQL injection from {match.key}: {match.events['probe'][0].url}"))

app = App("sql-injection", broker=os.environ.get("THALWEG_BROKER", "sqlite:///data.db"))
requests = app.stream("requests", schema=Request, timestamp="ts", watermark=WatermarkGenerator("1s"))
requests.detect(matcher).to("sql-injections")

if __name__ == "__main__":
    app.run()
