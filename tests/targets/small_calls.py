"""A function that makes many small calls and one that makes none, in turns. Prints which share of the time of both the first took, all that it called included."""
import time


def small(number):
    return number + 1


def many_calls():
    for number in range(2000):
        small(number)


def no_calls():
    for number in range(3000):
        number = number * number % 7 + 1


def main():
    seconds = [0.0, 0.0]
    for _ in range(1500):
        for index, function in enumerate((many_calls, no_calls)):
            before = time.perf_counter()
            function()
            seconds[index] += time.perf_counter() - before
    print(seconds[0] / sum(seconds))


main()
