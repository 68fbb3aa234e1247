"""Stands in for pyperf, on which the programs of pyperformance run: each benchmark is run once, in this process."""

import argparse
from time import perf_counter


class Runner:
    def __init__(self, add_cmdline_args=None):
        self.argparser = argparse.ArgumentParser()
        self.metadata = {}

    def parse_args(self):
        return self.argparser.parse_args()

    def bench_func(self, name, func, *args):
        func(*args)

    def bench_time_func(self, name, func, *args, **options):
        func(1, *args)

    def bench_async_func(self, name, func):
        coroutine = func()
        try:
            while True:
                coroutine.send(None)
        except StopIteration:
            pass
