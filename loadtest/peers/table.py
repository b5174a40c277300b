"""Makes the table of a comparison, prints it, and writes it into the README.

Usage: table.py WHAT ROUNDS LINES README REPORT…
"""

import datetime
import json
import pathlib
import statistics
import sys

import page

what, rounds, lines, readme, *reports = sys.argv[1:]
GB = 1e9

# By name: MB/s of each round, and core-seconds for each GB of client, gateway (or tusd), archiver, Kafka, S3.
rows = {}


def add(name, rate, *cost):
    rows.setdefault(name, []).append((rate, *cost))


for path in sorted(reports, key=lambda path: int(path.split("-")[-1].split("/")[0])):
    report = json.loads(pathlib.Path(path).read_text())["report"]
    assert report["stored"] == report["recordings"] and not report["problems"], path
    used = {process["name"]: process["processor_seconds_per_gb"] for process in report["processes"]}
    cost = [used["client"], used["gateway"] + used.get("gateway-tls", 0), used["archiver"], used["kafka"], used["s3"]]
    match report["name"].split("-")[0]:
        case "plain":
            add("Caselock, to receipts", report["receipted_rate"], *cost)
        case "tls":
            add("the same with mTLS", report["receipted_rate"], *cost)
        case "accepted":
            add("Caselock, to ACCEPTED alone", report["accepted_rate"])
for line in pathlib.Path(lines).read_text().splitlines():
    peer, size, began, ended, user, system, *servers = line.split()
    size, seconds = float(size), float(ended) - float(began)
    kafka, s3, tusd = [(float(after) - float(before)) / 100 / (size / GB) for before, after in zip(servers[:3], servers[3:])]
    add(peer, size / 1e6 / seconds, (float(user) + float(system)) / (size / GB), tusd if peer == "tusd" else 0, 0, kafka, s3)


peers = [name for name in rows if name in ("mc", "aws", "tusd", "kafka")]
table = [
    "| | MB/s, median (spread) | " + " | ".join(f"of {peer}" for peer in peers) + " | client, core-s/GB | gateway | archiver | Kafka | S3 |",
    "|---|---|" + "---|" * (len(peers) + 5),
]
for name, values in rows.items():
    rate = statistics.median(value[0] for value in values)
    ratios = []
    for peer in peers:
        # Round by round: the machine is noisy, and neighbours share its noise.
        pairs = [ours[0] / theirs[0] for ours, theirs in zip(values, rows[peer])]
        ratios.append("" if name == peer else f"{statistics.median(pairs):.2f}")
    used = [f"{statistics.median(values):.2f}" for values in list(zip(*values))[1:]] or [""] * 5
    table.append(f"| {name} | {page.spread([value[0] for value in values], statistics.median, '.0f')} | " + " | ".join(ratios + used) + " |")
today = datetime.date.today().isoformat()
table.append(f"\n`loadtest/peers/compare.sh {what} {rounds}`, {today}.")
text = "\n".join(table)
print(text)

page.write(readme, what, text)
