#!/usr/bin/env python3
"""writer.py PKI ENDPOINT…: one client that writes a key every 10 ms over one connection, and goes to the next endpoint when
a write fails or takes half a second, as clients of etcd do. Its process ID is in PKI/writer.pid. On SIGTERM it prints the longest time, in seconds, for which no
write was acknowledged, and how many were."""
import base64, http.client, json, os, signal, ssl, sys, time

pki, endpoints = sys.argv[1], sys.argv[2:]
context = ssl.create_default_context(cafile=f"{pki}/ca.crt")
context.load_cert_chain(f"{pki}/healthcheck-client.crt", f"{pki}/healthcheck-client.key")
body = json.dumps({"key": base64.b64encode(b"bench/gap").decode(), "value": base64.b64encode(b"v").decode()})
over = False


def end(*_):
    global over
    over = True


signal.signal(signal.SIGTERM, end)
with open(f"{pki}/writer.pid", "w", encoding="ascii") as file:
    file.write(str(os.getpid()))
at, connection, count, longest, last = 0, None, 0, 0.0, time.monotonic()
while not over:
    try:
        if connection is None:
            host, port = endpoints[at % len(endpoints)].rsplit(":", 1)
            connection = http.client.HTTPSConnection(host, int(port), timeout=0.5, context=context)
        connection.request("POST", "/v3/kv/put", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise OSError(response.status)
    except (OSError, http.client.HTTPException):
        if connection is not None:
            connection.close()
        at, connection = at + 1, None
        time.sleep(0.01)
        continue
    now = time.monotonic()
    if count:
        longest = max(longest, now - last)
    last, count = now, count + 1
    time.sleep(0.01)
print(f"{max(longest, time.monotonic() - last):.3f} {count}")
