#!/usr/bin/env python3
"""Makes the dashboards beside it (Grafana's JSON), from what follows here: `make.py` writes them, `make.py --check` says whether they are as made.

Every query is by $namespace, and by $bureau on the dashboard of one. services/e2e/tests/telemetry.rs holds every metric that is named here against what
the running services tell, so that no panel is empty.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
NS = 'namespace=~"$namespace"'
RATE = "[$__rate_interval]"


def rate(metric, labels="", by=""):
    of = f"rate({metric}{{{NS}{', ' + labels if labels else ''}}}{RATE})"
    return f"sum by ({by}) ({of})" if by else f"sum({of})"


def now(metric, labels="", how="max", by=""):
    of = f"{metric}{{{NS}{', ' + labels if labels else ''}}}"
    return f"{how} by ({by}) ({of})" if by else f"{how}({of})"


def quantile(q, histogram, labels="", by=""):
    group = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(histogram + '_bucket', labels, group)})"


def percentiles(histogram, labels=""):
    return [(quantile(q, histogram, labels), f"p{int(q * 100)}") for q in (0.5, 0.95, 0.99)]


# A panel: title, unit, queries (each an expression and a legend), and what it is good for. A stat is a number, coloured by its thresholds.
def plot(title, unit, queries, about="", stacked=False):
    return {"kind": "timeseries", "title": title, "unit": unit, "queries": queries, "about": about, "stacked": stacked}


def stat(title, unit, query, about="", warn=None, bad=None):
    return {"kind": "stat", "title": title, "unit": unit, "queries": [(query, "")], "about": about, "warn": warn, "bad": bad}


AWAITED = "caselock_registry_recordings_awaited"
CALLS = "caselock_store_call_seconds"


# A service's calls.
def calls(service):
    labels = f'method=~"caselock.v1.{service}Service/.*"'
    return ("Calls", [
        plot("Calls", "cps", [(rate("caselock_call_seconds_count", labels, "method"), "{{method}}")], "Those with streams are left out.", stacked=True),
        plot("Calls, p99", "s", [(quantile(0.99, "caselock_call_seconds", labels, "method"), "{{method}}")]),
        plot("Calls that fail", "cps", [(rate("caselock_call_seconds_count", labels + ', code!="OK"', "method, code") + " or vector(0)", "{{method}} {{code}}")]),
    ])


def objective(record):
    return f'max({record}:ratio_rate1h{{{NS}}}) or vector(0)'


DASHBOARDS = {
    "fleet": ("Caselock: all of it", [
        ("Is anything wrong", [
            stat("Oldest segment not in the store", "s", now("caselock_gateway_oldest_unarchived_seconds"),
                 "How long the oldest segment has been in the log and not in the store.", 300, 900),
            stat("Segments refused, 1 h", "percentunit", objective("caselock:segments_refused"),
                 "Because the log is away or full. The objective is 0.1 % over a month.", 0.001, 0.0144),
            stat("Receipts later than a minute, 1 h", "percentunit", objective("caselock:receipts_late"),
                 "The objective is 1 % over a month.", 0.01, 0.144),
            stat("Under-retained", "short", now("caselock_registry_under_retained"),
                 "Recordings and records of cases that are not known to be protected as the rule says.", None, 1),
            stat("Dead letters", "short", now("caselock_dead_letters_open"), "Records that nobody has handled.", 1, 100),
            stat("Deadlines missed", "short", now(AWAITED, 'deadline="missed"'), "Recordings not stored by their deadline.", 1, 100),
        ]),
        ("What comes and what is done", [
            plot("Bytes", "Bps", [
                (rate("caselock_gateway_accepted_bytes_total"), "accepted"),
                (rate("caselock_archiver_part_bytes_total"), "stored"),
                (rate("caselock_media_verified_bytes_total"), "read back"),
            ], "What bureaus hand in, what reaches the store, what media reads back."),
            plot("From the last byte to the receipt", "s", percentiles("caselock_archiver_receipt_seconds")),
            plot("Backlog", "bytes", [(now("caselock_gateway_backlog_bytes"), "in the log, not in the store")],
                 "Footage that waits for archivers. gateway.backlog_cap is the most there may be."),
            plot("Recordings stored", "cps", [(rate("caselock_archiver_recordings_stored_total"), "stored")]),
        ]),
        ("What is to come", [
            plot("Recordings awaited, by deadline", "short", [(now(AWAITED, by="deadline"), "{{deadline}}")],
                 "Announced or opened, and not stored.", stacked=True),
            plot("Certificates end in", "s",
                 [("min by (server) (caselock_tls_certificate_not_after_seconds{" + NS + "}) - time()", "{{server}}")]),
            plot("Steps that are repeated", "cps", [(rate("caselock_retries_total", by="step"), "{{step}}")],
                 "A rising rate means that log or store is away."),
        ]),
    ]),
    "gateway": ("Caselock: gateways", [
        ("Segments", [
            plot("Accepted", "cps", [(rate("caselock_gateway_segments_accepted_total", by="pod"), "{{pod}}")], stacked=True),
            plot("Refused, by reason", "cps", [("topk(10, " + rate("caselock_gateway_refusals_total", by="reason") + ")", "{{reason}}")],
                 "services/docs/errors.md says what each means."),
            plot("Received and accepted", "Bps", [
                (rate("caselock_gateway_received_bytes_total"), "received"),
                (rate("caselock_gateway_accepted_bytes_total"), "accepted"),
            ], "What is between them was sent again, or refused."),
            plot("From a whole segment to the log", "s", percentiles("caselock_gateway_acknowledge_seconds")),
        ]),
        calls("Ingest"),
        ("In hand", [
            plot("Memory of segments in flight", "bytes", [(now("caselock_gateway_in_flight_bytes", by="pod"), "{{pod}}")],
                 "gateway.memory_budget is the most there may be."),
            plot("Streams", "short", [(now("caselock_gateway_streams", by="pod"), "{{pod}}")]),
            plot("Uploads that are open", "short", [(now("caselock_gateway_open_uploads"), "open")]),
            plot("Oldest segment not in the store", "s", [(now("caselock_gateway_oldest_unarchived_seconds"), "age")]),
        ]),
    ]),
    "archiver": ("Caselock: archivers", [
        ("Recordings", [
            plot("Stored", "cps", [(rate("caselock_archiver_recordings_stored_total", by="pod"), "{{pod}}")], stacked=True),
            plot("From the last byte to the receipt", "s", percentiles("caselock_archiver_receipt_seconds")),
            plot("Asked for again, by reason", "cps", [("topk(10, " + rate("caselock_archiver_resets_total", by="reason") + ")", "{{reason}}")]),
            plot("Dead letters, by reason", "cps",
                 [("topk(10, " + rate("caselock_archiver_dead_letters_total", by="reason") + ")", "{{reason}}")]),
        ]),
        ("Parts", [
            plot("Parts", "cps", [(rate("caselock_archiver_parts_total", by="pod"), "{{pod}}")], stacked=True),
            plot("Bytes", "Bps", [(rate("caselock_archiver_part_bytes_total", by="pod"), "{{pod}}")], stacked=True),
        ]),
        ("The store", [
            plot("Calls", "cps", [(rate(CALLS + "_count", by="operation"), "{{operation}}")], stacked=True),
            plot("Calls, p99", "s", [(quantile(0.99, CALLS, by="operation"), "{{operation}}")]),
            plot("Calls that fail", "cps", [(rate(CALLS + "_count", 'outcome!~"ok|not_found|already_exists"', "operation, outcome")
                 + " or vector(0)", "{{operation}} {{outcome}}")]),
            plot("Requests sent again", "cps", [(rate("caselock_store_retries_total", by="operation"), "{{operation}}")]),
            stat("Locks not read back, 1 h", "short", f"sum(increase(caselock_store_locks_not_read_back_total{{{NS}}}[1h]))",
                 "Locks that were set, and that the store did not confirm.", None, 1),
        ]),
    ]),
    "media": ("Caselock: media", [
        ("Jobs", [
            plot("Ended, by outcome", "cps", [(rate("caselock_media_job_seconds_count", by="outcome"), "{{outcome}}")], stacked=True),
            plot("Seconds a job", "s", percentiles("caselock_media_job_seconds")),
            plot("In hand", "short", [(now("caselock_media_jobs_in_hand", by="pod"), "{{pod}}")], stacked=True),
        ]),
        ("Originals", [
            plot("Read back", "Bps", [(rate("caselock_media_verified_bytes_total"), "bytes")]),
            plot("Intact", "cps", [(rate("caselock_media_recordings_verified_total"), "intact")]),
            stat("Not what was stored, 24 h", "short", f"sum(increase(caselock_media_mismatches_total{{{NS}}}[24h]))",
                 "Originals that came back with other bytes, or have gone.", None, 1),
        ]),
        ("Derivatives", [
            plot("Made", "cps", [(rate("caselock_media_recordings_derived_total"), "derived")]),
            plot("Not made, by reason", "cps",
                 [("topk(10, " + rate("caselock_media_derivation_failures_total", by="reason") + ")", "{{reason}}")]),
            plot("Dead letters, by reason", "cps",
                 [("topk(10, " + rate("caselock_media_dead_letters_total", by="reason") + ")", "{{reason}}")]),
            plot("Scratch space that is used", "percentunit",
                 [(f'1 - caselock_disk_available_bytes{{{NS}, used_for="scratch"}} / caselock_disk_size_bytes{{{NS}, used_for="scratch"}}', "{{pod}}")]),
        ]),
    ]),
    "registry": ("Caselock: registry", [
        ("Locks", [
            stat("Under-retained", "short", now("caselock_registry_under_retained"), "", None, 1),
            stat("Looks overdue", "short", now("caselock_registry_looks_overdue"),
                 "Recordings and records of cases that should have been compared with the store.", 1, 10000),
            stat("Drift found, 24 h", "short", f"sum(increase(caselock_registry_drift_found_total{{{NS}}}[24h]))",
                 "Objects that somebody else changed.", None, 1),
            plot("Compared with the store", "cps", [(rate("caselock_registry_subjects_compared_total"), "compared")]),
            plot("Changed", "cps", [
                (rate("caselock_registry_objects_tightened_total"), "tightened"),
                (rate("caselock_registry_holds_lifted_total"), "holds lifted"),
                (rate("caselock_registry_recordings_disposed_total"), "disposed"),
            ]),
        ]),
        calls("Registry"),
        ("Deadlines", [
            plot("Recordings awaited", "short", [(now(AWAITED, by="deadline"), "{{deadline}}")], stacked=True),
        ]),
        ("Events", [
            plot("Published", "cps", [(rate("caselock_registry_events_published_total"), "published")]),
            plot("To be published", "short", [(now("caselock_registry_outbox_events"), "waiting")]),
            plot("Dead letters", "short", [(now("caselock_dead_letters_open"), "open")]),
        ]),
    ]),
    "bureau": ("Caselock: a bureau", [
        ("What it hands in", [
            plot("Bytes accepted", "Bps", [(rate("caselock_gateway_bureau_accepted_bytes_total", 'bureau=~"$bureau"', "bureau"), "{{bureau}}")]),
            plot("Recordings stored", "cps",
                 [(rate("caselock_archiver_bureau_recordings_stored_total", 'bureau=~"$bureau"', "bureau"), "{{bureau}}")]),
            plot("Segments refused", "cps",
                 [(rate("caselock_gateway_bureau_segments_refused_total", 'bureau=~"$bureau"', "bureau"), "{{bureau}}")],
                 "Each comes again, unless its reason says otherwise."),
        ]),
        ("What it has open", [
            plot("Uploads that are open", "short", [(now("caselock_gateway_bureau_open_uploads", 'bureau=~"$bureau"', by="bureau"), "{{bureau}}")]),
            plot("In the log, not in the store", "bytes",
                 [(now("caselock_gateway_bureau_backlog_bytes", 'bureau=~"$bureau"', by="bureau"), "{{bureau}}")]),
            plot("Recordings awaited, by deadline", "short",
                 [(now("caselock_registry_bureau_recordings_awaited", 'bureau=~"$bureau"', by="bureau, deadline"), "{{bureau}} {{deadline}}")],
                 "Announced or opened, and not stored.", stacked=True),
        ]),
    ]),
}


def variable(name, metric):
    query = f"label_values({metric}, {name})"
    return {
        "name": name, "label": name, "type": "query", "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": name}, "definition": query, "refresh": 2, "sort": 1,
        "includeAll": True, "allValue": ".*", "multi": True, "current": {"text": ["All"], "value": ["$__all"]},
    }


def panel(number, spec, x, y, width, height):
    targets = [
        {"refId": chr(ord("A") + n), "expr": expr, "legendFormat": legend or "__auto",
         "datasource": {"type": "prometheus", "uid": "${datasource}"}}
        for n, (expr, legend) in enumerate(spec["queries"])
    ]
    made = {
        "id": number, "type": spec["kind"], "title": spec["title"], "description": spec["about"],
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        "datasource": {"type": "prometheus", "uid": "${datasource}"}, "targets": targets,
        "fieldConfig": {"defaults": {"unit": spec["unit"], "min": 0}, "overrides": []},
    }
    defaults = made["fieldConfig"]["defaults"]
    if spec["kind"] == "timeseries":
        custom = {"fillOpacity": 20, "showPoints": "never", "lineWidth": 1}
        custom["stacking"] = {"mode": "normal" if spec["stacked"] else "none"}
        defaults["custom"] = custom
        made["options"] = {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
                           "tooltip": {"mode": "multi", "sort": "desc"}}
    else:
        steps = [{"color": "green", "value": None}]
        steps += [{"color": "orange", "value": spec["warn"]}] if spec["warn"] is not None else []
        steps += [{"color": "red", "value": spec["bad"]}] if spec["bad"] is not None else []
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        made["options"] = {"colorMode": "background", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}}
    return made


def dashboard(name, title, rows):
    panels, number, y = [], 0, 0
    for row, specs in rows:
        number += 1
        panels.append({"id": number, "type": "row", "title": row, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        for kind, columns, height in (("stat", 6, 4), ("timeseries", 3, 8)):
            of_kind = [spec for spec in specs if spec["kind"] == kind]
            columns = max(1, min(columns, len(of_kind)))
            for n, spec in enumerate(of_kind):
                number += 1
                width = 24 // columns
                panels.append(panel(number, spec, n % columns * width, y + n // columns * height, width, height))
            y += -(-len(of_kind) // columns) * height
    variables = [{"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus"},
                 variable("namespace", "caselock_gateway_streams")]
    if name == "bureau":
        variables.append(variable("bureau", "caselock_gateway_bureau_open_uploads"))
    return {
        "uid": f"caselock-{name}", "title": title, "tags": ["caselock"], "schemaVersion": 41, "editable": True,
        "time": {"from": "now-6h", "to": "now"}, "refresh": "30s", "timezone": "", "panels": panels,
        "templating": {"list": variables},
        "links": [{"type": "dashboards", "tags": ["caselock"], "title": "Caselock", "asDropdown": True, "keepTime": True, "includeVars": True}],
    }


def main():
    stale = []
    for name, (title, rows) in DASHBOARDS.items():
        file = HERE / f"{name}.json"
        text = json.dumps(dashboard(name, title, rows), indent=1, ensure_ascii=False) + "\n"
        if sys.argv[1:] == ["--check"]:
            stale += [] if file.exists() and file.read_text() == text else [file.name]
        else:
            file.write_text(text)
    if stale:
        sys.exit(f"not as make.py makes them: {', '.join(stale)}: run deploy/grafana/make.py")


if __name__ == "__main__":
    main()
