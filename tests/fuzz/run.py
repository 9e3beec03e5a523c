"""Runs schemathesis against the server on both stores at the same time, and judges. Called by scripts/fuzz-api.

    run.py SERVER SCHEMATHESIS [--examples N] [--minutes N] [--seed N]

Needs NWORKFLOW_TEST_POSTGRES_URL and NWORKFLOW_TEST_REDIS_URL (scripts/with-postgres scripts/with-redis). Prints a line for each store:

    fuzz STORE: cases=N refused=N 5xx=N violations=N

and another one for what identities see of each other (identities.py):

    fuzz STORE identities: cases=N refused=N 5xx=N violations=N

cases: requests sent. refused: 4xx, and 504 where the request itself lowered the deadline. Fails unless 5xx and violations are 0, and when there are too few cases.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import identities

HERE = pathlib.Path(__file__).resolve().parent
# The coverage phase alone sends some hundred requests for each operation: fewer means that the run did not do its work.
LEAST_CASES = 2000
# Of a run by time, on each store: a tenth of what a minute gave on two cores that both stores shared with other work.
LEAST_CASES_PER_MINUTE = 100
# Requests of the owner, each with two of the others. A run that is cut off by the time does not fail for that, but for what it did not try.
PROBE_STEPS = 800
PROBE_SECONDS = 120


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server of its own on one store."""

    def __init__(self, binary, folder, store):
        self.base = f"http://127.0.0.1:{free_port()}"
        self.log = folder / f"{store}.log"
        data = folder / f"{store}-data"
        settings = ["--data-dir", str(data), "--set", f"server.listen={self.base[7:]}", "--set", "server.metrics_listen="]
        if store == "postgres":
            url = os.environ["NWORKFLOW_TEST_POSTGRES_URL"]
            psql = pathlib.Path(os.environ["NWORKFLOW_TEST_POSTGRES_BIN"]) / "psql"
            subprocess.run([psql, "-qX", url, "-c", "SET client_min_messages = warning", "-c", "DROP DATABASE IF EXISTS fuzz WITH (FORCE)", "-c", "CREATE DATABASE fuzz"], check=True)
            settings += ["--set", f"database.url={url.rsplit('/', 1)[0]}/fuzz"]
            settings += ["--set", f"dragonfly.url={os.environ['NWORKFLOW_TEST_REDIS_URL']}"]
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([binary, "dev", *settings], stdout=log, stderr=subprocess.STDOUT)
        self.wait()
        self.binary, self.data = binary, data
        self.token = self.make_token()

    def make_token(self, **options):
        options = [part for name, values in options.items() for value in values.split() for part in (f"--{name}", value)]
        command = [self.binary, "token", "--data-dir", str(self.data), *options]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def wait(self):
        for _ in range(300):
            if self.process.poll() is not None:
                sys.exit(f"fuzz: the server does not start:\n{self.log.read_text()}")
            try:
                with urllib.request.urlopen(f"{self.base}/health/ready", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        sys.exit("fuzz: the server does not become ready")

    def stop(self):
        """Whether it still ran and ends as it should."""
        if self.process.poll() is not None:
            return False
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=40) == 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            return False


