#!/usr/bin/env bash
# The metrics of several processes, put together into one text by writing one after the other,
# have the HELP and TYPE lines of each metric more than once, and its samples in several groups.
# The text format wants one of each, and one group. Readers differ:
#
#   the server of Prometheus 2.42.0   takes such a text without a word: the target is up, and all
#                                     samples are there; of two TYPE lines the last one counts
#   its promtool check metrics        refuses it (second HELP line), so the check and the server
#                                     disagree; if the second group has no HELP and TYPE, promtool
#                                     finds nothing wrong either
#   prometheus_client 0.26.0, Python  gives the metric twice, each time with a part of the samples:
#                                     a program that keeps families by name loses the first part
#
# An exporter for many processes therefore has to sort what it joins by metric.
#
# Seen: "promtool, joined: second HELP line", "promtool, second group without a head: passes",
# "server: up 1, samples 2, type gauge", "prometheus_client: 2 families, 1 sample in the last".
set -euo pipefail

folder=$(mktemp -d)
server=
files=
trap 'kill $server $files 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
chmod 755 .
apt-get download --quiet --quiet prometheus=2.42.0+ds-5+deb12u1 2>/dev/null
dpkg-deb --extract prometheus_*.deb root
python3 -m venv python
python/bin/pip --quiet --disable-pip-version-check install prometheus-client==0.26.0

mkdir served
printf '%s\n' '# HELP a_total As.' '# TYPE a_total counter' 'a_total{vm="x"} 1' \
    '# HELP b_total Bs.' '# TYPE b_total counter' 'b_total{vm="x"} 1' \
    '# HELP a_total As.' '# TYPE a_total gauge' 'a_total{vm="y"} 2' > served/joined
printf '%s\n' '# HELP a_total As.' '# TYPE a_total counter' 'a_total{vm="x"} 1' \
    '# HELP b_total Bs.' '# TYPE b_total counter' 'b_total{vm="x"} 1' 'a_total{vm="y"} 2' \
    > served/split

failed=0
expect() {
    echo "$1"
    if [[ $1 != "$2" ]]; then
        echo "  where these versions gave: $2" >&2
        failed=1
    fi
}

said=$(root/usr/bin/promtool check metrics < served/joined 2>&1 || true)
[[ $said == *"second HELP line"* ]] && said="second HELP line"
expect "promtool, joined: $said" "promtool, joined: second HELP line"
said=passes
root/usr/bin/promtool check metrics < served/split > /dev/null 2>&1 || said=refuses
expect "promtool, second group without a head: $said" \
    "promtool, second group without a head: passes"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port)
python3 -m http.server --bind 127.0.0.1 --directory served "$port" > /dev/null 2>&1 &
files=$!
own=$(free_port)
printf '%s\n' 'global: { scrape_interval: 1s }' 'scrape_configs:' \
    "- { job_name: joined, metrics_path: /joined, static_configs: [{ targets: ['127.0.0.1:$port'] }] }" \
    > prometheus.yml
root/usr/bin/prometheus --config.file=prometheus.yml --storage.tsdb.path=tsdb \
    --web.listen-address="127.0.0.1:$own" > prometheus.log 2>&1 &
server=$!
ask='
import json, sys, time, urllib.request
base = sys.argv[1]
def get(path):
    return json.load(urllib.request.urlopen(base + path))["data"]
for _ in range(100):
    try:
        up = get("/api/v1/query?query=up")["result"]
        samples = get("/api/v1/query?query=a_total")["result"]
        types = get("/api/v1/metadata?metric=a_total").get("a_total", [])
        if up and up[0]["value"][1] == "1" and samples:
            kind = types[-1]["type"] if types else "none"
            print(f"up 1, samples {len(samples)}, type {kind}")
            break
    except (OSError, KeyError):
        pass
    time.sleep(0.2)
'
expect "server: $(python3 -c "$ask" "http://127.0.0.1:$own")" "server: up 1, samples 2, type gauge"

families='
from prometheus_client.parser import text_string_to_metric_families as parse
found = [f for f in parse(open("served/joined").read()) if f.name.startswith("a")]
print(f"{len(found)} families, {len(found[-1].samples)} sample in the last")
'
expect "prometheus_client: $(python/bin/python -c "$families")" \
    "prometheus_client: 2 families, 1 sample in the last"
exit "$failed"
