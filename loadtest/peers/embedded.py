"""Makes the table of embedded.sh, prints it, and writes it into the README.

Usage: embedded.py ROUNDS LINES README
"""

import datetime
import pathlib
import statistics
import sys

import page

rounds, lines, readme = sys.argv[1:]

GB = 8 * 256 * 2**20 / 1e9
rows = {"ours": [], "peer": []}
for line in pathlib.Path(lines).read_text().splitlines():
    name, seconds, used = line.split()
    rows[name].append((float(seconds), float(used)))
ratio = statistics.median(peer[0] / own[0] for own, peer in zip(rows["ours"], rows["peer"]))
table = ["| | MB/s, median (spread) | of the other | core-s/GB |", "|---|---|---|---|"]
for name, title in [("ours", "Caselock, one process, to receipts"), ("peer", "`cp` + `sync` + `b3sum`")]:
    rates = page.spread([GB * 1000 / seconds for seconds, _ in rows[name]], statistics.median, ".0f")
    used = statistics.median(used for _, used in rows[name]) / GB
    table.append(f"| {title} | {rates} | {f'{ratio:.2f}' if name == 'ours' else ''} | {used:.2f} |")
table.append(f"\n`loadtest/peers/embedded.sh {rounds}`, {datetime.date.today().isoformat()}.")
text = "\n".join(table)
print(text)
page.write(readme, "embedded", text)
