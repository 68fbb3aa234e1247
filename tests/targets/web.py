"""A WSGI application that works for a while and answers with its pid and for how long, in seconds."""

import json
import os
import time


def answer_slowly():
    began = time.perf_counter()
    until = began + 0.02
    while time.perf_counter() < until:
        pass
    return time.perf_counter() - began


def app(environ, start_response):
    body = json.dumps([os.getpid(), answer_slowly()]).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
