#!/usr/bin/env python3
"""Makes the part of the chart's values.schema.json that says what each service's `settings` may be, from what the services say of themselves, without what
the chart sets by itself.

Usage: helm/schemas/settings.py SCHEMA FOLDER    (in FOLDER SERVICE.json, what `caselock-SERVICE --config-schema` prints)
"""

import json
import pathlib
import sys

OWN = {"listen", "tls", "plaintext_bureau", "signing_key", "scratch", "worker", "database", "unlawful_periods_for_tests", "unlawful_period_for_tests"}


def taken(schema):
    """What is taken: types and bounds, nothing that is not named."""
    kept = {key: schema[key] for key in ("type", "minimum", "maximum", "additionalProperties") if key in schema}
    if "properties" in schema:
        kept["properties"] = {key: taken(value) for key, value in sorted(schema["properties"].items()) if key not in OWN}
        kept["additionalProperties"] = False
    return kept


path, folder = map(pathlib.Path, sys.argv[1:])
chart = json.loads(path.read_text())
for service in ("gateway", "archiver", "media", "registry"):
    said = json.loads((folder / f"{service}.json").read_text())
    chart["properties"][service]["properties"]["settings"] = taken(said["properties"][service])
path.write_text(json.dumps(chart, indent=2, ensure_ascii=False) + "\n")
