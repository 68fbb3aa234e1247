"""Executes what it is told to be attached to and detached from, with calls in between, and a thread beside that calls as well."""
import sys
import threading

ending = False


def leaf():
    pass


def aside():
    pass


def beside():
    while not ending:
        aside()


def execute(source):
    exec(source)


def events_of(function):
    """What is left of events of a function's own, where there is such a thing."""
    if sys.version_info < (3, 12):
        return 0
    return sum(sys.monitoring.get_local_events(tool, function.__code__) for tool in range(6))


def main():
    global ending
    detach = sys.argv[1]
    thread = threading.Thread(target=beside, name="beside")
    thread.start()
    for attach in sys.argv[2:]:
        leaf()
        execute(attach)
        for _ in range(100):
            leaf()
        execute(detach)
        leaf()
        print(sys.getprofile(), sys.gettrace(), events_of(leaf))
    ending = True
    thread.join()


main()
