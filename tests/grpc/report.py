"""One line for each check, and the sum of them."""

_count = {"passed": 0, "failed": 0}


def check(name, good, detail=""):
    _count["passed" if good else "failed"] += 1
    print(f"{'ok' if good else 'not ok'} - {name}{f' ({detail})' if detail else ''}", flush=True)


def note(text):
    print(f"# {text}", flush=True)


def failures():
    return _count["failed"]


def summary():
    print(f"{_count['passed']} passed, {_count['failed']} failed")
