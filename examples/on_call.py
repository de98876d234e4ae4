"""On call: rules, routes, escalation and silences from a file, evaluated on a stream of hosts' loads.

export ALERT_HOOK=http://127.0.0.1:8080 ALERT_SECRET=… THALWEG_ALERTS_KEY=…   # where webhooks go; named in the file
python examples/feed.py loads
python examples/on_call.py
thalweg alerts list                        # and ack, resolve, explain, silence, override …
thalweg alerts serve examples/on_call.yaml # the same alerts as a service, for events that come over HTTP
"""

import os
from dataclasses import dataclass
from pathlib import Path

from thalweg import App
from thalweg.alerts.files import load
from thalweg.streams import WatermarkGenerator


@dataclass
class Load:
    ts: int  # event time, ms UTC
    host: str
    cpu: float  # percent
    disk: float


alerts = load(Path(__file__).with_name("on_call.yaml"))
if not alerts.silences:
    alerts.silence(['host=~"build-.*"', "severity!=critical"], "2h", by="ada", reason="load test")

app = App("on-call", broker=os.environ.get("THALWEG_BROKER", "sqlite:///data.db"))
loads = app.stream("loads", schema=Load, timestamp="ts", watermark=WatermarkGenerator("1s"))
loads.key_by("host").alert(alerts).to("on-call-alerts")

if __name__ == "__main__":
    app.run()