def fuzz(store, binary, program, folder, options):
    server = Server(binary, folder, store)
    try:
        apart = probe(store, server, options)
    except BaseException:
        server.stop()
        raise
    counts, report, output = folder / f"{store}-counts.json", folder / f"{store}.json", folder / f"{store}.txt"
    command = [program, "--config-file", str(HERE / "schemathesis.toml"), "run", f"{server.base}/openapi.json", "--checks", "all"]
    command += ["--seed", str(options.seed), "--max-examples", str(options.examples)]
    command += ["--report", "json", "--report-json-path", str(report), "--workers", "1"]
    if options.minutes:
        command += ["--max-time", str(round(options.minutes * 60))]
    else:
        command += ["--no-shrink"]
    try:
        with open(output, "w", encoding="utf-8") as sink:
            environment = {**os.environ, "NWORKFLOW_FUZZ_COUNTS": str(counts), "NWORKFLOW_FUZZ_TOKEN": server.token, "PYTHONDONTWRITEBYTECODE": "1"}
            environment["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder / f"{store}-hypothesis")
            # The configuration names its hooks relative to the folder that it is read in.
            status = subprocess.run(command, stdout=sink, stderr=subprocess.STDOUT, cwd=HERE, env=environment).returncode
    finally:
        lived = server.stop()
    return verdict(store, status, lived, counts, report, output, server.log, least_cases(options.minutes)) and apart


def probe(store, server, options):
    """Several identities on the same server, before schemathesis: what it leaves there would only be in the way."""
    tokens = {
        "owner": server.make_token(tenant="fuzz-first", subject="fuzz-owner", role="nworkflow-writer variables.global:write cache:clear stats:read"),
        "stranger": server.make_token(tenant="fuzz-second", subject="fuzz-stranger", role="nworkflow-admin"),
        "colleague": server.make_token(tenant="fuzz-first", subject="fuzz-colleague", role="nworkflow-writer"),
        "viewer": server.make_token(tenant="fuzz-first", subject="fuzz-viewer", role="nworkflow-reader"),
    }
    long = options.minutes > 0
    probe = identities.Probe(server.base, tokens, options.seed).go(10**9 if long else PROBE_STEPS, options.minutes * 12 if long else PROBE_SECONDS, time.monotonic)
    for violation in probe.violations[:20]:
        print(f"fuzz {store} identities: {violation}")
    answers = ", ".join(f"{count} x {answer}" for answer, count in sorted(probe.answered.items()))
    print(f"fuzz {store} identities: answers: {answers}")
    counts = probe.counts
    print(f"fuzz {store} identities: cases={counts['cases']} refused={counts['refused']} 5xx={counts['server_errors']} violations={len(probe.violations)}", flush=True)
    return not probe.violations


def least_cases(minutes):
    """Fewer requests than these mean that a run did not do its work."""
    return max(1, round(minutes * LEAST_CASES_PER_MINUTE)) if minutes else LEAST_CASES


def verdict(store, status, lived, counts, report, output, log, least):
    if status not in (0, 1) or not report.exists() or not counts.exists():
        print(output.read_text()[-8000:])
        print(f"fuzz {store}: schemathesis itself failed with code {status}")
        return False
    counted = json.loads(counts.read_text())
    told = json.loads(report.read_text())
    cases, refused, errors = (counted.get(name, 0) for name in ("cases", "refused", "server_errors"))
    found = sum(failure["count"] for failure in told["failures"]) + len(told["errors"])
    violations = found + counted.get("unanswered", 0) + (not lived) + ("panicked at" in log.read_text())
    answers = ", ".join(f"{count} x {answer}" for answer, count in sorted(counted["answers"].items()))
    line = f"fuzz {store}: cases={cases} refused={refused} 5xx={errors} violations={violations}"
    good = status == 0 and errors == 0 and violations == 0
    if not good:
        print(output.read_text())
    if good and cases < least:
        good, line = False, f"{line}\nfuzz {store}: fewer than {least} requests: the run did not do its work"
    print(f"fuzz {store}: answers: {answers}")
    print(line, flush=True)
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("schemathesis")
    parser.add_argument("--examples", type=int, default=10, help="generated requests for each operation and phase")
    parser.add_argument("--minutes", type=float, default=0, help="go on for this time")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--store", choices=["sqlite", "postgres"], action="append")
    parser.add_argument("--keep", type=pathlib.Path, help="leave logs and reports in this folder")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.randrange(2**32)
    stores = options.store or ["sqlite", "postgres"]
    print(f"fuzz: seed {options.seed}, {options.examples} examples" + (f", {options.minutes:g} minutes" if options.minutes else ""), flush=True)
    with tempfile.TemporaryDirectory(prefix="nworkflow-fuzz.") as temporary:
        folder = options.keep or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(len(stores)) as pool:
            verdicts = list(pool.map(lambda store: fuzz(store, options.server, options.schemathesis, folder, options), stores))
    sys.exit(0 if all(verdicts) else 1)


main()
