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
        print(sys.getprofile(), sys.gettrace())
    ending = True
    thread.join()


main()
