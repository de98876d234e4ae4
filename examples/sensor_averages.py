"""The average of each sensor over each minute, of readings that make sense.

python examples/feed.py sensor-stream      # ten minutes of readings
python examples/sensor_averages.py         # Ctrl-C ends it; the next start goes on where it was
"""

import os
from dataclasses import dataclass

from thalweg import App
from thalweg.analytics import average, count
from thalweg.streams import TumblingWindow, WatermarkGenerator


@dataclass
class SensorReading:
    sensor_id: str
    ts: int  # event time, ms UTC
    value: float


app = App("sensor-averages", broker=os.environ.get("THALWEG_BROKER", "sqlite:///data.db"))

readings = app.stream("sensor-stream", schema=SensorReading, timestamp="ts", watermark=WatermarkGenerator("5s"))
averages = (
    readings.filter(lambda r: (r.value >= 0) & (r.value <= 100))
    .key_by("sensor_id")
    .window(TumblingWindow("1m"))
    .aggregate(avg=average("value"), n=count())
)
averages.subscribe(lambda result: print(f"Sensor {result.key}: avg = {result.avg:.2f} of {result.n}"))
averages.to("sensor-averages")

if __name__ == "__main__":
    app.run()
