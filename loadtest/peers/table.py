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

# By name: MB/s of each round, and core-seconds for each GB of client, services, Kafka, S3.
rows = {}


def add(name, rate, client, services, kafka, s3):
    rows.setdefault(name, []).append((rate, client, services, kafka, s3))


for path in reports:
    report = json.loads(pathlib.Path(path).read_text())["report"]
    assert report["stored"] == report["recordings"] and not report["problems"], path
    used = {process["name"]: process["processor_seconds_per_gb"] for process in report["processes"]}
    services = used["gateway"] + used["archiver"]
    add("Caselock, to receipts", report["receipted_rate"], used["client"], services, used["kafka"], used["s3"])
    add("Caselock, to ACCEPTED", report["accepted_rate"], used["client"], services, used["kafka"], used["s3"])
for line in pathlib.Path(lines).read_text().splitlines():
    peer, size, began, ended, user, system, *servers = line.split()
    size, seconds = float(size), float(ended) - float(began)
    kafka, s3, tusd = [(float(after) - float(before)) / 100 / (size / GB) for before, after in zip(servers[:3], servers[3:])]
    add(peer, size / 1e6 / seconds, (float(user) + float(system)) / (size / GB), tusd if peer == "tusd" else 0, kafka, s3)


peers = [name for name in rows if not name.startswith("Caselock")]
table = [
    "| | MB/s, median (spread) | " + " | ".join(f"of {peer}" for peer in peers) + " | client, core-s/GB | services | Kafka | S3 |",
    "|---|---|" + "---|" * (len(peers) + 4),
]
for name, values in rows.items():
    rate = statistics.median(value[0] for value in values)
    ratios = []
    for peer in peers:
        # Round by round: the machine is noisy, and neighbours share its noise.
        pairs = [ours[0] / theirs[0] for ours, theirs in zip(values, rows[peer])]
        ratios.append("" if name == peer else f"{statistics.median(pairs):.2f}")
    used = [f"{statistics.median(value[place] for value in values):.2f}" for place in range(1, 5)]
    table.append(f"| {name} | {page.spread([value[0] for value in values], statistics.median, '.0f')} | " + " | ".join(ratios + used) + " |")
today = datetime.date.today().isoformat()
table.append(f"\n`loadtest/peers/compare.sh {what} {rounds}`, {today}.")
text = "\n".join(table)
print(text)

page.write(readme, what, text)
