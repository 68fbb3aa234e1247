"""A program of a few milliseconds."""


def brief():
    return sum(i * i for i in range(20000))


print(brief())
