"""What the fault tests share: the scale of a run, and lines for the table of docs/testing.md."""
import os

FULL = os.environ.get("WEIR_TEST_FULL") == "1"


def scaled(small, full):
    return full if FULL else small


def figure(fault, text):
    print(f"figure {fault} {'full' if FULL else 'scaled'}: {text}", flush=True)
