"""A forecast over HTTP from a running server: `kronos serve` in one window, this in another.

python rest_client.py [BARS.csv] [http://127.0.0.1:7070]
"""

import json
import sys
import urllib.request
import uuid
from pathlib import Path

HOST = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:7070"


def call(path: str, body: bytes | None = None, kind: str = "application/json") -> dict:
    """One request; errors come as {"error": {"code", "message"}} with a status of 4xx."""
    request = urllib.request.Request(HOST + path, data=body, headers={"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def upload(path: Path) -> str:
    """Sends a file of bars; returns the id that stands for it from now on."""
    edge = uuid.uuid4().hex
    head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
    body = head.encode() + path.read_bytes() + f"\r\n--{edge}--\r\n".encode()
    return call("/api/bars", body, f"multipart/form-data; boundary={edge}")["id"]


bars = upload(Path(sys.argv[1])) if len(sys.argv) > 1 else "sample-sp500"
asked = {"bars": bars, "model": "kronos-nano", "horizon": 12, "num_samples": 50, "seed": 0}
result = call("/api/forecasts?wait=true", json.dumps(asked).encode())

close = result["quantiles"]["close"]
for time, low, middle, high in zip(result["timestamps"], close["0.05"], close["0.5"], close["0.95"], strict=True):
    print(f"{time[:16]}  {low:10.2f} {middle:10.2f} {high:10.2f}")
cone = result["volatility"]
print(f"volatility a year {cone['expected'][-1]:.1%} ahead, {cone['context'][-1]:.1%} so far, by {cone['counted']}")

# Whether prices are touched on the way is asked of the finished forecast.
last = result["history"]["close"][-1]
prices = f"touch={0.95 * last}&take_profit={1.06 * last}&stop_loss={0.97 * last}"
told = call(f"/api/forecasts/{result['id']}/result?{prices}")
touch, first = told["touch"][0], told["first_touch"]["profit"]
print(f"touches {touch['price']:.2f}: {touch['prob_touch'][-1]:.0%} ± {100 * touch['error'][-1]:.0f}")
print(f"6 % higher before 3 % lower: {first['chance']:.0%} ± {100 * first['error']:.0f}")
print(result["risk"]["direction"] or f"P(up) {result['risk']['prob_up'][-1]:.0%}")  # kronos-nano gives no direction
