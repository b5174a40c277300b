#!/usr/bin/env python3
"""Takes each of the chart's values away, by null, as a key does with nothing but comments beneath it: the chart renders without it, or says which it needs.

Usage: helm/schemas/nulls.py VALUES    (needs helm, and PyYAML)
"""

import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import yaml

CHART = pathlib.Path(__file__).parent.parent / "caselock"


def paths(values, above=""):
    for key, value in values.items():
        path = above + key.replace(".", "\\.")
        yield path
        if isinstance(value, dict):
            yield from paths(value, path + ".")


def wrong(path):
    command = ["helm", "template", "caselock", CHART, "--namespace", "ingest", "--values", sys.argv[1], "--set-json", f"{path}=null"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        # By the schema, or by the chart itself.
        is_named = f"missing property '{path.split('.')[-1]}'" in done.stderr or "execution error" in done.stderr and path in done.stderr
        return None if is_named else f"{path} is missed without being named: {done.stderr}"
    # The dashboards' own JSON has nulls.
    rendered = (line for line in done.stdout.splitlines() if not line.lstrip().startswith('"'))
    holes = [line for line in rendered if "<nil>" in line or line.endswith(": null") or ": }" in line]
    return f"without {path} there is a hole: {holes[0]}" if holes else None


with ThreadPoolExecutor(2) as pool:
    found = [one for one in pool.map(wrong, paths(yaml.safe_load((CHART / "values.yaml").read_text()))) if one]
sys.exit("\n".join(found) or 0)
